import assert from 'node:assert/strict';
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSameProcess, startTimeOf } from '../../../../services/tools/jail/process-status.ts';
import { killStaleLaunches, launchMark } from '../../../../services/tools/jail/stale-launches.ts';
import { syscallRunner } from '../../../../services/tools/jail/syscall-runner.ts';

/** A program that waits for input that never comes, whatever it is called. */
function waiter(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'quern-stale-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'waiter');
  writeFileSync(path, syscallRunner());
  chmodSync(path, 0o755);
  return path;
}

type Started = { readonly pid: number; readonly startTime: number };

/** Another Node, as the first process of a container may be one; it starts what it is told. */
async function startNode(
  t: TestContext,
): Promise<{ child: ChildProcess; start(path: string, name: string): Promise<Started> }> {
  const program = `import { spawn } from 'node:child_process';
process.on('message', ([path, argv0]) => process.send(spawn(path, [], { argv0, stdio: ['pipe', 'ignore', 'ignore'] }).pid));
process.on('disconnect', () => process.exit());`;
  const file = join(mkdtempSync(join(tmpdir(), 'quern-stale-')), 'node.mjs');
  t.after(() => rmSync(join(file, '..'), { recursive: true, force: true }));
  writeFileSync(file, program);
  // Its own options, not those of the test runner: among them is a file that another run would write over.
  const child = fork(file, { execArgv: [] });
  t.after(() => child.kill('SIGKILL'));
  return {
    child,
    async start(path, name) {
      child.send([path, name]);
      const [pid] = (await once(child, 'message')) as [number];
      t.after(() => isSameProcess(pid, startTime) && process.kill(pid, 'SIGKILL'));
      const startTime = startTimeOf(pid)!;
      return { pid, startTime };
    },
  };
}

const lives = ({ pid, startTime }: Started): boolean => isSameProcess(pid, startTime);

test('a launch goes with the service whose it is, whoever its parent is; those of others stay', async (t) => {
  const program = waiter(t);
  const node = await startNode(t);
  const gone = spawn('/usr/bin/true');
  const goneMark = launchMark(gone.pid!, startTimeOf(gone.pid!) ?? 1);
  await once(gone, 'exit');
  const { pid } = node.child;
  const startTime = startTimeOf(pid!)!;
  const stale = [await node.start(program, goneMark), await node.start(program, launchMark(pid!, startTime - 1))];
  const kept = [
    await node.start(program, launchMark(pid!, startTime)),
    await node.start(program, launchMark(process.pid, startTimeOf(process.pid)!)),
    await node.start(program, goneMark.replace(/\.\d+/, '.1')), // of another namespace, where that number is another's
    await node.start(program, 'bwrap'),
  ];
  killStaleLaunches();
  for (let i = 0; stale.some(lives) && i < 2_000; i++) await sleep(5);
  assert.deepEqual(stale.map(lives), [false, false], 'in both a Node that lives is the parent');
  assert.deepEqual(kept.map(lives), [true, true, true, true]);
});
