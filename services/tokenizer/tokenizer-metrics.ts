// What the tokenizer counts: tokens by RPC, the calls that come through sessions, and which models it holds.
import { type Metrics, RPC_BUCKETS_SECONDS } from '#kit/metrics.ts';
import type { TraceContext } from '#kit/trace.ts';
import type { LoadedModel } from './loaded-model.ts';

export type TokenizerMetrics = {
  /** Tokens that an RPC made from text. */
  countTokens(rpc: string, tokens: number): void;
  /** One call that came as a message of a session, by the RPC that it stands for. `code`: how it ended. */
  sessionCall(rpc: string, seconds: number, code: string, trace: TraceContext): void;
};

export function createTokenizerMetrics(metrics: Metrics, models: readonly LoadedModel[]): TokenizerMetrics {
  const tokens = metrics.counter({
    name: 'quern_tokenizer_tokens_total',
    help: 'Tokens made from text, by RPC',
    labels: ['rpc'],
  });
  const calls = metrics.histogram({
    name: 'quern_tokenizer_session_call_duration_seconds',
    help: 'Time of one call that came through a session, by RPC and status code',
    labels: ['rpc', 'code'],
    buckets: RPC_BUCKETS_SECONDS,
  });
  const vocabulary = metrics.gauge({
    name: 'quern_tokenizer_vocabulary_tokens',
    help: 'Tokens in the vocabulary of a served model; fast="no" is encoded by the library, which is slow',
    labels: ['model', 'fast'],
  });
  for (const { name, tokenizer } of models) {
    vocabulary.set(tokenizer.vocabulary.size, { model: name, fast: tokenizer.isByteLevel ? 'yes' : 'no' });
  }
  return {
    countTokens: (rpc, count) => tokens.inc({ rpc }, count),
    sessionCall: (rpc, seconds, code, trace) => calls.observe(seconds, { rpc, code }, trace),
  };
}
