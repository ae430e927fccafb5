import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { QuernError } from '#kit/errors.ts';
import { createLifecycle, type LifecycleStep, type MainHost, type ProcessLike, runMain } from '#kit/lifecycle.ts';
import { createLog } from '#kit/log.ts';

const log = createLog({ service: 't', level: 'silent' });
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

class FakeProcess extends EventEmitter {
  readonly exits: number[] = [];
  unrefs = 0;
  readonly channel = {
    unref: () => {
      this.unrefs += 1;
    },
  };
  exit(code: number): void {
    this.exits.push(code);
  }
}

function mainHost(): MainHost & { written: string[] } {
  const written: string[] = [];
  return { written, stderr: { write: (text) => void written.push(text) } };
}

/** Steps that write down what happens to them. */
function recorder(names: string[], overrides: Record<string, Partial<LifecycleStep>> = {}) {
  const events: string[] = [];
  const steps = names.map(
    (name): LifecycleStep => ({
      name,
      start: () => void events.push(`start ${name}`),
      ready: () => void events.push(`ready ${name}`),
      drain: () => void events.push(`drain ${name}`),
      stop: () => void events.push(`stop ${name}`),
      ...overrides[name],
    }),
  );
  return { events, steps };
}

test('start and ready go forward, drain and stop backward', async () => {
  const { events, steps } = recorder(['outbox', 'server']);
  const lifecycle = createLifecycle({ log, steps, process: null });
  assert.equal(lifecycle.state, 'new');
  await lifecycle.start();
  assert.equal(lifecycle.state, 'ready');
  assert.equal(lifecycle.signal.aborted, false);
  await lifecycle.stop('test');
  await lifecycle.stopped;
  assert.equal(lifecycle.state, 'stopped');
  assert.deepEqual(events, [
    'start outbox',
    'start server',
    'ready outbox',
    'ready server',
    'drain server',
    'drain outbox',
    'stop server',
    'stop outbox',
  ]);
  assert.equal((lifecycle.signal.reason as QuernError).details.reason, 'STOPPING');
  await assert.rejects(lifecycle.start(), { code: 'FAILED_PRECONDITION' });
});

test('a failing start stops what had started, the failing step too, and drains nothing', async () => {
  const boom = new QuernError('UNAVAILABLE', 'port taken');
  const { events, steps } = recorder(['a', 'b', 'c'], { b: { start: () => Promise.reject(boom) } });
  const lifecycle = createLifecycle({ log, steps, process: null });
  await assert.rejects(lifecycle.start(), boom);
  assert.deepEqual(events, ['start a', 'stop b', 'stop a']);
});

test('a failing drain or stop does not keep the others from theirs', async () => {
  const fail = () => Promise.reject(new Error('no'));
  const { events, steps } = recorder(['a', 'b'], { b: { drain: fail, stop: fail } });
  const lifecycle = createLifecycle({ log, steps, process: null });
  await lifecycle.start();
  await lifecycle.stop('test');
  assert.deepEqual(events.slice(4), ['drain a', 'stop a']);
});

test('the grace bounds all drains together, and its end aborts their signal', async () => {
  let aborted = false;
  const { events, steps } = recorder(['a', 'b'], {
    b: {
      drain: ({ signal }) =>
        new Promise(() => {
          signal.addEventListener('abort', () => {
            aborted = true;
          });
        }),
    },
  });
  const lifecycle = createLifecycle({ log, steps, process: null, drainGraceMs: 80 });
  await lifecycle.start();
  const startedMs = performance.now();
  await lifecycle.stop('test');
  const tookMs = performance.now() - startedMs;
  assert.ok(aborted && tookMs >= 75 && tookMs < 20_000, `${tookMs} ms`);
  assert.deepEqual(events.slice(-2), ['stop b', 'stop a']);
});

test('a signal drains and exits 0; a second one exits at once with 128 + its number', async () => {
  const host = new FakeProcess();
  let release = (): void => {};
  const { events, steps } = recorder(['a'], {
    a: {
      drain: () =>
        new Promise<void>((resolve) => {
          release = resolve;
        }),
    },
  });
  const lifecycle = createLifecycle({ log, steps, process: host as unknown as ProcessLike });
  await lifecycle.start();
  host.emit('SIGTERM');
  await pause(10);
  assert.deepEqual(host.exits, []);
  host.emit('SIGINT');
  assert.deepEqual(host.exits, [130]);
  release();
  await lifecycle.stopped;
  await pause(5);
  assert.deepEqual(host.exits, [130, 0]);
  assert.deepEqual(events.at(-1), 'stop a');
  assert.equal(host.listenerCount('SIGTERM') + host.listenerCount('SIGINT') + host.listenerCount('disconnect'), 0);
});

test('the loss of the parent drains; its channel does not keep the process alive', async () => {
  const host = new FakeProcess();
  const { events, steps } = recorder(['a']);
  const lifecycle = createLifecycle({ log, steps, process: host as unknown as ProcessLike });
  await lifecycle.start();
  assert.equal(host.unrefs, 1);
  host.emit('disconnect');
  await lifecycle.stopped;
  await pause(5);
  assert.deepEqual(events.slice(-2), ['drain a', 'stop a']);
  assert.deepEqual(host.exits, [0]);
});

test('a stop during the start waits for the step under way, skips the rest, and is no failure', async () => {
  const { events, steps } = recorder(['a', 'b'], {
    a: {
      start: async () => {
        events.push('start a');
        await pause(30);
        events.push('opened a');
      },
    },
  });
  const host = new FakeProcess();
  const lifecycle = createLifecycle({ log, steps, process: host as unknown as ProcessLike });
  const told = mainHost();
  const running = runMain('t', () => lifecycle.start(), told);
  host.emit('SIGTERM');
  await running;
  await lifecycle.stopped;
  await pause(5);
  assert.deepEqual(events, ['start a', 'opened a', 'stop a']);
  assert.deepEqual([told.exitCode, told.written, host.exits], [undefined, [], [0]]);
});

test('runMain says in one sentence why the start failed, a fault of ours with its stack, and exits 1', async () => {
  const refused = new QuernError('FAILED_PRECONDITION', 'no model there; set QUERN_MODEL');
  const host = mainHost();
  const { steps } = recorder(['a'], { a: { start: () => Promise.reject(refused) } });
  await runMain('t', () => createLifecycle({ log, steps, process: null }).start(), host);
  assert.deepEqual([host.exitCode, host.written], [1, ['t: no model there; set QUERN_MODEL\n']]);
  const fault = mainHost();
  await runMain('t', () => Promise.reject(new TypeError('x is not a function')), fault);
  assert.equal(fault.exitCode, 1);
  assert.match(fault.written.join(''), /^t: TypeError: x is not a function\n +at /);
});
