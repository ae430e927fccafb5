// The engine's series under Quern's names, and under vLLM's where dashboards of vLLM expect them. All carry the label model_name.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import {
  ITL_BUCKETS_SECONDS,
  LATENCY_BUCKETS_SECONDS,
  type Metrics,
  TOKEN_BUCKETS,
  TTFT_BUCKETS_SECONDS,
} from '#kit/metrics.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { NativeLoad } from './native.ts';
import type { NativeFinished, NativeStep } from './step-decoder.ts';

export type EngineMetrics = {
  step(step: NativeStep): void;
  /** `trace`: of the request, for exemplars. */
  finished(end: NativeFinished, options: { cancelledForMs: number | null; trace: TraceContext | null }): void;
  /** A cancel was given to the engine; `finished` with cancelledForMs releases its slot. */
  cancelled(): void;
  refused(code: string): void;
  /** Carries cumulative native counts over; called about once a second. */
  follow(load: NativeLoad): void;
};

const REASONS: Record<number, string> = {
  [FinishReason.FINISH_REASON_STOP]: 'stop',
  [FinishReason.FINISH_REASON_LENGTH]: 'length',
  [FinishReason.FINISH_REASON_CANCELLED]: 'abort',
  [FinishReason.FINISH_REASON_DEADLINE]: 'deadline',
  [FinishReason.FINISH_REASON_SUPERSEDED]: 'superseded',
  [FinishReason.FINISH_REASON_ERROR]: 'error',
};

const seconds = (ns: bigint): number => Number(ns) / 1e9;

export type EngineMetricsOptions = {
  metrics: Metrics;
  model: string;
  /** Tokens of one KV block. */
  blockSize: number;
  load: () => NativeLoad;
  orphans: () => number;
  /** Slots of held KV blocks that hold no token. */
  emptySlots: () => number;
};

function gauges({ metrics, model, blockSize, load, orphans, emptySlots }: EngineMetricsOptions): void {
  /** The same value under several names. */
  const gauge = (names: string, help: string, read: (load: NativeLoad) => number): void => {
    for (const name of names.split(' ')) {
      const collect = (set: (value: number, labels: { model_name: string }) => void): void =>
        set(read(load()), { model_name: model });
      metrics.gauge({ name, help, labels: ['model_name'], collect });
    }
  };
  gauge(
    'quern_engine_requests_running vllm:num_requests_running',
    'Sequences in the running batch',
    (now) => now.running,
  );
  gauge(
    'quern_engine_requests_waiting vllm:num_requests_waiting',
    'Sequences that wait for a place',
    (now) => now.waiting,
  );
  gauge('quern_engine_kv_used_ratio vllm:kv_cache_usage_perc', 'Share of KV blocks held by sequences, 0 to 1', kvUsage);
  gauge('quern_engine_waiting_prompt_tokens', 'Prompt tokens that wait for prefill', (now) => now.waitingPromptTokens);
  gauge('quern_engine_kv_blocks', 'KV blocks in all', (now) => now.numBlocks);
  gauge('quern_engine_kv_block_size', 'Tokens that one KV block holds', () => blockSize);
  gauge('quern_engine_kv_free_blocks', 'KV blocks free or only caching a prefix', (now) => now.freeBlocks);
  gauge('quern_engine_kv_cached_blocks', 'Free KV blocks that hold a prefix', (now) => now.cachedBlocks);
  gauge(
    'quern_engine_kv_fragmentation_ratio',
    'Share of the slots in held KV blocks that hold no token: the open ends of last blocks, 0 to 1',
    (now) => {
      const slots = (now.numBlocks - now.freeBlocks) * blockSize;
      return slots === 0 ? 0 : Math.min(1, emptySlots() / slots);
    },
  );
  gauge(
    'quern_engine_generation_tokens_per_second',
    'Generated tokens per second over the last 10 s',
    (now) => now.generationTokensPerS,
  );
  gauge(
    'quern_engine_prompt_tokens_per_second',
    'Computed prompt tokens per second over the last 10 s',
    (now) => now.promptTokensPerS,
  );
  gauge('quern_engine_orphan_requests', 'Requests whose caller has gone and that still run', orphans);
  metrics.gauge({
    name: 'vllm:cache_config_info',
    help: 'Geometry of the KV cache, always 1',
    labels: ['model_name', 'block_size', 'num_gpu_blocks'],
    collect: (set) => set(1, { model_name: model, block_size: blockSize, num_gpu_blocks: load().numBlocks }),
  });
}

/** Share of blocks that sequences hold, 0..1. */
export function kvUsage(load: NativeLoad): number {
  return load.numBlocks === 0 ? 0 : (load.numBlocks - load.freeBlocks) / load.numBlocks;
}

/** Slots of the last block of a sequence of `tokens` that hold none. */
export function openSlots(tokens: number, blockSize: number): number {
  return (blockSize - (tokens % blockSize)) % blockSize;
}

function histograms(metrics: Metrics, model: string) {
  /** One observer for the same value under several names. */
  const make = (names: string, help: string, buckets: readonly number[]) => {
    const observers = names
      .split(' ')
      .map((name) => metrics.histogram({ name, help, buckets, labels: ['model_name'] }).series({ model_name: model }));
    return (value: number, trace: TraceContext | null = null): void => {
      for (const observe of observers) observe(value, trace);
    };
  };
  return {
    ttft: make('vllm:time_to_first_token_seconds', 'Submit to first token', TTFT_BUCKETS_SECONDS),
    itl: make('vllm:inter_token_latency_seconds', 'Mean time between tokens of a request', ITL_BUCKETS_SECONDS),
    e2e: make('vllm:e2e_request_latency_seconds', 'Submit to last token', LATENCY_BUCKETS_SECONDS),
    queue: make(
      'quern_engine_queue_seconds vllm:request_queue_time_seconds',
      'Submit to first scheduled step',
      LATENCY_BUCKETS_SECONDS,
    ),
    prefill: make(
      'quern_engine_prefill_seconds vllm:request_prefill_time_seconds',
      'First step to first token',
      LATENCY_BUCKETS_SECONDS,
    ),
    decode: make(
      'quern_engine_decode_seconds vllm:request_decode_time_seconds',
      'First to last token',
      LATENCY_BUCKETS_SECONDS,
    ),
    prompt: make('vllm:request_prompt_tokens', 'Prompt tokens per request', TOKEN_BUCKETS),
    generated: make('vllm:request_generation_tokens', 'Generated tokens per request', TOKEN_BUCKETS),
    perStep: make(
      'quern_engine_step_tokens vllm:iteration_tokens_total',
      'Prefill and decode tokens of one step',
      TOKEN_BUCKETS,
    ),
    forward: make('quern_engine_step_seconds', 'Time of the model in one step', ITL_BUCKETS_SECONDS),
    chunks: make('quern_engine_prefill_chunks_count', 'Prefill chunks per request', TOKEN_BUCKETS),
    cancel: make('quern_engine_cancel_latency_seconds', 'Cancel to the end of the request', TTFT_BUCKETS_SECONDS),
  };
}

type Count = (by: number, labels?: Record<string, string>) => void;

function counters(metrics: Metrics, model: string) {
  const counter = (name: string, help: string, extra: string[] = []): Count => {
    const metric = metrics.counter({ name, help, labels: ['model_name', ...extra] });
    // Without an extra label there from the start, so that the first event is an increase.
    if (extra.length === 0) metric.inc({ model_name: model }, 0);
    return (by, labels = {}) => {
      if (by > 0) metric.inc({ model_name: model, ...labels }, by);
    };
  };
  const both = (...counts: Count[]): Count => {
    return (by, labels) => {
      for (const count of counts) count(by, labels);
    };
  };
  const prefix = counter('quern_engine_prefix_tokens_total', 'Prompt tokens by look-up in the prefix cache', [
    'result',
  ]);
  const preempted = 'Sequences preempted by recompute';
  const ended = 'Finished choices by reason';
  return {
    promptTokens: counter('vllm:prompt_tokens_total', 'Prompt tokens of finished requests'),
    cachedTokens: counter('vllm:prompt_tokens_cached_total', 'Of these, served by the prefix cache'),
    generationTokens: counter('vllm:generation_tokens_total', 'Generated tokens'),
    requests: counter('quern_engine_requests_total', ended, ['reason']),
    success: counter('vllm:request_success_total', ended, ['finished_reason']),
    rejections: counter('vllm:admission_rejections_total', 'Requests refused at submit', ['reason']),
    preemptions: both(
      counter('quern_engine_preemptions_total', preempted),
      counter('vllm:num_preemptions_total', preempted),
    ),
    queries: both(
      (by) => prefix(by, { result: 'queried' }),
      counter('vllm:prefix_cache_queries_total', 'Prompt tokens looked up in the prefix cache'),
    ),
    hits: both((by) => prefix(by, { result: 'hit' }), counter('vllm:prefix_cache_hits_total', 'Of these, found')),
    steps: counter('quern_engine_steps_total', 'Finished engine steps'),
    slotsCancelled: counter('quern_engine_slots_cancelled_total', 'Requests whose cancel was given to the engine'),
    slotsReleased: counter('quern_engine_slots_released_total', 'Of these, ended by the engine'),
  };
}

export function createEngineMetrics(options: EngineMetricsOptions): EngineMetrics {
  const { metrics, model } = options;
  gauges(options);
  const observe = histograms(metrics, model);
  const count = counters(metrics, model);
  let seen = { preemptions: 0, prefixQueryTokens: 0, prefixHitTokens: 0, steps: 0 };

  return {
    step({ tokens, run }) {
      count.generationTokens(tokens.length);
      if (!run) return;
      observe.perStep(run.prefillTokens + run.decodeTokens);
      observe.forward(seconds(run.forwardNs));
    },
    finished(end, { cancelledForMs, trace }) {
      count.promptTokens(end.promptTokens);
      count.cachedTokens(end.cachedTokens);
      for (const choice of end.choices) {
        const reason = REASONS[choice.reason] ?? 'error';
        count.requests(1, { reason });
        count.success(1, { finished_reason: reason });
      }
      observe.queue(seconds(end.queueNs), trace);
      observe.prompt(end.promptTokens);
      observe.e2e(seconds(end.queueNs + end.prefillNs + end.decodeNs), trace);
      if (cancelledForMs !== null) {
        count.slotsReleased(1);
        observe.cancel(cancelledForMs / 1e3, trace);
      }
      if (end.completionTokens === 0) return;
      observe.ttft(seconds(end.queueNs + end.prefillNs), trace);
      observe.prefill(seconds(end.prefillNs), trace);
      observe.chunks(end.prefillChunks);
      observe.decode(seconds(end.decodeNs), trace);
      observe.generated(end.completionTokens);
      const gaps = end.completionTokens / Math.max(1, end.choices.length) - 1;
      if (gaps > 0) observe.itl(seconds(end.decodeNs) / gaps, trace);
    },
    cancelled: () => count.slotsCancelled(1),
    refused: (code) => count.rejections(1, { reason: code.toLowerCase() }),
    follow(load) {
      count.preemptions(load.preemptions - seen.preemptions);
      count.queries(load.prefixQueryTokens - seen.prefixQueryTokens);
      count.hits(load.prefixHitTokens - seen.prefixHitTokens);
      count.steps(load.steps - seen.steps);
      seen = { ...load };
    },
  };
}
