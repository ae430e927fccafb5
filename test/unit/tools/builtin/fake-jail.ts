// Runs what a built-in prepared on this machine, without a sandbox: only for programs of Quern's own, whose answers are tested.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { CallContext, JsonObject, PreparedCall, Tool, ToolAnswer } from '../../../../services/tools/tool.ts';
import { DEFAULT_LIMITS } from '../../../../services/tools/tool-limits.ts';
import { PROTECTED_PATHS } from '../../../../services/tools/workspaces.ts';

export function newCall(t: TestContext): CallContext {
  const path = mkdtempSync(join(tmpdir(), 'quern-work-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return {
    tenant: 'local',
    user: 'local',
    sessionId: 's',
    workspace: { path, protected: PROTECTED_PATHS },
    stdin: null,
    limits: DEFAULT_LIMITS,
  };
}

type Ran = { exitCode: number | null; stdout: string; stderr: string };

function spawned(command: (PreparedCall & { kind: 'sandbox' })['command']): Promise<Ran> {
  const [program, ...args] = command.argv;
  const child = spawn(program!, args, { cwd: command.workspace!.path, env: {}, stdio: ['pipe', 'pipe', 'pipe'] });
  const parts: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  for (const name of ['stdout', 'stderr'] as const) child[name].on('data', (data: Buffer) => parts[name].push(data));
  child.stdin.end(command.stdin ?? Buffer.alloc(0));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode) => {
      const text = (name: 'stdout' | 'stderr'): string => Buffer.concat(parts[name]).toString();
      resolve({ exitCode, stdout: text('stdout'), stderr: text('stderr') });
    });
  });
}

/** Prepares a call and runs it. */
export async function runHere(tool: Tool, args: JsonObject, call: CallContext): Promise<ToolAnswer> {
  const prepared = await tool.prepare(args, call);
  assert(prepared.kind === 'sandbox');
  const { exitCode, stdout, stderr } = await spawned(prepared.command);
  const end = {
    ...{ exitCode, signal: null, killed: null, setupFailure: null, setupNs: 0, runNs: 0, cpuNs: 0, maxMemoryBytes: 0 },
    ...{ stdoutBytes: stdout.length, stderrBytes: stderr.length },
  };
  return prepared.answer(end, { stdout, stderr, cut: false });
}
