// The process that fetches goes when nothing uses it, and comes back with the next request.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createEgress } from '../../../../services/tools/egress/egress.ts';

test('a request that comes while the process is going has a new one', async (t) => {
  const server = createServer((_, response) => response.end('hello'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const settings = { allow: ['127.0.0.1'], ports: [port], credentials: {}, testAddresses: ['127.0.0.1'] };
  const egress = createEgress(settings, { idleMs: 1 });
  t.after(() => egress.close());
  const { signal } = new AbortController();
  const request = { url: `http://127.0.0.1:${port}/`, method: 'GET' as const, headers: {}, bytesMax: 100 };
  for (let round = 0; round < 6; round += 1) {
    const { status, body } = await egress.fetch(request, { signal });
    assert.deepEqual([status, Buffer.from(body).toString()], [200, 'hello']);
    await new Promise((resolve) => setTimeout(resolve, round)); // it rests after 1 ms, and takes longer to be gone
  }
});
