/** Workspaces for tests, and what most of them do with one. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { removeTree } from '../../../../services/tools/folder-tree.ts';
import { openWorkspaces, type WorkspaceOptions } from '../../../../services/tools/workspaces.ts';

/** A session. */
export const alice = { tenant: 'acme', sessionId: 'alice-1' };

/** Workspaces in a folder that goes with the test. */
export async function open(t: TestContext, options: Partial<WorkspaceOptions> = {}) {
  const base = mkdtempSync(join(tmpdir(), 'quern-workspaces-'));
  const dir = join(base, 'ws');
  const folders = await openWorkspaces({ dir, watchMs: 10, ...options });
  t.after(async () => {
    await folders.close();
    await removeTree(base, join(tmpdir(), `quern-trash-${process.pid}`));
    rmSync(join(tmpdir(), `quern-trash-${process.pid}`), { recursive: true, force: true });
  });
  return { base, dir, folders };
}

/** Of the session's folder. */
export async function pathOf(folders: Awaited<ReturnType<typeof openWorkspaces>>, session = alice): Promise<string> {
  const entered = await folders.enter(session);
  await entered.leave();
  return entered.workspace.path;
}

export const rejects = (promise: Promise<unknown>, reason: string): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert(error instanceof QuernError, String(error));
    assert.equal(error.details.reason, reason);
    return true;
  });
