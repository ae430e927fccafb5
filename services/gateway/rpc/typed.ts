// From the messages of the public API to the typed request.
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import {
  type CallOptions,
  type ChatRequest,
  type CompleteRequest,
  type InfillRequest,
  ToolChoice,
} from '#gen/quern/gateway/v1/gateway.ts';
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { CallContext } from '#kit/rpc/server.ts';
import { hostOfPeer } from '#kit/rpc/surface.ts';
import type { Caller } from '../generation-events.ts';
import { COMPLETION_TOKENS_DEFAULT, INFILL_TOKENS_DEFAULT } from '../limits.ts';
import { infillEnd } from '../scope/infill-end.ts';
import { emptySampling, invalidArgument, type Prompt, REQUEST_ID, type TypedRequest } from '../typed-request.ts';

type Common = Omit<
  TypedRequest,
  'method' | 'model' | 'prompt' | 'sampling' | 'stop' | 'modeStop' | 'echo' | 'softDeadlineMs'
>;

export function callerOf(call: CallContext): Caller {
  const { principal, trace, signal, peer } = call;
  return { principal, trace, signal, client: hostOfPeer(peer), samplingPrefix: 'sampling.' };
}

function common(options: CallOptions | undefined, call: CallContext): Common {
  const fallbackId = REQUEST_ID.test(call.requestId) ? call.requestId : '';
  return {
    requestId: options?.requestId || fallbackId,
    priorityClass: options?.priorityClass ?? 0,
    priority: options?.priority ?? 0,
    supersedeKey: options?.supersedeKey ?? '',
    coalesceMs: options?.coalesceMs ?? 0,
    returnTokenIds: options?.returnTokenIds ?? false,
    timeoutMs: call.deadlineUnixMs === null ? null : Math.max(1, call.deadlineUnixMs - Date.now()),
  };
}

function completePrompt(request: CompleteRequest): Prompt {
  const { prompt, suffix } = request;
  const refuse = (field: string, description: string): never => {
    throw invalidArgument([{ field, description }]);
  };
  if (!prompt) return refuse('prompt', 'expected text or token_ids, got none');
  if (suffix !== undefined) {
    if (prompt.$case !== 'text') return refuse('suffix', 'expected a prompt given as text beside it, got token_ids');
    return { kind: 'infill', prefix: prompt.value, suffix, path: '', repository: '', chunks: [] };
  }
  if (prompt.$case === 'tokenIds') return { kind: 'token_ids', tokenIds: prompt.value.ids };
  const parseSpecial = request.parseSpecial ?? ParseSpecial.PARSE_SPECIAL_ALL;
  return { kind: 'text', text: prompt.value, parseSpecial, addBos: true };
}

export function typedComplete(request: CompleteRequest | undefined, call: CallContext): TypedRequest {
  if (!request) throw new QuernError('INVALID_ARGUMENT', 'request: expected a CompleteRequest, got none');
  const sampling = request.sampling ?? emptySampling();
  return {
    ...common(request.options, call),
    method: 'complete',
    model: request.model,
    prompt: completePrompt(request),
    sampling: { ...sampling, maxTokens: sampling.maxTokens ?? COMPLETION_TOKENS_DEFAULT },
    stop: request.stop,
    modeStop: [],
    echo: request.echo,
    softDeadlineMs: null,
  };
}

/** Only Complete's answers have a place for log probabilities of the prompt. */
function withoutPromptLogprobs(sampling: SamplingParams = emptySampling()): SamplingParams {
  if (sampling.promptLogprobs === undefined) return sampling;
  const description = `expected none (only Complete and StreamComplete give them), got ${sampling.promptLogprobs}`;
  throw invalidArgument([{ field: 'sampling.prompt_logprobs', description }]);
}

export function typedInfill(request: InfillRequest, call: CallContext): TypedRequest {
  const sampling = withoutPromptLogprobs(request.sampling);
  const { prefix, suffix, path, repository, chunks } = request;
  return {
    ...common(request.options, call),
    method: 'infill',
    model: request.model,
    prompt: { kind: 'infill', prefix, suffix, path, repository, chunks },
    sampling: { ...sampling, maxTokens: sampling.maxTokens ?? INFILL_TOKENS_DEFAULT },
    stop: request.stop,
    ...infillEnd(request.mode, { prefix, suffix, path, languageId: request.languageId }),
    ...(request.maxPromptTokens !== undefined && { promptTokensMax: request.maxPromptTokens }),
    echo: false,
    softDeadlineMs: request.softDeadlineMs ?? null,
  };
}

export function typedChat(request: ChatRequest | undefined, call: CallContext): TypedRequest {
  if (!request) throw new QuernError('INVALID_ARGUMENT', 'request: expected a ChatRequest, got none');
  const { messages, enableThinking, templateVariables, toolChoice, parallelToolCalls = true } = request;
  const known: ToolChoice[] = Object.values(ToolChoice).filter((one) => one !== ToolChoice.UNRECOGNIZED);
  if (toolChoice !== undefined && !known.includes(toolChoice)) {
    const description = `expected AUTO or NONE, got ${toolChoice}; a forced call is not offered yet`;
    throw invalidArgument([{ field: 'tool_choice', description }]);
  }
  return {
    ...common(request.options, call),
    method: 'chat',
    model: request.model,
    prompt: {
      kind: 'chat',
      messages,
      tools: toolChoice === ToolChoice.TOOL_CHOICE_NONE ? [] : request.tools,
      enableThinking,
      templateVariables,
      addGenerationPrompt: true,
      continueFinalMessage: false,
      parallelToolCalls,
    },
    sampling: withoutPromptLogprobs(request.sampling),
    stop: request.stop,
    modeStop: [],
    echo: false,
    softDeadlineMs: null,
  };
}
