/** Five hundred runs that end in every way, eight in flight: no process, cgroup, mount, descriptor or file stays. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Census, type HostResult, type JailClient, runGroups, startWholeJail } from './jail-client.ts';
import { descendants, untilNoOrphans } from './processes.ts';

const RUNS = 500;
const IN_FLIGHT = 8;

const kinds: ((jail: JailClient, workspace: string) => Promise<[HostResult, string | number | null]>)[] = [
  async (jail) => [await jail.run(['/usr/bin/true']), 0],
  async (jail) => [await jail.bash('(sleep 30 &); echo x > /tmp/file; exit 3'), 3],
  async (jail) => [await jail.bash('sleep 30', {}, { abortAfterMs: 20 }), 'cancelled'],
  async (jail) => [await jail.bash('yes', { limits: { outputBytes: 65_536 } }), 'output'],
  async (jail, path) => [
    await jail.bash('f=$(mktemp ./XXXXXX) && rm $f', { workspace: { path, writable: true, protected: [] } }),
    0,
  ],
  async (jail) => [await jail.bash('trap "" TERM; sleep 30', { limits: { wallMs: 30 } }), 'wall'],
  async (jail) => [await jail.run(['/usr/bin/no-such-program']), 127],
  async (jail) => [await jail.bash('wc -c', { stdin: Buffer.alloc(100_000) }), 0],
];

const mounts = (pid: number): number => readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n').length;

test(`${RUNS} runs, ${IN_FLIGHT} in flight, leave nothing behind`, async (t) => {
  const jail = await startWholeJail(t);
  const workspace = await jail.ask<string>({ kind: 'workspace' });
  await jail.run(['/usr/bin/true']);
  const census = (): Promise<Census> => jail.ask<Census>({ kind: 'census' });
  const before = await census();
  const mountsBefore = mounts(jail.host.pid!);
  let next = 0;
  const unexpected: string[] = [];
  async function lane(): Promise<void> {
    while (next < RUNS) {
      const [{ end }, expected] = await kinds[next++ % kinds.length]!(jail, workspace);
      if ((end.killed ?? end.exitCode) !== expected) unexpected.push(`${expected}: ${JSON.stringify(end)}`);
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  assert.deepEqual(unexpected, []);
  assert.deepEqual(await census(), before, 'descriptors, running, state folder');
  assert.deepEqual(runGroups(jail.host.pid!), []);
  assert.equal(mounts(jail.host.pid!), mountsBefore);
  assert.deepEqual(readdirSync(workspace), []);
  assert.deepEqual(descendants(jail.host.pid!), []);
  await untilNoOrphans();
});
