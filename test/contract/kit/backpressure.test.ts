import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuernError } from '#kit/errors.ts';
import { RPC_STREAM_UNSENT_BYTES_MAX } from '#kit/limits.ts';
import { serverStream } from '#kit/rpc/client.ts';
import { bidi } from '../../support/bidi.ts';
import { settled, startEcho, until } from './support/echo.ts';

const KIB_64 = 'x'.repeat(64 * 1024);

test('a slow reader holds the writer back: what is unread stays within a few windows', async (t) => {
  let written = 0;
  let refusals = 0;
  const echo = await startEcho(t, {
    async count(request, _call, out) {
      for (; written < request.number!; written += 1) {
        if (out.write({ number: written, text: KIB_64 })) continue;
        refusals += 1;
        assert.equal(out.writable, false);
        await out.drained();
        assert.equal(out.writable, true);
      }
    },
  });
  const total = 2_000; // 128 MiB in all
  const rssBefore = process.memoryUsage().rss;
  const stream = serverStream(echo.client, 'count', { number: total });
  await stream.next();
  const stalledAt = await settled(() => written);
  assert.ok(stalledAt < 100, `${stalledAt} messages of 64 KiB were written ahead of one read`);
  let read = 1;
  for await (const message of stream) {
    assert.equal(message.number, read);
    read += 1;
  }
  assert.equal(read, total);
  assert.ok(refusals > 10);
  const grownMiB = (process.memoryUsage().rss - rssBefore) / 2 ** 20;
  assert.ok(grownMiB < 100, `128 MiB went through, memory grew by ${grownMiB.toFixed(0)} MiB`);
});

test('many small messages stall too', async (t) => {
  let written = 0;
  const echo = await startEcho(t, {
    async count(_request, _call, out) {
      for (; ; written += 1) if (!out.write({ number: written })) await out.drained();
    },
  });
  const stream = serverStream(echo.client, 'count', {});
  await stream.next();
  const stalledAt = await settled(() => written);
  assert.ok(stalledAt < 20_000, String(stalledAt));
  await stream.return();
});

test('a handler that ignores false is stopped at the byte bound, not at the end of memory', async (t) => {
  let ignored = 0;
  let thrown: unknown = null;
  const echo = await startEcho(t, {
    async count(_request, _call, out) {
      try {
        for (;;) if (!out.write({ text: KIB_64 })) ignored += 1;
      } catch (error) {
        thrown = error;
        throw error;
      }
    },
  });
  const stream = serverStream(echo.client, 'count', {});
  await stream.next();
  await until(() => thrown !== null, 'the refusal');
  assert.equal((thrown as QuernError).details.reason, 'SLOW_READER');
  assert.ok(ignored <= RPC_STREAM_UNSENT_BYTES_MAX / KIB_64.length + 1);
  await assert.rejects(
    async () => {
      for await (const _ of stream);
    },
    { code: 'RESOURCE_EXHAUSTED', details: { reason: 'SLOW_READER' } },
  );
});

test('drained rejects when the caller goes away, and with the signal it was given', async (t) => {
  const outcomes: string[] = [];
  const echo = await startEcho(t, {
    async count(_request, call, out) {
      while (outcomes.length === 0) {
        while (out.write({ text: KIB_64 }));
        await out.drained(AbortSignal.timeout(100)).catch((error: QuernError) => outcomes.push(error.code));
      }
      await out.drained().catch((error: QuernError) => outcomes.push(error.code));
      outcomes.push(String(out.write({ text: 'nobody reads this' })));
      await out.drained(call.signal).catch((error: QuernError) => outcomes.push(error.code));
    },
  });
  const stream = serverStream(echo.client, 'count', {});
  await stream.next();
  await until(() => outcomes.length === 1, 'the timeout');
  await stream.return();
  await until(() => outcomes.length === 4, 'the cancel');
  assert.deepEqual(outcomes, ['DEADLINE_EXCEEDED', 'CANCELLED', 'false', 'CANCELLED']);
});

test('a server that does not read holds a bidi client back', async (t) => {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let read = 0;
  const echo = await startEcho(t, {
    async talk(incoming) {
      await released;
      for await (const _ of incoming) read += 1;
    },
  });
  const talk = bidi(echo.client, 'talk');
  let written = 0;
  const writing = (async () => {
    for (; written < 1_000; written += 1) if (!talk.write({ text: KIB_64 })) await talk.drained();
    talk.end();
  })();
  const stalledAt = await settled(() => written);
  assert.ok(stalledAt < 100, `${stalledAt} messages of 64 KiB were written to a server that reads nothing`);
  await assert.rejects(talk.drained(AbortSignal.timeout(20)), { code: 'DEADLINE_EXCEEDED' });
  release();
  for await (const _ of talk.responses);
  await writing;
  assert.equal(read, 1_000);
});
