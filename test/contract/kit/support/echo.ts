// A small service over real sockets for the tests of kit/rpc: JSON in place of protobuf, so that each test says what
// its handlers do.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  type CallOptions,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  type Metadata,
  makeGenericClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { createLog } from '#kit/log.ts';
import { createMetrics, type Metrics } from '#kit/metrics.ts';
import { openChannel } from '#kit/rpc/client.ts';
import {
  defineService,
  type Handlers,
  type RpcServer,
  type RpcServerOptions,
  startRpcServer,
} from '#kit/rpc/server.ts';

export type Message = { text?: string; number?: number };

const encode = (value: Message): Buffer => Buffer.from(JSON.stringify(value));
const decode = (bytes: Buffer): Message => JSON.parse(bytes.toString()) as Message;
const codec = {
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
};

export const EchoService = {
  say: { path: '/quern.test.v1.EchoService/Say', requestStream: false, responseStream: false, ...codec },
  count: { path: '/quern.test.v1.EchoService/Count', requestStream: false, responseStream: true, ...codec },
  talk: { path: '/quern.test.v1.EchoService/Talk', requestStream: true, responseStream: true, ...codec },
} as const;

export type EchoClient = Client & {
  say(
    request: Message,
    metadata: Metadata,
    options: Partial<CallOptions>,
    callback: (error: ServiceError | null, response: Message) => void,
  ): ClientUnaryCall;
  count(request: Message, metadata?: Metadata, options?: Partial<CallOptions>): ClientReadableStream<Message>;
  talk(metadata: Metadata, options?: Partial<CallOptions>): ClientDuplexStream<Message, Message>;
};

export const EchoClient = makeGenericClientConstructor(EchoService, 'quern.test.v1.EchoService') as unknown as new (
  ...args: ConstructorParameters<typeof Client>
) => EchoClient;

const defaults: Handlers<typeof EchoService> = {
  say: async (request) => request,
  async count(request, _call, out) {
    for (let number = 0; number < (request.number ?? 0); number += 1) {
      if (!out.write({ number })) await out.drained();
    }
  },
  async talk(incoming, _call, out) {
    for await (const message of incoming) if (!out.write(message)) await out.drained();
  },
};

export type Echo = {
  server: RpcServer;
  address: string;
  client: EchoClient;
  lines: Record<string, unknown>[];
  metrics: Metrics;
  /** The lines of finished calls, once there are `count`. */
  calls(count: number): Promise<Record<string, unknown>[]>;
};

export async function tempFolder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'quern-kit-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

export async function until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** The value once it has not changed for `quietMs`. */
export async function settled(value: () => number, quietMs = 300): Promise<number> {
  while (true) {
    const before = value();
    await new Promise((resolve) => setTimeout(resolve, quietMs));
    if (value() === before) return before;
  }
}

/** Starts the service (on a unix socket unless told otherwise) and a client; both are closed after the test. */
export async function startEcho(
  t: TestContext,
  handlers: Partial<Handlers<typeof EchoService>> = {},
  options: Partial<RpcServerOptions> & { clientToken?: string } = {},
): Promise<Echo> {
  const { clientToken, ...serverOptions } = options;
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const metrics = createMetrics('echo');
  const listen = serverOptions.listen ?? [`unix://${join(await tempFolder(t), 's.sock')}`];
  const server = await startRpcServer({
    service: 'echo',
    services: [defineService(EchoService, { ...defaults, ...handlers })],
    log: createLog({ service: 'echo', level: 'debug', destination }),
    metrics,
    ...serverOptions,
    listen,
  });
  t.after(() => server.close());
  const address = server.addresses[0]!;
  const client = openChannel(EchoClient, { address, sharedToken: clientToken });
  t.after(() => client.close());
  const finished = () => lines.filter((line) => line.msg === 'rpc');
  return {
    server,
    address,
    client,
    lines,
    metrics,
    async calls(count) {
      await until(() => finished().length >= count, `${count} finished calls`);
      return finished();
    },
  };
}
