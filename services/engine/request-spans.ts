// The engine's part of a request's trace: queue, prefill and decode below the span of its call, made after the fact. The
// engine measures durations on its monotonic clock and one wall-clock anchor per request.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import type { QuernError } from '#kit/errors.ts';
import {
  ATTR_BATCH_AVG,
  ATTR_BATCH_MAX,
  ATTR_CACHED_TOKENS,
  ATTR_COMPUTED_TOKENS,
  ATTR_DECODE_STEPS,
  ATTR_OUTCOME,
  ATTR_PREEMPTION_CAUSE,
  ATTR_PREEMPTIONS,
  ATTR_PREFILL_CHUNKS,
  ATTR_PRIORITY_CLASS,
  ATTR_QUEUE_POSITION,
  ATTR_REQUEST_ID,
  ATTR_TPOT_MAX_MS,
  ATTR_TPOT_P50_MS,
  ATTR_TPOT_P95_MS,
  ERROR_TYPE,
  GEN_AI_REQUEST_MODEL,
  GEN_AI_USAGE_INPUT_TOKENS,
  GEN_AI_USAGE_OUTPUT_TOKENS,
  RPC_METHOD,
  RPC_STATUS_CODE,
  RPC_SYSTEM_NAME,
  serverFault,
  VLLM_NAMES,
} from '#kit/semconv.ts';
import {
  child,
  extract,
  noSpans,
  nowUnixNs,
  type SpanAttributes,
  type SpanKind,
  type SpanSink,
  type TraceContext,
} from '#kit/trace.ts';
import { STEP_LINKS_MAX, STEPS_KEPT_MAX } from './limits.ts';
import type { NativeFinished, NativeRun } from './step-decoder.ts';
import { StepChooser, writeStep } from './step-spans.ts';
import { TokenPace } from './token-pace.ts';

const METHOD = 'quern.engine.v1.EngineService/Generate';
const CANCELLED = FinishReason.FINISH_REASON_CANCELLED;
const DEADLINE = FinishReason.FINISH_REASON_DEADLINE;

type LinkedStep = { context: TraceContext; ns: bigint };

/** What is kept of one live request for its spans. The phases' ids are fixed early: steps link to them before they end. */
export type RequestTrace = {
  readonly request: GenerationRequest;
  /** The span that the phases lie below. */
  readonly call: TraceContext;
  /** Of a request that came by a Session: its call has no span yet, this is above it. Null: the RPC's own span is there. */
  readonly parentSpanId: string | null;
  readonly prefill: TraceContext;
  readonly decode: TraceContext;
  readonly queuePosition: number;
  readonly prefillSteps: LinkedStep[];
  readonly decodeSteps: LinkedStep[];
  readonly pace: TokenPace;
};

export type SpanWriterOptions = {
  sink: SpanSink;
  model: string;
  /** One step of this many is shown. 0: only slow ones. */
  stepEvery?: number;
  /** Write vLLM's attribute names too. */
  vllmNames?: boolean;
};

/** Keeps the slowest of them. */
function keepStep(steps: LinkedStep[], step: LinkedStep): void {
  steps.push(step);
  if (steps.length <= STEPS_KEPT_MAX) return;
  steps.sort((a, b) => (a.ns < b.ns ? 1 : -1));
  steps.length = STEPS_KEPT_MAX;
}

/** The status of the call, as the gateway will read it. */
function statusOf(end: NativeFinished, error: QuernError | null): string {
  if (error) return error.code;
  const reason = end.choices[0]?.reason;
  if (reason === CANCELLED) return 'CANCELLED';
  return reason === DEADLINE ? 'DEADLINE_EXCEEDED' : 'OK';
}

function outcomeName(end: NativeFinished): string {
  const reason = end.choices[0]?.reason;
  const name = Object.entries(FinishReason).find(([, value]) => value === reason)?.[0] ?? 'unknown';
  return name.replace('FINISH_REASON_', '').toLowerCase();
}

/** Invariant: each request that begin() answered a trace for has its spans written once, by end(). */
export class SpanWriter {
  readonly #sink: SpanSink;
  readonly #model: string;
  readonly #vllmNames: boolean;
  readonly #chooser: StepChooser;

  constructor({ sink, model, stepEvery = 0, vllmNames = false }: SpanWriterOptions) {
    this.#sink = sink;
    this.#model = model;
    this.#vllmNames = vllmNames;
    this.#chooser = new StepChooser(stepEvery);
  }

  /** False: nothing is exported, and nobody needs to look at steps. */
  get active(): boolean {
    return this.#sink !== noSpans;
  }

  /** `own`: the span of the RPC that carries this request alone; null on a Session. Answers null when it is not recorded. */
  begin(request: GenerationRequest, own: TraceContext | null, queuePosition: number): RequestTrace | null {
    if (!this.active) return null;
    const stated = extract(request.traceparent, request.tracestate || undefined);
    // What the request itself says comes first; mostly it is the trace of its RPC, whose span is there already.
    const alone = own !== null && (!stated || stated.traceId === own.traceId);
    const parent = alone ? own : stated;
    if (!parent?.sampled) return null;
    const call = alone ? own : child(parent);
    return {
      request,
      call,
      parentSpanId: alone ? null : parent.spanId,
      prefill: child(call),
      decode: child(call),
      queuePosition,
      prefillSteps: [],
      decodeSteps: [],
      pace: new TokenPace(),
    };
  }

  /** Looks at one step of the model. `traceOf` finds the trace of a live request. */
  step(run: NativeRun, traceOf: (id: number) => RequestTrace | null | undefined): void {
    const { slices } = run;
    const endMs = Number((run.beginUnixNs + run.forwardNs) / 1000n) / 1000;
    const shown = this.#chooser.choose(run, performance.now());
    const linked: [LinkedStep[], TraceContext][] = [];
    for (let i = 0; i < slices.length; i += 3) {
      const trace = traceOf(slices[i]!);
      if (!trace) continue;
      const decodes = slices[i + 2] === 1;
      if (decodes) trace.pace.note(endMs, slices.length / 3);
      else trace.pace.prefilled(endMs);
      if (shown === null || linked.length >= STEP_LINKS_MAX) continue;
      linked.push(decodes ? [trace.decodeSteps, trace.decode] : [trace.prefillSteps, trace.prefill]);
    }
    if (shown === null) return;
    const links = linked.map(([, phase]) => phase);
    const context = writeStep(this.#sink, run, shown, links);
    if (!context) return;
    for (const [steps] of linked) keepStep(steps, { context, ns: run.forwardNs });
  }

  /** A submit on a Session that was refused: it has a call and no phases. */
  refused(request: GenerationRequest | undefined, error: QuernError): void {
    if (!this.active) return;
    const parent = extract(request?.traceparent, request?.tracestate || undefined);
    if (!parent?.sampled) return;
    const now = nowUnixNs();
    this.#write(child(parent), parent.spanId, METHOD, now, now, {
      kind: 'server',
      error: serverFault(error.code),
      attributes: this.#callAttributes(request?.requestId ?? '', error.code),
    });
  }

  #callAttributes(requestId: string, code: string): SpanAttributes {
    return {
      [RPC_SYSTEM_NAME]: 'grpc',
      [RPC_METHOD]: METHOD,
      [RPC_STATUS_CODE]: code,
      [GEN_AI_REQUEST_MODEL]: this.#model,
      [ATTR_REQUEST_ID]: requestId,
      ...(code !== 'OK' && { [ERROR_TYPE]: code }),
    };
  }

  end(trace: RequestTrace, end: NativeFinished, error: QuernError | null): void {
    const { request, call, parentSpanId } = trace;
    const start = end.receivedUnixNs;
    const tokensUntil = start + end.queueNs + end.prefillNs + end.decodeNs;
    const code = statusOf(end, error);
    // What ends early ends now, not with its last token.
    const now = nowUnixNs();
    const until = code === 'OK' || now < tokensUntil ? tokensUntil : now;
    if (parentSpanId !== null) {
      this.#write(call, parentSpanId, METHOD, start, until, {
        kind: 'server',
        error: serverFault(code),
        attributes: {
          ...this.#callAttributes(request.requestId, code),
          [GEN_AI_USAGE_INPUT_TOKENS]: end.promptTokens,
          [GEN_AI_USAGE_OUTPUT_TOKENS]: end.completionTokens,
          [ATTR_CACHED_TOKENS]: end.cachedTokens,
          [ATTR_PREEMPTIONS]: end.preemptions,
          [ATTR_OUTCOME]: outcomeName(end),
          ...(this.#vllmNames && vllmAttributes(request, end)),
        },
      });
    }
    this.#writePhases(trace, end);
  }

  #writePhases(trace: RequestTrace, end: NativeFinished): void {
    const { request, call } = trace;
    const start = end.receivedUnixNs;
    const prefillAt = start + end.queueNs;
    const decodeAt = prefillAt + end.prefillNs;
    this.#write(child(call), call.spanId, 'engine.queue', start, prefillAt, {
      attributes: { [ATTR_QUEUE_POSITION]: trace.queuePosition, [ATTR_PRIORITY_CLASS]: request.priorityClass },
    });
    if (end.prefillNs > 0n || trace.prefillSteps.length > 0) {
      this.#write(trace.prefill, call.spanId, 'engine.prefill', prefillAt, decodeAt, {
        links: trace.prefillSteps.map(({ context }) => context),
        attributes: {
          [GEN_AI_USAGE_INPUT_TOKENS]: end.promptTokens,
          [ATTR_CACHED_TOKENS]: end.cachedTokens,
          [ATTR_COMPUTED_TOKENS]: end.promptTokens - end.cachedTokens,
          [ATTR_PREFILL_CHUNKS]: end.prefillChunks,
        },
      });
    }
    if (end.decodeNs > 0n || trace.decodeSteps.length > 0) {
      this.#write(trace.decode, call.spanId, 'engine.decode', decodeAt, decodeAt + end.decodeNs, {
        links: trace.decodeSteps.map(({ context }) => context),
        attributes: { [ATTR_DECODE_STEPS]: end.decodeSteps, ...paceAttributes(trace.pace) },
      });
    }
    for (const { afterNs, ns, displaced } of end.preempted) {
      this.#write(child(call), call.spanId, 'engine.preempted', start + afterNs, start + afterNs + ns, {
        attributes: { [ATTR_PREEMPTION_CAUSE]: displaced ? 'displaced' : 'kv_full' },
      });
    }
  }

  #write(
    context: TraceContext,
    parentSpanId: string,
    name: string,
    startUnixNs: bigint,
    endUnixNs: bigint,
    rest: { kind?: SpanKind; error?: string | null; attributes: SpanAttributes; links?: TraceContext[] },
  ): void {
    const { kind = 'internal', error = null, attributes, links = [] } = rest;
    this.#sink.record({
      context,
      parentSpanId,
      name,
      kind,
      startUnixNs,
      endUnixNs,
      attributes,
      events: [],
      links,
      error,
    });
  }
}

function paceAttributes(pace: TokenPace): SpanAttributes {
  const found = pace.summary();
  if (!found) return {};
  return {
    [ATTR_TPOT_P50_MS]: found.p50Ms,
    [ATTR_TPOT_P95_MS]: found.p95Ms,
    [ATTR_TPOT_MAX_MS]: found.maxMs,
    [ATTR_BATCH_AVG]: found.batchAvg,
    [ATTR_BATCH_MAX]: found.batchMax,
  };
}

/** Seconds, as vLLM writes them. */
function vllmAttributes(request: GenerationRequest, end: NativeFinished): SpanAttributes {
  const seconds = (ns: bigint): number => Number(ns) / 1e9;
  return {
    [VLLM_NAMES.requestId]: request.requestId,
    [VLLM_NAMES.choices]: request.sampling?.n ?? 1,
    [VLLM_NAMES.promptTokens]: end.promptTokens,
    [VLLM_NAMES.completionTokens]: end.completionTokens,
    [VLLM_NAMES.queueSeconds]: seconds(end.queueNs),
    [VLLM_NAMES.firstTokenSeconds]: seconds(end.queueNs + end.prefillNs),
    [VLLM_NAMES.prefillSeconds]: seconds(end.prefillNs),
    [VLLM_NAMES.decodeSeconds]: seconds(end.decodeNs),
    [VLLM_NAMES.inferenceSeconds]: seconds(end.prefillNs + end.decodeNs),
    [VLLM_NAMES.totalSeconds]: seconds(end.queueNs + end.prefillNs + end.decodeNs),
  };
}
