/** The mesh over gRPC, as the core wants it: CompletionService.Infill as events, statuses as kinds of failure. */
import {
  type ClientReadableStream,
  type ClientUnaryCall,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { RetryInfo } from '#gen/google/rpc/error_details.ts';
import { Status } from '#gen/google/rpc/status.ts';
import { FinishReason, PriorityClass } from '#gen/quern/common/v1/common.ts';
import {
  CompletionServiceClient,
  type GetCapabilitiesResponse,
  InfillMode,
  type InfillRequest,
  type InfillResponse,
  type ReportEventsResponse,
  type SuggestionEvent,
  SuggestionEventKind,
  type WarmResponse,
} from '#gen/quern/gateway/v1/gateway.ts';
import { ChunkKind as WireChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Capabilities } from '../core/capabilities.ts';
import type { ReportedEvent } from '../core/event-reporter.ts';
import {
  type ChunkKind,
  type FailureKind,
  type InfillEnding,
  type InfillEvent,
  InfillFailure,
  type InfillQuery,
  type Priority,
} from '../core/infill-source.ts';
import type { MeshSource } from '../core/mesh-source.ts';
import { newTraceId, traceparentOf } from '../core/trace-id.ts';
import { explainFailure } from './explain-failure.ts';

export type GatewayTarget = {
  /** host:port, https://host:port or unix:///path. */
  address: string;
  apiKey: string | null;
  /** PEM of the CAs of a mesh that speaks TLS; absent: those that Node knows. */
  ca: string | null;
};

export type GatewaySource = MeshSource & { close(): void };

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const RECONNECT_MIN_MS = 100;
const RECONNECT_MAX_MS = 5_000;
/** Of a call that generates nothing: a mesh that takes longer is not there. */
const CALL_MS_MAX = 10_000;

const STATUS_KEY = 'grpc-status-details-bin';
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo';

const KINDS: Partial<Record<number, FailureKind>> = {
  [status.CANCELLED]: 'cancelled',
  [status.DEADLINE_EXCEEDED]: 'timeout',
  [status.RESOURCE_EXHAUSTED]: 'overloaded',
  [status.UNAUTHENTICATED]: 'unauthenticated',
  [status.PERMISSION_DENIED]: 'unauthenticated',
  [status.UNAVAILABLE]: 'offline',
  [status.FAILED_PRECONDITION]: 'no_fim',
  [status.UNIMPLEMENTED]: 'no_fim',
};

const CLASSES: Record<Priority, PriorityClass> = {
  invoked: PriorityClass.PRIORITY_CLASS_INVOKED,
  automatic: PriorityClass.PRIORITY_CLASS_AUTOMATIC,
  speculative: PriorityClass.PRIORITY_CLASS_SPECULATIVE,
};

const EVENTS: Record<ReportedEvent['kind'], SuggestionEventKind> = {
  shown: SuggestionEventKind.SUGGESTION_EVENT_KIND_SHOWN,
  accepted: SuggestionEventKind.SUGGESTION_EVENT_KIND_ACCEPTED,
  partially_accepted: SuggestionEventKind.SUGGESTION_EVENT_KIND_PARTIALLY_ACCEPTED,
  dismissed: SuggestionEventKind.SUGGESTION_EVENT_KIND_DISMISSED,
  kept: SuggestionEventKind.SUGGESTION_EVENT_KIND_KEPT,
  not_shown: SuggestionEventKind.SUGGESTION_EVENT_KIND_NOT_SHOWN,
};

const CHUNK_KINDS: Record<ChunkKind, WireChunkKind> = {
  declaration: WireChunkKind.CHUNK_KIND_DECLARATION,
  open_file: WireChunkKind.CHUNK_KIND_OPEN_FILE,
  recent: WireChunkKind.CHUNK_KIND_RECENT,
};

const MODES: Record<InfillEnding, InfillMode> = {
  single_line: InfillMode.INFILL_MODE_SINGLE_LINE,
  multi_line: InfillMode.INFILL_MODE_MULTI_LINE,
  auto: InfillMode.INFILL_MODE_AUTO,
};

/** Connects at the first query. close() ends what runs. */
export function openGatewaySource(target: GatewayTarget): GatewaySource {
  let client = openClient(target);
  return {
    infill: (query, { signal }) => infill(client, query, target, signal),
    capabilities: async (model, { signal }) => {
      const known = await once<GetCapabilitiesResponse>(target, newTraceId(), signal, (metadata, options, done) =>
        client.getCapabilities({ model }, metadata, options, done),
      );
      return capabilitiesOf(known);
    },
    report: async (events, { signal }) => {
      const request = { events: events.map(eventOf) };
      await once<ReportEventsResponse>(target, newTraceId(), signal, (metadata, options, done) =>
        client.reportEvents(request, metadata, options, done),
      );
    },
    warm: async (query, { signal }) => {
      const request = { infill: requestOf(query) };
      await once<WarmResponse>(target, query.traceId, signal, (metadata, options, done) =>
        client.warm(request, metadata, options, done),
      );
    },
    reconnect(why) {
      // A channel that failed refuses calls until its next try, up to RECONNECT_MAX_MS away; a new one tries at once.
      const { IDLE, TRANSIENT_FAILURE } = connectivityState;
      const state = client.getChannel().getConnectivityState(false);
      if (why === 'asked' ? state !== TRANSIENT_FAILURE : state === IDLE) return;
      const old = client;
      client = openClient(target);
      old.close(); // calls that run end by themselves
    },
    close: () => client.close(),
  };
}

/** As grpc-js names it, without the scheme that says whether TLS is spoken. */
const addressOf = ({ address }: GatewayTarget): string => address.replace(/^https?:\/\//, '').replace(/\/$/, '');

function openClient(target: GatewayTarget): CompletionServiceClient {
  const address = addressOf(target);
  const isTls = target.address.startsWith('https://') || (target.ca !== null && !address.startsWith('unix:'));
  const secure = isTls ? credentials.createSsl(target.ca === null ? null : Buffer.from(target.ca)) : null;
  return new CompletionServiceClient(address, secure ?? credentials.createInsecure(), {
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
    'grpc.initial_reconnect_backoff_ms': RECONNECT_MIN_MS,
    'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS,
    'grpc.use_local_subchannel_pool': 1,
  });
}

type Done<Response> = (error: ServiceError | null, response: Response) => void;

/** One answer to one request. Throws InfillFailure. */
function once<Response>(
  target: GatewayTarget,
  traceId: string,
  signal: AbortSignal,
  send: (metadata: Metadata, options: { deadline: number }, done: Done<Response>) => ClientUnaryCall,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new InfillFailure('cancelled', 'cancelled before it was sent'));
    const options = { deadline: Date.now() + CALL_MS_MAX };
    const cancel = (): void => call.cancel();
    const call = send(metadataOf(target, traceId), options, (error, response) => {
      signal.removeEventListener('abort', cancel);
      if (error) reject(failureOf(error, target, signal));
      else resolve(response);
    });
    signal.addEventListener('abort', cancel, { once: true });
  });
}

function capabilitiesOf(known: GetCapabilitiesResponse): Capabilities {
  const { model, infill, fimFamily, tokenizerHash, chunksMax, modes, contextLength } = known;
  const { infillPromptTokens, modelHash, ready } = known;
  const all = Object.keys(MODES) as InfillEnding[];
  return {
    model,
    infill,
    fimFamily,
    tokenizerHash,
    chunksMax,
    ...{ contextLength, infillPromptTokens, modelHash, ready },
    endings: all.filter((one) => modes.includes(MODES[one])),
  };
}

async function* infill(
  client: CompletionServiceClient,
  query: InfillQuery,
  target: GatewayTarget,
  signal: AbortSignal,
): AsyncGenerator<InfillEvent, void, undefined> {
  if (signal.aborted) throw new InfillFailure('cancelled', 'cancelled before it was sent');
  const call = client.infill(requestOf(query), metadataOf(target, query.traceId));
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    yield* eventsOf(call);
  } catch (thrown) {
    throw failureOf(thrown, target, signal);
  } finally {
    signal.removeEventListener('abort', cancel);
    call.cancel(); // without effect once the status has come
  }
}

function metadataOf({ apiKey }: GatewayTarget, traceId: string): Metadata {
  const metadata = new Metadata();
  if (apiKey !== null) metadata.set('authorization', `Bearer ${apiKey}`);
  metadata.set('traceparent', traceparentOf(traceId));
  return metadata;
}

async function* eventsOf(call: ClientReadableStream<InfillResponse>): AsyncGenerator<InfillEvent> {
  call.on('error', () => {}); // told by the iteration; an error behind its end has no other listener
  for await (const { event } of call as AsyncIterable<InfillResponse>) {
    if (event?.$case === 'accepted') yield { kind: 'accepted', traceId: event.value.traceId };
    else if (event?.$case === 'delta') yield { kind: 'delta', index: event.value.index, text: event.value.text };
    else if (event?.$case === 'choiceFinished') {
      const { index, finishReason, scopeEnded = false } = event.value;
      yield { kind: 'finished', index, cut: finishReason !== FinishReason.FINISH_REASON_STOP, scopeEnded };
      if (finishReason === FinishReason.FINISH_REASON_SUPERSEDED) yield { kind: 'end', superseded: true };
    } else if (event?.$case === 'end') yield { kind: 'end', superseded: false };
  }
}

function failureOf(thrown: unknown, target: GatewayTarget, signal: AbortSignal): InfillFailure {
  if (signal.aborted) return new InfillFailure('cancelled', 'cancelled');
  const { code, details } = thrown as Partial<ServiceError>;
  if (typeof code !== 'number') return new InfillFailure('failed', String(thrown), { cause: thrown });
  const message = explainFailure({ code, details: details ?? '' }, addressOf(target));
  const retryAfterMs = retryAfterOf(thrown);
  return new InfillFailure(KINDS[code] ?? 'failed', message, { cause: thrown, retryAfterMs });
}

/** google.rpc.RetryInfo of the status, in milliseconds. */
function retryAfterOf(thrown: unknown): number | null {
  const packed = (thrown as Partial<ServiceError>).metadata?.get(STATUS_KEY)[0];
  if (!Buffer.isBuffer(packed)) return null;
  try {
    const found = Status.decode(packed).details.find(({ typeUrl }) => typeUrl === RETRY_INFO);
    const delay = found && RetryInfo.decode(found.value).retryDelay;
    return delay ? Number(delay.seconds) * 1_000 + delay.nanos / 1e6 : null;
  } catch {
    return null; // details that do not decode are as good as none
  }
}

function eventOf(event: ReportedEvent): SuggestionEvent {
  const { requestId, choice, reason, languageId, fromCache, elapsedMs, characters, afterSeconds } = event;
  return {
    ...{ requestId, choice, kind: EVENTS[event.kind], reason, languageId, fromCache },
    elapsedMs: elapsedMs ?? undefined,
    characters: characters ?? undefined,
    afterSeconds: afterSeconds ?? undefined,
  };
}

function requestOf(query: InfillQuery): InfillRequest {
  return {
    model: query.model,
    prefix: query.prefix,
    suffix: query.suffix,
    path: query.path,
    languageId: query.languageId,
    repository: query.repository,
    chunks: query.chunks.map(({ path, text, kind }) => ({ path, text, kind: kind && CHUNK_KINDS[kind] })),
    sampling: {
      maxTokens: query.maxTokens,
      temperature: query.temperature,
      n: query.candidates,
      logitBias: new Map(),
      stopTokenIds: [],
    },
    stop: [],
    options: {
      requestId: query.requestId,
      priorityClass: CLASSES[query.priority],
      supersedeKey: query.supersedeKey,
    },
    mode: MODES[query.ending],
    softDeadlineMs: query.softDeadlineMs,
  };
}
