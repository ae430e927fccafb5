/** The stream of a call over gRPC with a fake jail: what becomes of the call when it breaks, Attach, a slow reader. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverStream } from '#kit/rpc/client.ts';
import { ENDED_CALLS_KEPT_BYTES_MAX, RING_BYTES_MAX } from '../../../services/tools/limits.ts';
import {
  attachTo,
  caller,
  executeRequest,
  kinds,
  outcomeOf,
  outputOf,
  reasonOf,
  run,
  setUp,
} from './support/service.ts';

test('a stream that breaks ends its tool; Attach still tells how', async (t) => {
  const { client, jail } = await setUp(t);
  const callId = 'broken';
  const stop = new AbortController();
  const events = serverStream(client, 'execute', executeRequest({ callId, words: ['say', 'one', 'forever'] }), {
    signal: stop.signal,
  });
  for await (const { event } of events) if (event?.$case === 'output') break;
  while (jail.running > 0) await sleep(5);
  const after = await attachTo(client, { callId, afterSequence: 1n });
  assert.deepEqual(kinds(after), ['output', 'result']);
  assert.equal(after[0]!.sequence, 2n);
  assert.equal(outcomeOf(after), 'cancelled');
  const end = await attachTo(client, { callId, afterSequence: 3n });
  assert.deepEqual(end, []);
});

test('a call goes on while somebody is attached', async (t) => {
  const { client } = await setUp(t);
  const callId = 'watched';
  const first = serverStream(
    client,
    'execute',
    executeRequest({ callId, words: ['say', 'a', 'sleep', '1500', 'say', 'b'] }),
  );
  await first.next();
  const attached = serverStream(client, 'attach', { caller, callId, afterSequence: 0n });
  const events = [(await attached.next()).value!.event!];
  await first.return();
  for await (const { event } of attached) events.push(event!);
  assert.equal(outcomeOf(events), 'ok');
  assert.equal(outputOf(events), 'ab');
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, index) => index + 1),
  );
});

test('Attach is for the same user, and refuses what is gone', async (t) => {
  const { client } = await setUp(t);
  const callId = 'mine';
  await run(client, { callId, words: ['flood', String(3 * 1024 * 1024)] });
  const foreign = serverStream(client, 'attach', { caller: { ...caller, user: 'eve' }, callId, afterSequence: 0n });
  await assert.rejects(foreign.next(), reasonOf('TOOL_CALL_UNKNOWN'));
  await assert.rejects(attachTo(client, { callId, afterSequence: 0n }), reasonOf('TOOL_EVENTS_GONE'));
});

test('a reader that is slow holds up the tool, not the memory, and gets every byte', async (t) => {
  const { client, service } = await setUp(t);
  const size = 7 * 1024 * 1024;
  let bytes = 0;
  let most = 0;
  let last = 0n;
  for await (const { sequence, event } of serverStream(
    client,
    'execute',
    executeRequest({ words: ['flood', String(size)] }),
  )) {
    assert.equal(sequence, last + 1n);
    last = sequence;
    if (event?.$case === 'output') bytes += event.value.data.length;
    most = Math.max(most, service.context.executor.eventBytes);
    if (last % 64n === 0n) await sleep(5);
  }
  assert.equal(bytes, size);
  assert.ok(most <= 1.2 * 1024 * 1024, `${most} bytes in the ring`);
});

test('what running calls hold takes nothing from those that have ended', async (t) => {
  const { client, jail } = await setUp(t, { env: { QUERN_TOOLS_CONCURRENT_PER_TENANT: '32' } });
  await run(client, { callId: 'ended', words: ['say', 'kept'] });
  const stop = new AbortController();
  const { signal } = stop;
  const words = ['flood', String(RING_BYTES_MAX), 'say', 'full', 'forever'];
  const fill = async (callId: string): Promise<void> => {
    const events = serverStream(client, 'execute', executeRequest({ callId, words }), { signal });
    let text = '';
    while (text !== 'full') {
      const { event } = (await events.next()).value!;
      if (event?.$case === 'output') text = Buffer.from(event.value.data).toString();
    }
  };
  const count = ENDED_CALLS_KEPT_BYTES_MAX / RING_BYTES_MAX + 2;
  await Promise.all(Array.from({ length: count }, (_, i) => fill(`full-${i}`)));
  assert.equal(jail.running, count);
  await run(client, { callId: 'another', words: ['say', 'x'] }); // at the end of a call what is too much goes
  const kept = await attachTo(client, { callId: 'ended', afterSequence: 0n });
  assert.equal(outputOf(kept), 'kept');
  stop.abort();
  while (jail.running > 0) await sleep(5);
});
