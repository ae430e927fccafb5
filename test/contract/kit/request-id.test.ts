import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { QuernError } from '#kit/errors.ts';
import { unary } from '#kit/rpc/client.ts';
import { startEcho } from './support/echo.ts';

test("the request id is the caller's or a new one, and comes back in the initial metadata", async (t) => {
  const ids: string[] = [];
  const echo = await startEcho(t, {
    async say(request, call) {
      ids.push(call.requestId);
      return request;
    },
  });
  await unary(echo.client, 'say', {}, { requestId: 'req-1' });
  await unary(echo.client, 'say', {});
  await unary(echo.client, 'say', {}, { requestId: 'x'.repeat(500) });
  assert.equal(ids[0], 'req-1');
  assert.match(ids[1]!, /^[0-9a-f-]{36}$/);
  assert.match(ids[2]!, /^[0-9a-f-]{36}$/, 'a request id of 500 characters is replaced');
  const initial = await new Promise<Metadata>((resolve) => {
    const call = echo.client.count({ number: 1 });
    call.on('metadata', resolve);
    call.on('data', () => {});
  });
  assert.match(String(initial.get('x-request-id')[0]), /^[0-9a-f-]{36}$/);
});

test('the request id of a stream without a message: in the initial metadata when it ends well, else in the trailers', async (t) => {
  const echo = await startEcho(t, {
    async count({ number }) {
      if (number === 2) throw new QuernError('NOT_FOUND', 'nothing to count');
    },
  });
  const heard = (number: number) =>
    new Promise<{ initial: unknown; trailer: unknown; code: number }>((resolve) => {
      let initial: unknown;
      const metadata = new Metadata();
      metadata.set('x-request-id', `req-${number}`);
      const call = echo.client.count({ number }, metadata);
      call.on('metadata', (got: Metadata) => {
        initial = got.get('x-request-id')[0];
      });
      call.on('data', () => {});
      call.on('error', () => {}); // its status follows
      call.on('status', (end) => resolve({ initial, trailer: end.metadata.get('x-request-id')[0], code: end.code }));
    });
  const well = await heard(1);
  assert.deepEqual([well.initial, well.code], ['req-1', 0]);
  const failed = await heard(2);
  assert.deepEqual([failed.trailer, failed.code], ['req-2', 5]);
});
