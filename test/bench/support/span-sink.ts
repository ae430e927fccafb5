// A process that takes OTLP over HTTP as a collector does and keeps nothing but counts, so that a benchmark's client does not pay
// for it. Sends its URL to its parent; answers any message with how much it took.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export type SinkTook = { requests: number; bytes: number };

const took: SinkTook = { requests: 0, bytes: 0 };
const server = createServer((request, response) => {
  request.on('data', (chunk: Buffer) => {
    took.bytes += chunk.length;
  });
  request.on('end', () => {
    took.requests += 1;
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
  });
});
server.listen(0, '127.0.0.1', () =>
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }),
);
process.on('message', () => process.send?.(took));
process.on('disconnect', () => process.exit());
