/** Counting, bounding and holding back what a command writes. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type OutputPump, pumpOutput } from '../../../../services/tools/jail/output-pump.ts';

type Bench = {
  stdout: PassThrough;
  stderr: PassThrough;
  pump: OutputPump;
  got: string[];
  events: string[];
  /** What the sink answers from now on. */
  sink: { accepts: boolean; fails: boolean; drain: () => void; refuse: () => void };
};

function bench(bytesMax: number): Bench {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const got: string[] = [];
  const events: string[] = [];
  const sink = { accepts: true, fails: false, drain: (): void => {}, refuse: (): void => {} };
  const pump = pumpOutput(
    { stdout, stderr },
    {
      write(stream, data) {
        if (sink.fails) throw new Error('the client is gone');
        got.push(`${stream}:${Buffer.from(data)}`);
        return sink.accepts;
      },
      drained: () =>
        new Promise((resolve, reject) => {
          sink.drain = resolve;
          sink.refuse = () => reject(new Error('closed'));
        }),
    },
    { bytesMax, onLimit: () => events.push('limit'), onBroken: () => events.push('broken') },
  );
  return { stdout, stderr, pump, got, events, sink };
}

test("before it is opened, text is bubblewrap's; after, the command's", async () => {
  const { stdout, stderr, pump, got } = bench(100);
  stderr.write('bwrap: no');
  await turn();
  pump.open();
  stdout.end('out');
  stderr.end('err');
  await pump.ended;
  assert.equal(pump.errorText(), 'bwrap: noerr');
  assert.deepEqual(got.sort(), ['stderr:err', 'stdout:out']);
  assert.deepEqual(pump.counts, { stdout: 3, stderr: 3 });
});

test('both streams together stop at the limit, to the byte, once', async () => {
  const { stdout, stderr, pump, got, events } = bench(10);
  pump.open();
  stdout.write('1234567');
  await turn();
  stderr.write('abcdef');
  await turn();
  stdout.write('more');
  await pump.ended;
  assert.deepEqual(got, ['stdout:1234567', 'stderr:abc']);
  assert.deepEqual(events, ['limit']);
  const exact = bench(3);
  exact.pump.open();
  exact.stdout.end('123');
  exact.stderr.end();
  await exact.pump.ended;
  assert.deepEqual(exact.events, []);
});

test('a full sink gets nothing until it has drained, then all of it in order', async () => {
  const { stdout, stderr, pump, got, sink } = bench(1_000);
  pump.open();
  sink.accepts = false;
  stdout.write('one');
  await turn();
  assert(stdout.isPaused() && stderr.isPaused());
  stdout.resume(); // as Node does when the child exits
  stdout.write('two');
  stderr.end();
  await turn();
  assert.deepEqual(got, ['stdout:one']);
  sink.accepts = true;
  sink.drain();
  await turn();
  assert.deepEqual(got, ['stdout:one', 'stdout:two']);
  stdout.end('three');
  await pump.ended;
  assert.deepEqual(got, ['stdout:one', 'stdout:two', 'stdout:three']);
});

test('a sink that fails ends it, whether it throws or never drains', async () => {
  const thrown = bench(1_000);
  thrown.pump.open();
  thrown.sink.fails = true;
  thrown.stdout.write('x');
  await thrown.pump.ended;
  assert.deepEqual(thrown.events, ['broken']);
  const closed = bench(1_000);
  closed.pump.open();
  closed.sink.accepts = false;
  closed.stdout.write('x');
  await turn();
  closed.sink.refuse();
  await closed.pump.ended;
  assert.deepEqual(closed.events, ['broken']);
});

test('stop() ends it at once', async () => {
  const { stdout, pump, got } = bench(1_000);
  pump.open();
  pump.stop();
  await pump.ended;
  assert(stdout.destroyed);
  assert.deepEqual(got, []);
});
