// The engine's series: vLLM's names where dashboards expect them (label model_name), quern_engine_* for the rest.
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import {
  ITL_BUCKETS_SECONDS,
  LATENCY_BUCKETS_SECONDS,
  type Metrics,
  TOKEN_BUCKETS,
  TTFT_BUCKETS_SECONDS,
} from '#kit/metrics.ts';
import type { NativeLoad } from './native.ts';
import type { NativeFinished, NativeStep } from './step-decoder.ts';

export type EngineMetrics = {
  step(step: NativeStep): void;
  finished(end: NativeFinished, options: { cancelledForMs: number | null }): void;
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

function gauges(metrics: Metrics, model: string, load: () => NativeLoad, orphans: () => number): void {
  const gauge = (name: string, help: string, read: (load: NativeLoad) => number): void => {
    metrics.gauge({
      name,
      help,
      labels: ['model_name'],
      collect: (set) => set(read(load()), { model_name: model }),
    });
  };
  gauge('vllm:num_requests_running', 'Sequences in the running batch', (now) => now.running);
  gauge('vllm:num_requests_waiting', 'Sequences that wait for a place', (now) => now.waiting);
  gauge('vllm:kv_cache_usage_perc', 'Share of KV blocks held by sequences, 0 to 1', kvUsage);
  gauge('quern_engine_waiting_prompt_tokens', 'Prompt tokens that wait for prefill', (now) => now.waitingPromptTokens);
  gauge('quern_engine_kv_free_blocks', 'KV blocks free or only caching a prefix', (now) => now.freeBlocks);
  gauge('quern_engine_kv_cached_blocks', 'Free KV blocks that hold a prefix', (now) => now.cachedBlocks);
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
}

/** Share of blocks that sequences hold, 0..1. */
export function kvUsage(load: NativeLoad): number {
  return load.numBlocks === 0 ? 0 : (load.numBlocks - load.freeBlocks) / load.numBlocks;
}

function histograms(metrics: Metrics, model: string) {
  const make = (name: string, help: string, buckets: readonly number[]): ((value: number) => void) => {
    const metric = metrics.histogram({ name, help, buckets, labels: ['model_name'] });
    return (value) => metric.observe(value, { model_name: model });
  };
  return {
    ttft: make('vllm:time_to_first_token_seconds', 'Submit to first token', TTFT_BUCKETS_SECONDS),
    itl: make('vllm:inter_token_latency_seconds', 'Mean time between tokens of a request', ITL_BUCKETS_SECONDS),
    e2e: make('vllm:e2e_request_latency_seconds', 'Submit to last token', LATENCY_BUCKETS_SECONDS),
    queue: make('vllm:request_queue_time_seconds', 'Submit to first scheduled step', LATENCY_BUCKETS_SECONDS),
    prefill: make('vllm:request_prefill_time_seconds', 'First step to first token', LATENCY_BUCKETS_SECONDS),
    decode: make('vllm:request_decode_time_seconds', 'First to last token', LATENCY_BUCKETS_SECONDS),
    prompt: make('vllm:request_prompt_tokens', 'Prompt tokens per request', TOKEN_BUCKETS),
    generated: make('vllm:request_generation_tokens', 'Generated tokens per request', TOKEN_BUCKETS),
    perStep: make('quern_engine_step_generated_tokens', 'Tokens generated in one step', TOKEN_BUCKETS),
    cancel: make('quern_engine_cancel_latency_seconds', 'Cancel to the end of the request', TTFT_BUCKETS_SECONDS),
  };
}

export function createEngineMetrics(options: {
  metrics: Metrics;
  model: string;
  load: () => NativeLoad;
  orphans: () => number;
}): EngineMetrics {
  const { metrics, model } = options;
  gauges(metrics, model, options.load, options.orphans);
  const observe = histograms(metrics, model);
  const counter = (name: string, help: string, extra: string[] = []) => {
    const metric = metrics.counter({ name, help, labels: ['model_name', ...extra] });
    return (by: number, labels: Record<string, string> = {}): void => {
      if (by > 0) metric.inc({ model_name: model, ...labels }, by);
    };
  };
  const promptTokens = counter('vllm:prompt_tokens_total', 'Prompt tokens of finished requests');
  const cachedTokens = counter('vllm:prompt_tokens_cached_total', 'Of these, served by the prefix cache');
  const generationTokens = counter('vllm:generation_tokens_total', 'Generated tokens');
  const success = counter('vllm:request_success_total', 'Finished choices by reason', ['finished_reason']);
  const rejections = counter('vllm:admission_rejections_total', 'Requests refused at submit', ['reason']);
  const preemptions = counter('vllm:num_preemptions_total', 'Sequences preempted by recompute');
  const queries = counter('vllm:prefix_cache_queries_total', 'Prompt tokens looked up in the prefix cache');
  const hits = counter('vllm:prefix_cache_hits_total', 'Of these, found');
  const steps = counter('quern_engine_steps_total', 'Finished engine steps');
  let seen = { preemptions: 0, prefixQueryTokens: 0, prefixHitTokens: 0, steps: 0 };

  return {
    step(step) {
      if (step.tokens.length === 0) return;
      generationTokens(step.tokens.length);
      observe.perStep(step.tokens.length);
    },
    finished(end, { cancelledForMs }) {
      promptTokens(end.promptTokens);
      cachedTokens(end.cachedTokens);
      for (const { reason } of end.choices) success(1, { finished_reason: REASONS[reason] ?? 'error' });
      observe.queue(seconds(end.queueNs));
      observe.prompt(end.promptTokens);
      observe.e2e(seconds(end.queueNs + end.prefillNs + end.decodeNs));
      if (cancelledForMs !== null) observe.cancel(cancelledForMs / 1e3);
      if (end.completionTokens === 0) return;
      observe.ttft(seconds(end.queueNs + end.prefillNs));
      observe.prefill(seconds(end.prefillNs));
      observe.decode(seconds(end.decodeNs));
      observe.generated(end.completionTokens);
      const gaps = end.completionTokens / Math.max(1, end.choices.length) - 1;
      if (gaps > 0) observe.itl(seconds(end.decodeNs) / gaps);
    },
    refused: (code) => rejections(1, { reason: code.toLowerCase() }),
    follow(load) {
      preemptions(load.preemptions - seen.preemptions);
      queries(load.prefixQueryTokens - seen.prefixQueryTokens);
      hits(load.prefixHitTokens - seen.prefixHitTokens);
      steps(load.steps - seen.steps);
      seen = { ...load };
    },
  };
}
