// Mock engine, mock tokenizer and two bare one-hop streams in a process of their own, for bench:mesh and fault scripts.
// Argument: JSON { folder, stepMs, contextLength }. Tells its parent { addresses } over ipc and ends with it.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import {
  CompletionServiceService,
  type StreamCompleteRequest,
  StreamCompleteResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { startMockEngine } from './mock-engine.ts';
import { startMockTokenizer } from './mock-tokenizer.ts';

export type MockMainOptions = { folder: string; stepMs: number; contextLength: number };
export type MockMainReady = { engine: string; tokenizer: string; bareGrpc: string; bareHttp: string };

type BareStream = { left: number; write(): void; end(): void };

/** One clock for all bare streams, as the engine has one step for all sequences. */
function createClock(stepMs: number) {
  const streams = new Set<BareStream>();
  let nextAt = 0;
  let timer: NodeJS.Timeout | null = null;
  function tick(): void {
    timer = null;
    for (const stream of streams) {
      stream.write();
      stream.left -= 1;
      if (stream.left > 0) continue;
      streams.delete(stream);
      stream.end();
    }
    schedule();
  }
  function schedule(): void {
    if (timer || streams.size === 0) return;
    const now = performance.now();
    nextAt = Math.max(nextAt + stepMs, now);
    timer = setTimeout(tick, nextAt - now);
  }
  return {
    add(stream: BareStream): () => void {
      streams.add(stream);
      schedule();
      return () => streams.delete(stream);
    },
  };
}

function startBareGrpc(clock: ReturnType<typeof createClock>): Promise<string> {
  const message = { event: { $case: 'delta' as const, value: { index: 0, text: 'x', logprobs: [], tokenIds: [] } } };
  const encoded = Buffer.from(StreamCompleteResponse.encode(message).finish());
  const server = new Server();
  const definition = {
    ...CompletionServiceService,
    streamComplete: { ...CompletionServiceService.streamComplete, responseSerialize: (b: unknown) => b as Buffer },
  };
  server.addService(
    definition as never,
    {
      complete: () => {},
      infill: () => {},
      streamComplete(call: ServerWritableStream<StreamCompleteRequest, unknown>) {
        const left = call.request.request?.sampling?.maxTokens ?? 16;
        const remove = clock.add({ left, write: () => call.write(encoded), end: () => call.end() });
        call.on('cancelled', remove);
      },
    } as never,
  );
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(`127.0.0.1:${port}`),
    );
  });
}

function startBareHttp(clock: ReturnType<typeof createClock>): Promise<string> {
  const answer = { id: 'cmpl-0', object: 'text_completion', created: 1, model: 'mock' };
  const choice = { index: 0, text: 'x', logprobs: null, finish_reason: null };
  const chunk = `data: ${JSON.stringify({ ...answer, choices: [choice] })}\n\n`;
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part) => {
      body += part;
    });
    request.on('end', () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const left = (JSON.parse(body) as { max_tokens: number }).max_tokens;
      const remove = clock.add({
        left,
        write: () => response.write(chunk),
        end: () => response.end('data: [DONE]\n\n'),
      });
      response.on('close', remove);
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

async function main(): Promise<void> {
  const { folder, stepMs, contextLength } = JSON.parse(process.argv[2] ?? '{}') as MockMainOptions;
  const engine = await startMockEngine({
    listen: `unix://${folder}/engine.sock`,
    stepMs,
    contextLength,
    keepsRequests: false,
  });
  const tokenizer = await startMockTokenizer({ listen: `unix://${folder}/tokenizer.sock` });
  const clock = createClock(stepMs);
  const ready: MockMainReady = {
    engine: engine.address,
    tokenizer: tokenizer.address,
    bareGrpc: await startBareGrpc(clock),
    bareHttp: await startBareHttp(clock),
  };
  process.on('message', (message: { stepMs?: number }) => {
    if (message.stepMs !== undefined) engine.settings.stepMs = message.stepMs;
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.(ready);
}

main();
