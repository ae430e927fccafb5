// What the engine is asked for: the caller's sampling made whole and checked against the model, and identity that the
// caller cannot choose.
import { randomFillSync } from 'node:crypto';
import { PriorityClass, type SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { type Principal, principalKey } from '#kit/principal.ts';
import { inject, type TraceContext } from '#kit/trace.ts';
import { TIMEOUT_MS_MAX } from './limits.ts';
import { isNoRoom, type RenderedPrompt } from './prompt-rendering.ts';
import { invalidArgument, type TypedRequest } from './typed-request.ts';

const seeds = new BigUint64Array(256);
let seedsUsed = seeds.length;

/** Drawn in bulk: one call into the kernel's generator costs more than the rest of this file. */
function randomSeed(): bigint {
  if (seedsUsed === seeds.length) {
    randomFillSync(seeds);
    seedsUsed = 0;
  }
  const seed = seeds[seedsUsed] as bigint;
  seedsUsed += 1;
  return seed;
}

/** The class asked for (else the method's), not above the key's ceiling. A smaller number is stronger. */
export function effectiveClass(request: TypedRequest, principal: Principal): PriorityClass {
  const asked = request.priorityClass;
  const usual = request.method === 'chat' ? PriorityClass.PRIORITY_CLASS_CHAT : PriorityClass.PRIORITY_CLASS_AUTOMATIC;
  const wanted = request.sampling.maxTokens === 0 ? PriorityClass.PRIORITY_CLASS_WARM : asked > 0 ? asked : usual;
  return wanted < principal.priorityCeiling ? principal.priorityCeiling : wanted;
}

/** The end of what a request hears that is too long. */
export const SHORTEN = 'shorten the prompt or lower max_tokens';

function refuseLength(request: TypedRequest, size: number, asked: number | undefined, context: number): never {
  const parts =
    asked === undefined
      ? `${size} in the prompt`
      : `${size + asked} (${size} in the prompt, ${asked} in the completion)`;
  const most = `this model's maximum context length is ${context} tokens`;
  const message = `${most}, but the request has ${parts}; ${SHORTEN}`;
  const field = request.prompt.kind === 'chat' ? 'messages' : 'prompt';
  const details = { reason: 'CONTEXT_LENGTH_EXCEEDED', fields: [{ field, description: message }] };
  throw new QuernError('INVALID_ARGUMENT', message, details);
}

/** `thrown`, or for an infill whose max_tokens leaves its prompt no room an error that says so: the tokenizer has not seen it. */
export function refuseInfillRoom(
  thrown: unknown,
  { sampling: { maxTokens }, promptTokensMax }: TypedRequest,
  { contextLength, samplingPrefix }: { contextLength: number; samplingPrefix: string },
): unknown {
  if (!isNoRoom(thrown) || maxTokens === undefined) return thrown;
  const left = Math.max(0, contextLength - maxTokens);
  if (promptTokensMax !== undefined && promptTokensMax < left) return thrown; // it names that field
  const most = `this model's maximum context length is ${contextLength} tokens`;
  const message = `${most}, of which max_tokens (${maxTokens}) leaves ${left} for the prompt, too few for an infill; lower max_tokens`;
  const fields = [{ field: `${samplingPrefix}max_tokens`, description: message }];
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'CONTEXT_LENGTH_EXCEEDED', fields }, { cause: thrown });
}

/** The caller's sampling, else the model's own, with all set that must not change between engines. Throws CONTEXT_LENGTH_EXCEEDED. */
export function fitSampling(
  request: TypedRequest,
  prompt: RenderedPrompt,
  { contextLength, defaults }: { contextLength: number; defaults?: SamplingParams | undefined },
): SamplingParams {
  const wanted = request.sampling;
  const size = prompt.tokenIds.length;
  if (size === 0) throw invalidArgument([{ field: 'prompt', description: 'expected at least one token, got none' }]);
  const fitting = Math.min(contextLength - size, request.completionTokensMax ?? contextLength);
  const maxTokens = wanted.maxTokens ?? fitting;
  const none = wanted.maxTokens === undefined && maxTokens < 1;
  if (none || size + maxTokens > contextLength) refuseLength(request, size, wanted.maxTokens, contextLength);
  return {
    ...wanted,
    temperature: wanted.temperature ?? defaults?.temperature,
    topP: wanted.topP ?? defaults?.topP,
    topK: wanted.topK ?? defaults?.topK,
    minP: wanted.minP ?? defaults?.minP,
    repetitionPenalty: wanted.repetitionPenalty ?? defaults?.repetitionPenalty,
    maxTokens,
    n: wanted.n ?? 1,
    // Drawn here so that a request carried over to another engine goes on with the same random numbers.
    seed: wanted.seed ?? randomSeed(),
    stopTokenIds: [...new Set([...wanted.stopTokenIds, ...prompt.stopTokenIds])],
    promptLogprobs: wanted.promptLogprobs ?? (request.echo ? wanted.logprobs : undefined),
  };
}

export type Submission = {
  requestId: string;
  principal: Principal;
  /** The span that the engine's lie below. */
  trace: TraceContext;
  request: TypedRequest;
  prompt: RenderedPrompt;
  sampling: SamplingParams;
  cacheSalt: string;
  /** Choices that this handle carries. */
  n: number;
  resumeTokenIds: readonly number[];
  promptLogprobs: boolean;
  elapsedMs: number;
};

/** One handle's request. */
export function engineRequest(submission: Submission): GenerationRequest {
  const { principal, trace, request, prompt, sampling, elapsedMs } = submission;
  const { traceparent, tracestate = '' } = inject(trace);
  const leftMs = request.timeoutMs === null ? undefined : Math.floor(request.timeoutMs - elapsedMs);
  const promptLogprobs = submission.promptLogprobs ? sampling.promptLogprobs : undefined;
  return {
    requestId: submission.requestId,
    tokenIds: prompt.tokenIds as number[],
    sampling: { ...sampling, n: submission.n, promptLogprobs },
    tenant: principal.tenant,
    cacheSalt: submission.cacheSalt,
    publicPrefixTokens: prompt.publicPrefixTokens,
    priorityClass: effectiveClass(request, principal),
    priority: request.priority,
    timeoutMs: leftMs === undefined ? undefined : Math.max(1, Math.min(leftMs, TIMEOUT_MS_MAX)),
    supersedeKey: request.supersedeKey,
    principal: principalKey(principal),
    resumeTokenIds: submission.resumeTokenIds as number[],
    traceparent,
    tracestate,
  };
}
