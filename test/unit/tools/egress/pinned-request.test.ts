// A request goes to the address it was given, and asks there for the name.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, createServer as createNetServer } from 'node:net';
import { test } from 'node:test';
import { pinnedRequest } from '../../../../services/tools/egress/pinned-request.ts';

test('what is dialled is the address, what is asked for is the name, and each request has its own connection', async (t) => {
  const ports = new Set<number | undefined>();
  const server = createServer((request, response) => {
    ports.add(request.socket.remotePort);
    response.end(`${request.method} ${request.headers.host} ${request.headers.connection}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = new URL(`http://name.invalid:${port}/`); // RFC 2606: no resolver has it
  for (let i = 0; i < 2; i += 1) {
    const request = pinnedRequest(url, '127.0.0.1', { method: 'PUT' });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const body = (await response.toArray()).join('');
    assert.equal(body, `PUT name.invalid:${port} close`);
  }
  assert.equal(ports.size, 2);
});

test('over TLS the name is what the certificate must have: it is sent before any answer', async (t) => {
  const heard = Promise.withResolvers<Buffer>();
  const server = createNetServer((socket) => {
    socket.once('data', (hello) => {
      heard.resolve(hello);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const request = pinnedRequest(new URL(`https://name.invalid:${port}/`), '127.0.0.1', { method: 'GET' });
  const failed = once(request, 'error');
  request.end();
  assert.ok((await heard.promise).includes('name.invalid'));
  assert.ok((await failed)[0] instanceof Error);
});
