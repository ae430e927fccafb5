import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { endGuard, forkGuard } from '../../../../services/tools/egress/guard-fork.ts';

test('a process that touches the outside reads its own code, and nothing else of the host', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-guard-'));
  writeFileSync(join(folder, 'secret'), 'secret');
  const child = forkGuard(join(import.meta.dirname, 'probe-process.ts'));
  t.after(async () => {
    await endGuard(child);
    rmSync(folder, { recursive: true });
  });
  child.send(join(folder, 'secret'));
  const [seen] = await once(child, 'message');
  const denied = 'ERR_ACCESS_DENIED';
  assert.deepEqual(seen, {
    own: 'worked',
    ...{ secret: denied, environ: denied, write: denied, spawn: denied, worker: denied },
    environment: [],
  });
});
