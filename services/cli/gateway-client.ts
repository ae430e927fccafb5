/** The CLI's view of a running mesh: the public gRPC API over one channel. */
import { readFileSync } from 'node:fs';
import {
  ChatServiceClient,
  CompletionServiceClient,
  type InfillRequest,
  type InfillResponse,
  type ListModelsResponse,
  ModelServiceClient,
  type StreamChatRequest,
  type StreamChatResponse,
  type StreamCompleteRequest,
  type StreamCompleteResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { type ClientTls, openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { Io } from './command.ts';
import { explainFailure } from './failures.ts';
import { runningMeshes } from './up/mesh-folder.ts';

export const GATEWAY_OPTIONS = {
  gateway: { type: 'string' },
  ca: { type: 'string' },
  'api-key': { type: 'string' },
} as const;

export type GatewayAddress = {
  /** HOST:PORT or unix:///PATH. */
  address: string;
  apiKey: string | undefined;
  /** Present: the mesh speaks TLS. */
  tls: ClientTls | undefined;
};

type GatewayValues = { gateway?: string | undefined; ca?: string | undefined; 'api-key'?: string | undefined };

/** Where the mesh is: --gateway, else QUERN_GATEWAY, else what `quern up` uses by default. https:// and a CA mean TLS. */
export function gatewayAddress(values: GatewayValues, io: Io): GatewayAddress {
  const given = values.gateway ?? io.config.gateway;
  const address = given.replace(/^https?:\/\//, '').replace(/\/$/, '');
  const ca = values.ca === undefined ? io.config.gatewayCa : readCa(values.ca);
  const speaksTls = given.startsWith('https://') || (ca !== undefined && !address.startsWith('unix:'));
  return {
    address,
    apiKey: values['api-key'] ?? io.config.apiKey,
    tls: speaksTls ? (ca === undefined ? {} : { ca }) : undefined,
  };
}

function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new QuernError(
      'INVALID_ARGUMENT',
      `--ca: expected a PEM file of CAs, got ${file}, which cannot be read (${code})`,
    );
  }
}

export type GatewayClient = ReturnType<typeof connect>;

/** Opens the channel; nothing is sent before the first call. close() when done. */
export function connect(values: GatewayValues, io: Io) {
  const { address, apiKey, tls } = gatewayAddress(values, io);
  const metadata: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const completion = openChannel(CompletionServiceClient, { address, tls });
  const chat = openChannel(ChatServiceClient, { address, tls });
  const model = openChannel(ModelServiceClient, { address, tls });
  const explain = (error: unknown): never => {
    throw explainFailure(error, {
      address,
      tls: tls !== undefined,
      running: () => runningMeshes(io.config.runtimeParents),
    });
  };
  async function* guarded<T>(events: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* events;
    } catch (error) {
      explain(error);
    }
  }
  return {
    address,
    tls,
    listModels: ({ signal }: { signal: AbortSignal }): Promise<ListModelsResponse> =>
      unary(model, 'listModels', {}, { signal, timeoutMs: 10_000, metadata }).catch(
        explain,
      ) as Promise<ListModelsResponse>,
    streamComplete: (
      request: StreamCompleteRequest,
      { signal }: { signal: AbortSignal },
    ): AsyncIterable<StreamCompleteResponse> =>
      guarded(serverStream(completion, 'streamComplete', request, { signal, metadata })),
    infill: (request: InfillRequest, { signal }: { signal: AbortSignal }): AsyncIterable<InfillResponse> =>
      guarded(serverStream(completion, 'infill', request, { signal, metadata })),
    streamChat: (request: StreamChatRequest, { signal }: { signal: AbortSignal }): AsyncIterable<StreamChatResponse> =>
      guarded(serverStream(chat, 'streamChat', request, { signal, metadata })),
    close: (): void => {
      for (const client of [completion, chat, model]) client.close();
    },
  };
}
