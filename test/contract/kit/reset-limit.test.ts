import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Server } from '@grpc/grpc-js';
import type { QuernError } from '#kit/errors.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { EchoClient, startEcho, until } from './support/echo.ts';

const forever = {
  say: (_: unknown, call: { signal: AbortSignal }) =>
    new Promise<never>((_resolve, reject) => {
      call.signal.addEventListener('abort', () => reject(call.signal.reason));
    }),
};

test('grpc-js still has the field that the reset limit is set through', () => {
  const server = new Server();
  assert.equal(typeof (server as unknown as { commonServerOptions: unknown }).commonServerOptions, 'object');
});

test('2,000 cancels at 1,000/s leave a stream of the same connection alive', async (t) => {
  const echo = await startEcho(t, {
    ...forever,
    async count(_request, call, out) {
      for (let number = 0; !call.signal.aborted; number += 1) {
        out.write({ number });
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  });
  let ticks = 0;
  let bystander: QuernError | null = null;
  const watching = new AbortController();
  const reading = (async () => {
    for await (const _ of serverStream(echo.client, 'count', {}, { signal: watching.signal })) ticks += 1;
  })().catch((error) => {
    if (!watching.signal.aborted) bystander = error;
  });
  await until(() => ticks > 0, 'the first tick');

  const codes = new Map<string, number>();
  const calls: Promise<void>[] = [];
  const startedMs = performance.now();
  for (let sent = 0; sent < 2_000; ) {
    const due = Math.min(2_000, Math.ceil(performance.now() - startedMs));
    for (; sent < due; sent += 1) {
      // Half of them are cancelled, half run into their deadline: HTTP/2 resets the stream in both cases.
      const controller = new AbortController();
      const deadline = sent % 2 === 0;
      const call = unary(echo.client, 'say', {}, { signal: controller.signal, timeoutMs: deadline ? 20 : 5_000 });
      if (!deadline) setTimeout(() => controller.abort(), 5);
      calls.push(
        call.then(
          () => {},
          (error: QuernError) => void codes.set(error.code, (codes.get(error.code) ?? 0) + 1),
        ),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(calls);
  const before = ticks;
  await until(() => ticks > before + 5, 'ticks after the cancels');
  assert.equal(bystander, null);
  assert.deepEqual([...codes.keys()].toSorted(), ['CANCELLED', 'DEADLINE_EXCEEDED']);
  watching.abort();
  await reading;
});

test('who cancels beyond the own limit is refused with a retry hint; another connection is not', async (t) => {
  const echo = await startEcho(t, forever, { resetLimit: { burst: 20, perSecond: 1 } });
  const other = openChannel(EchoClient, { address: echo.address });
  t.after(() => other.close());
  const finished = () => echo.lines.filter((line) => line.msg === 'rpc').length;
  while (finished() < 60) await unary(echo.client, 'say', {}, { timeoutMs: 5 }).catch(() => {});
  await assert.rejects(unary(echo.client, 'say', {}, { timeoutMs: 20_000 }), (error: QuernError) => {
    assert.deepEqual([error.code, error.details.reason], ['RESOURCE_EXHAUSTED', 'RESET_LIMIT']);
    assert.ok(error.details.retryAfterMs! > 0);
    return true;
  });
  await assert.rejects(unary(other, 'say', {}, { timeoutMs: 500 }), { code: 'DEADLINE_EXCEEDED' });
});
