import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLog } from '#kit/log.ts';
import { backoffMs, type ChildSpec, createSupervisor, type SupervisorEvent } from '#kit/supervisor.ts';

const CHILD = new URL('./support/child.ts', import.meta.url).pathname;
const PARENT = new URL('./support/parent.ts', import.meta.url).pathname;
const log = createLog({ service: 't', level: 'silent' });

async function until(condition: () => boolean, what: string, timeoutMs = 20_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function setUp(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'quern-kit-'));
  const events: SupervisorEvent[] = [];
  const supervisor = createSupervisor({ log, onEvent: (event) => void events.push(event) });
  t.after(async () => {
    await supervisor.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const notes = join(folder, 'notes');
  const spec = (name: string, mode: string, more: Partial<ChildSpec> = {}): ChildSpec => ({
    name,
    command: process.execPath,
    args: [CHILD, mode, notes],
    env: { ...process.env },
    onLine: () => {},
    restart: { minDelayMs: 20, maxDelayMs: 100 },
    ...more,
  });
  const lines = async () => (await readFile(notes, 'utf8')).trim().split('\n');
  return { supervisor, events, spec, lines, folder };
}

const types = (events: SupervisorEvent[]) => events.map((event) => event.type);

test('a child reports progress and readiness, and stops when told', async (t) => {
  const { supervisor, events, spec, lines } = await setUp(t);
  const child = supervisor.start(spec('a', 'serve'));
  assert.equal(child.state, 'starting');
  assert.deepEqual(await child.ready, { addresses: ['unix:///child'], model: 'mini' });
  assert.equal(child.state, 'ready');
  const pid = child.pid!;
  await supervisor.stop();
  assert.equal(child.state, 'stopped');
  assert.equal(alive(pid), false);
  assert.deepEqual(types(events), ['spawned', 'progress', 'ready', 'exited']);
  assert.deepEqual(events[1], { type: 'progress', name: 'a', phase: 'loading', done: 1, total: 2 });
  assert.deepEqual(events[3], { type: 'exited', name: 'a', code: 0, signal: null, expected: true, restartInMs: null });
  assert.deepEqual(
    (await lines()).map((line) => line.split(' ')[1]),
    ['up', 'drain', 'stop'],
  );
});

test('a child that dies is reported and restarted, and is ready again', async (t) => {
  const { supervisor, events, spec } = await setUp(t);
  const child = supervisor.start(spec('a', 'serve'));
  await child.ready;
  const first = child.pid!;
  process.kill(first, 'SIGKILL');
  await until(() => events.filter((event) => event.type === 'ready').length === 2, 'the second readiness');
  assert.notEqual(child.pid, first);
  assert.equal(child.restarts, 1);
  const exited = events.find((event) => event.type === 'exited')!;
  assert.deepEqual([exited.signal, exited.expected], ['SIGKILL', false]);
  assert.ok(exited.restartInMs! >= 16 && exited.restartInMs! <= 24);
});

test('a child that keeps dying is given up after its restarts, with its own last words', async (t) => {
  const { supervisor, events, spec } = await setUp(t);
  const child = supervisor.start(spec('a', 'die', { restart: { minDelayMs: 5, maxDelayMs: 40, maxRestarts: 2 } }));
  await assert.rejects(child.ready, { code: 'UNAVAILABLE', message: 'a stays down: no model in /nowhere' });
  assert.equal(child.state, 'failed');
  assert.deepEqual(types(events).filter((type) => type === 'exited').length, 3);
  assert.deepEqual(events.at(-1), { type: 'gave_up', name: 'a', restarts: 2 });
});

test('a command that does not exist is a fatal event, not a crash', async (t) => {
  const { supervisor, events, spec } = await setUp(t);
  const child = supervisor.start(
    spec('a', '', { command: '/nonexistent/nats-server', restart: { minDelayMs: 1, maxDelayMs: 2, maxRestarts: 0 } }),
  );
  await assert.rejects(child.ready, { message: /cannot start \/nonexistent\/nats-server/ });
  assert.deepEqual(types(events), ['fatal', 'exited', 'gave_up']);
});

test('readiness by a line and by a check', async (t) => {
  const { supervisor, spec } = await setUp(t);
  const byLine = supervisor.start(
    spec('line', 'stubborn', {
      command: '/bin/sh',
      args: ['-c', 'echo starting; sleep 0.1; echo "Server is ready"; sleep 60'],
      ipc: false,
      readyLine: /is ready$/,
    }),
  );
  let asked = 0;
  const byCheck = supervisor.start(
    spec('check', '', {
      command: '/bin/sleep',
      args: ['60'],
      ipc: false,
      readyCheck: async () => {
        asked += 1;
        if (asked === 1) throw new Error('connection refused');
        return asked > 2;
      },
    }),
  );
  assert.deepEqual(await byLine.ready, { addresses: [] });
  assert.deepEqual(await byCheck.ready, { addresses: [] });
  assert.equal(asked, 3);
});

test('stop goes backward, one child after the other, and kills after the grace', async (t) => {
  const { supervisor, events, spec } = await setUp(t);
  const first = supervisor.start(spec('first', 'serve'));
  await first.ready;
  const stubborn = supervisor.start(spec('stubborn', 'stubborn', { stopGraceMs: 150 }));
  await stubborn.ready;
  const startedMs = performance.now();
  await supervisor.stop();
  assert.ok(performance.now() - startedMs >= 145);
  const exits = events.filter((event) => event.type === 'exited');
  assert.deepEqual(
    exits.map((event) => [event.name, event.signal, event.expected]),
    [
      ['stubborn', 'SIGKILL', true],
      ['first', null, true],
    ],
  );
});

test('stop during the back-off ends at once', async (t) => {
  const { supervisor, spec, events } = await setUp(t);
  const child = supervisor.start(spec('a', 'die', { restart: { minDelayMs: 60_000, maxDelayMs: 60_000 } }));
  await until(() => child.state === 'waiting', 'the back-off');
  await supervisor.stop();
  assert.equal(child.state, 'stopped');
  await assert.rejects(child.ready, { details: { reason: 'STOPPING' } });
  assert.equal(types(events).filter((type) => type === 'spawned').length, 1);
});

test('kill -9 of the supervisor leaves no orphan: the child drains by itself', async (t) => {
  const { folder, lines } = await setUp(t);
  const parent = spawn(process.execPath, [PARENT, join(folder, 'notes')], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  parent.stdout.on('data', (data) => {
    text += data;
  });
  await until(() => /child \d+/.test(text), 'the child');
  const pid = Number(/child (\d+)/.exec(text)![1]);
  t.after(() => {
    if (alive(pid)) process.kill(pid, 'SIGKILL');
  });
  assert.ok(alive(pid));
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  await until(() => !alive(pid), 'the end of the child');
  assert.deepEqual(
    (await lines()).map((line) => line.split(' ')[1]),
    ['up', 'drain', 'stop'],
  );
});

test('what a killed supervisor left without ipc is ended by the next start, a recycled pid is left alone', async (t) => {
  const { supervisor, spec, folder } = await setUp(t);
  const pidFile = join(folder, 'run', 'sleep.pid');
  const orphan = spawn('/bin/sleep', ['60'], { stdio: 'ignore', detached: true });
  const gone = once(orphan, 'exit');
  const bystander = spawn('/bin/sh', ['-c', 'read x'], { stdio: ['pipe', 'ignore', 'ignore'] });
  t.after(() => bystander.kill('SIGKILL'));
  const sleep = { command: '/bin/sleep', args: ['60'], ipc: false, pidFile, readyCheck: async () => true };
  const first = supervisor.start(spec('first', '', sleep));
  await first.ready;
  assert.equal(Number(await readFile(pidFile, 'utf8')), first.pid);
  await first.stop();
  await assert.rejects(readFile(pidFile), { code: 'ENOENT' });

  await writeFile(pidFile, `${orphan.pid}\n`);
  const second = supervisor.start(spec('second', '', sleep));
  await second.ready;
  assert.deepEqual(await gone, [null, 'SIGTERM']);
  await second.stop();

  await writeFile(pidFile, `${bystander.pid}\n`);
  const third = supervisor.start(spec('third', '', sleep));
  await third.ready;
  assert.ok(alive(bystander.pid!));
});

test('the back-off doubles up to its bound, with jitter of a fifth', () => {
  const policy = { minDelayMs: 100, maxDelayMs: 1_000 };
  assert.deepEqual(
    [1, 2, 3, 4, 5, 50].map((attempt) => backoffMs(policy, attempt, () => 0.5)),
    [100, 200, 400, 800, 1_000, 1_000],
  );
  assert.deepEqual([backoffMs(policy, 1, () => 0), backoffMs(policy, 1, () => 1)], [80, 120]);
});
