/** The CLI's view of a running mesh: the public gRPC API over one channel. */
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
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { Io } from './command.ts';
import { explainFailure } from './failures.ts';
import { runningMeshes } from './up/mesh-folder.ts';

export const GATEWAY_OPTIONS = {
  gateway: { type: 'string' },
  'api-key': { type: 'string' },
} as const;

export type GatewayAddress = { address: string; apiKey: string | undefined };

/** Where the mesh is: --gateway, else QUERN_GATEWAY, else what `quern up` uses by default. */
export function gatewayAddress(
  values: { gateway?: string | undefined; 'api-key'?: string | undefined },
  io: Io,
): GatewayAddress {
  return { address: values.gateway ?? io.config.gateway, apiKey: values['api-key'] ?? io.config.apiKey };
}

export type GatewayClient = ReturnType<typeof connect>;

/** Opens the channel; nothing is sent before the first call. close() when done. */
export function connect(values: { gateway?: string | undefined; 'api-key'?: string | undefined }, io: Io) {
  const { address, apiKey } = gatewayAddress(values, io);
  const metadata: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const completion = openChannel(CompletionServiceClient, { address });
  const chat = openChannel(ChatServiceClient, { address });
  const model = openChannel(ModelServiceClient, { address });
  const explain = (error: unknown): never => {
    throw explainFailure(error, { address, running: () => runningMeshes(io.config.runtimeParents) });
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
