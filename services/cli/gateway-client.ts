/** The CLI's view of a running mesh: the public gRPC API over one channel. */
import { readFileSync } from 'node:fs';
import {
  AgentServiceClient,
  type ApproveRequest,
  type ApproveResponse,
  type AttachRequest,
  type RunRequest,
  type RunResponse,
} from '#gen/quern/gateway/v1/agent.ts';
import {
  type CancelResponse,
  ChatServiceClient,
  CompletionServiceClient,
  type ExplainRequest,
  type ExplainResponse,
  type GetCapabilitiesRequest,
  type GetCapabilitiesResponse,
  type InfillRequest,
  type InfillResponse,
  type ListModelsResponse,
  ModelServiceClient,
  RequestServiceClient,
  type StreamChatRequest,
  type StreamChatResponse,
  type StreamCompleteRequest,
  type StreamCompleteResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { parseAddress } from '#kit/rpc/address.ts';
import { type ClientTls, openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import type { Io } from './command.ts';
import { GRPC_DEFAULT } from './config.ts';
import { explainFailure, notAnswered } from './failures.ts';
import { findService } from './service-address.ts';
import { callAddress, type MeshRecord, runningMeshes } from './up/mesh-folder.ts';

export const GATEWAY_OPTIONS = {
  gateway: { type: 'string' },
  ca: { type: 'string' },
  'api-key': { type: 'string' },
} as const;

export type GatewayAddress = {
  /** HOST:PORT or unix:///PATH. */
  address: string;
  /** Whose address it is, as of a Found. */
  source: string;
  apiKey: string | undefined;
  /** Present: the mesh speaks TLS. */
  tls: ClientTls | undefined;
};

type GatewayValues = { gateway?: string | undefined; ca?: string | undefined; 'api-key'?: string | undefined };

/** Undefined while it is starting. */
function grpcOf({ grpc, tls }: MeshRecord): string | undefined {
  if (grpc === '') return undefined;
  return tls ? `https://${callAddress(grpc)}` : callAddress(grpc);
}

/**
 * Where the mesh is: --gateway, else QUERN_GATEWAY, else the running mesh of this state folder, else what `quern up` uses by
 * default. https:// and a CA mean TLS. INVALID_ARGUMENT names `option` when what it says is no address.
 */
export function gatewayAddress(values: GatewayValues, io: Io, option = '--gateway'): GatewayAddress {
  const { address: given, source } = findService(
    {
      option,
      given: values.gateway,
      variable: 'QUERN_GATEWAY',
      set: io.config.gateway,
      addressOf: grpcOf,
      otherwise: GRPC_DEFAULT,
    },
    io,
  );
  const address = given.replace(/^https?:\/\//, '').replace(/\/$/, '');
  requireAddress(address, values.gateway === undefined ? 'QUERN_GATEWAY' : option);
  const ca = values.ca === undefined ? io.config.gatewayCa : readCa(values.ca);
  const speaksTls = given.startsWith('https://') || (ca !== undefined && !address.startsWith('unix:'));
  return {
    address,
    source,
    apiKey: values['api-key'] ?? io.config.apiKey,
    tls: speaksTls ? (ca === undefined ? {} : { ca }) : undefined,
  };
}

function requireAddress(address: string, option: string): void {
  try {
    parseAddress(address);
  } catch {
    const message = `${option}: expected HOST:PORT, https://HOST:PORT or unix:///PATH, got "${address}"`;
    throw new QuernError('INVALID_ARGUMENT', message);
  }
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

type Cancel = { signal: AbortSignal };

const CONNECT_TIMEOUT_MS = 10_000;
const CANCEL_TIMEOUT_MS = 2_000;
const READY = 2; // of grpc-js's connectivity states
type Connected = { getChannel(): { getConnectivityState(connect: boolean): number } };

export type GatewayClient = ReturnType<typeof connect>;

/** Opens the channel; nothing is sent before the first call. close() when done. */
export function connect(values: GatewayValues, io: Io) {
  const { address, source, apiKey, tls } = gatewayAddress(values, io);
  const metadata: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const completion = openChannel(CompletionServiceClient, { address, tls });
  const chat = openChannel(ChatServiceClient, { address, tls });
  const model = openChannel(ModelServiceClient, { address, tls });
  const requests = openChannel(RequestServiceClient, { address, tls });
  const agents = openChannel(AgentServiceClient, { address, tls });
  const failed = (error: unknown): never => {
    throw explainFailure(error, {
      address,
      source,
      tls: tls !== undefined,
      running: () => runningMeshes(io.config.runtimeParents),
    });
  };
  /** A stream has no deadline; a server that accepts the connection and says nothing must not hold us for ever. */
  async function* guarded<T>(
    client: Connected,
    { signal }: Cancel,
    open: (signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const silent = new AbortController();
    const timer = setTimeout(() => {
      if (client.getChannel().getConnectivityState(false) === READY) return;
      silent.abort(new QuernError('UNAVAILABLE', notAnswered(address, CONNECT_TIMEOUT_MS)));
    }, CONNECT_TIMEOUT_MS);
    try {
      yield* open(AbortSignal.any([signal, silent.signal]));
    } catch (error) {
      failed(error);
    } finally {
      clearTimeout(timer);
    }
  }
  return {
    address,
    tls,
    listModels: ({ signal }: Cancel): Promise<ListModelsResponse> =>
      unary(model, 'listModels', {}, { signal, timeoutMs: CONNECT_TIMEOUT_MS, metadata }).catch(failed),
    explain: (request: ExplainRequest, { signal }: Cancel): Promise<ExplainResponse> =>
      unary(requests, 'explain', request, { signal, timeoutMs: CONNECT_TIMEOUT_MS, metadata }).catch(failed),
    getCapabilities: (request: GetCapabilitiesRequest, { signal }: Cancel): Promise<GetCapabilitiesResponse> =>
      unary(completion, 'getCapabilities', request, { signal, timeoutMs: CONNECT_TIMEOUT_MS, metadata }).catch(failed),
    streamComplete: (request: StreamCompleteRequest, cancel: Cancel): AsyncIterable<StreamCompleteResponse> =>
      guarded(completion, cancel, (signal) =>
        serverStream(completion, 'streamComplete', request, { signal, metadata }),
      ),
    infill: (request: InfillRequest, cancel: Cancel): AsyncIterable<InfillResponse> =>
      guarded(completion, cancel, (signal) => serverStream(completion, 'infill', request, { signal, metadata })),
    streamChat: (request: StreamChatRequest, cancel: Cancel): AsyncIterable<StreamChatResponse> =>
      guarded(chat, cancel, (signal) => serverStream(chat, 'streamChat', request, { signal, metadata })),
    runAgent: (request: RunRequest, cancel: Cancel): AsyncIterable<RunResponse> =>
      guarded(agents, cancel, (signal) => serverStream(agents, 'run', request, { signal, metadata })),
    attachRun: async function* (request: AttachRequest, cancel: Cancel): AsyncGenerator<RunResponse> {
      const events = guarded(agents, cancel, (signal) => serverStream(agents, 'attach', request, { signal, metadata }));
      for await (const { event } of events) if (event) yield event;
    },
    /** With a time of its own: it is what a command that was interrupted does last. */
    cancelRequest: (requestId: string): Promise<CancelResponse> =>
      unary(requests, 'cancel', { requestId }, { timeoutMs: CANCEL_TIMEOUT_MS, metadata }),
    approve: (request: ApproveRequest, { signal }: Cancel): Promise<ApproveResponse> =>
      unary(agents, 'approve', request, { signal, timeoutMs: CONNECT_TIMEOUT_MS, metadata }).catch(failed),
    close: (): void => {
      for (const client of [completion, chat, model, requests, agents]) client.close();
    },
  };
}
