// A collector inside the test process: takes OTLP over HTTP with protobuf and keeps every span.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeTraceRequest, type ReceivedSpan } from './otlp-spans.ts';

export type Collector = {
  /** For QUERN_OTLP_ENDPOINT. */
  readonly url: string;
  readonly spans: ReceivedSpan[];
  /** Set to misbehave: an HTTP status other than 200, or no answer at all. */
  mode: { status: number; silent: boolean };
  readonly requests: number;
  trace(traceId: string): ReceivedSpan[];
  /** The spans of a trace once `enough` says so. */
  settled(traceId: string, enough: (spans: ReceivedSpan[]) => boolean, timeoutMs?: number): Promise<ReceivedSpan[]>;
  /** All spans of a service whose name begins so. */
  named(service: string, prefix: string): Promise<ReceivedSpan[]>;
};

/** Listens on a free port until the test ends. */
export async function startCollector(t: Pick<TestContext, 'after'>): Promise<Collector> {
  const spans: ReceivedSpan[] = [];
  const mode = { status: 200, silent: false };
  const hanging = new Set<ServerResponse>();
  let requests = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      requests += 1;
      if (mode.silent) {
        hanging.add(response);
        return;
      }
      const wanted = request.method === 'POST' && request.url === '/v1/traces';
      const typed = request.headers['content-type'] === 'application/x-protobuf';
      const status = wanted && typed ? mode.status : 400;
      if (status === 200) spans.push(...decodeTraceRequest(Buffer.concat(chunks)));
      response.writeHead(status, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const response of hanging) response.destroy();
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const trace = (traceId: string): ReceivedSpan[] => spans.filter((span) => span.traceId === traceId);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    mode,
    get requests() {
      return requests;
    },
    trace,
    named: async (service, prefix) => spans.filter((span) => span.service === service && span.name.startsWith(prefix)),
    async settled(traceId, enough, timeoutMs = 15_000) {
      const until = Date.now() + timeoutMs;
      while (!enough(trace(traceId))) {
        if (Date.now() > until) {
          const have = trace(traceId).map((span) => `${span.service} ${span.name}`);
          throw new Error(`the trace ${traceId} was not whole within ${timeoutMs} ms; got: ${have.join(', ')}`);
        }
        await sleep(20);
      }
      return trace(traceId);
    },
  };
}
