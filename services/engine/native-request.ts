// From the wire's GenerationRequest to the engine's: defaults, and the checks that only this side can make. Ranges are
// checked by the engine itself, whose refusals name the field.
import { PriorityClass, type SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { QuernError } from '#kit/errors.ts';
import { REQUEST_ID_MAX_CHARS } from './limits.ts';
import type { NativeRequest } from './native.ts';

function refuse(field: string, description: string): never {
  throw new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

function idsOrNull(ids: readonly number[]): Uint32Array | null {
  return ids.length === 0 ? null : Uint32Array.from(ids);
}

function samplingFields(sampling: SamplingParams | undefined, fitting: number) {
  const bias = sampling?.logitBias;
  const hasBias = bias !== undefined && bias.size > 0;
  return {
    maxTokens: sampling?.maxTokens ?? fitting,
    minTokens: sampling?.minTokens ?? null,
    temperature: sampling?.temperature ?? null,
    topP: sampling?.topP ?? null,
    topK: sampling?.topK ?? null,
    minP: sampling?.minP ?? null,
    repetitionPenalty: sampling?.repetitionPenalty ?? null,
    frequencyPenalty: sampling?.frequencyPenalty ?? null,
    presencePenalty: sampling?.presencePenalty ?? null,
    seed: sampling?.seed ?? null,
    stopTokenIds: idsOrNull(sampling?.stopTokenIds ?? []),
    ignoreEos: sampling?.ignoreEos ?? null,
    logprobs: sampling?.logprobs ?? null,
    promptLogprobs: sampling?.promptLogprobs ?? null,
    n: sampling?.n ?? null,
    logitBiasIds: hasBias ? Uint32Array.from(bias.keys()) : null,
    logitBiasValues: hasBias ? Float32Array.from(bias.values()) : null,
  };
}

/** max_tokens 0 is prefill only, whatever class was named; an unnamed class is CHAT. */
function classOf(request: GenerationRequest, maxTokens: number): number {
  if (maxTokens === 0) return PriorityClass.PRIORITY_CLASS_WARM;
  const given = request.priorityClass;
  return given === PriorityClass.PRIORITY_CLASS_UNSPECIFIED ? PriorityClass.PRIORITY_CLASS_CHAT : given;
}

/** Throws INVALID_ARGUMENT with the field's path. `id` is the engine's own name for the request. */
export function toNativeRequest(
  request: GenerationRequest | undefined,
  options: { id: number; contextLength: number; timeoutMs: number | null },
): NativeRequest {
  if (!request) refuse('request', 'expected a GenerationRequest, got none');
  const { requestId } = request;
  if (requestId.length < 1 || requestId.length > REQUEST_ID_MAX_CHARS) {
    refuse('request.request_id', `expected 1 to ${REQUEST_ID_MAX_CHARS} characters, got ${requestId.length}`);
  }
  const fitting = Math.max(1, options.contextLength - request.tokenIds.length);
  const sampling = samplingFields(request.sampling, fitting);
  const timeouts = [request.timeoutMs, options.timeoutMs].filter((ms) => ms !== undefined && ms !== null);
  const priorityClass = classOf(request, sampling.maxTokens);
  if (priorityClass < 1 || priorityClass > 6) {
    refuse('request.priority_class', `expected a named PriorityClass, got ${priorityClass}`);
  }
  return {
    id: options.id,
    tokenIds: Uint32Array.from(request.tokenIds),
    resumeTokenIds: idsOrNull(request.resumeTokenIds),
    ...sampling,
    tenant: request.tenant,
    cacheSalt: request.cacheSalt,
    publicPrefixTokens: request.publicPrefixTokens,
    priorityClass,
    priority: request.priority,
    timeoutMs: timeouts.length === 0 ? null : Math.min(...timeouts),
    supersedeKey: request.supersedeKey,
    principal: request.principal,
  };
}
