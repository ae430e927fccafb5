// Everything about a request that is settled before an engine sees it: model, token ids, whole sampling, choices.
import type { SamplingParams } from '#gen/quern/common/v1/common.ts';
import type { Principal } from '#kit/principal.ts';
import { type Choice, createChoices } from './choice.ts';
import { fitSampling, refuseInfillRoom } from './engine-request.ts';
import { ENGINE_WAIT_MS, INFILL_COMPLETION_SHARE } from './limits.ts';
import type { Models, ServedModel } from './models.ts';
import { type InfillRoom, type RenderedPrompt, renderPrompt } from './prompt-rendering.ts';
import type { TokenizerCall, TokenizerClient } from './tokenizer-client.ts';
import { explainLength } from './tool-share.ts';
import type { TypedRequest } from './typed-request.ts';
import type { Vocabulary } from './vocabulary.ts';

export type Prepared = {
  model: ServedModel;
  vocabulary: Vocabulary;
  prompt: RenderedPrompt;
  sampling: SamplingParams;
  choices: readonly Choice[];
};

/**
 * Renders the prompt and fits the sampling to the model. Throws INVALID_ARGUMENT for what the tokenizer refuses or what
 * does not fit (CONTEXT_LENGTH_EXCEEDED), UNAVAILABLE while tokenizer or engine are not there.
 */
export async function prepare(
  { models, tokenizer }: { models: Models; tokenizer: TokenizerClient },
  from: { request: TypedRequest; model: ServedModel; principal: Principal; samplingPrefix: string },
  call: TokenizerCall,
): Promise<Prepared> {
  const { request, model, principal, samplingPrefix } = from;
  const vocabulary = models.vocabulary(model);
  // Without an engine nobody knows how much fits.
  const described = models.description(model) ?? (await describedBy(models, model, call.signal));
  const contextLength = described.contextLength;
  const infillRoom = infillRoomOf(request, contextLength, vocabulary.header.infillPromptTokens);
  const around = { model: model.name, principal, vocabulary, infillRoom };
  const prompt = await renderPrompt(tokenizer, request.prompt, around, call).catch((thrown: unknown) => {
    throw refuseInfillRoom(thrown, request, { contextLength, samplingPrefix });
  });
  const sampling = await fitted(
    tokenizer,
    { request, prompt, model: model.name, contextLength, defaults: vocabulary.header.defaultSampling },
    call,
  );
  const { eosTokenIds } = described;
  return {
    model,
    vocabulary,
    prompt,
    sampling,
    choices: createChoices({ request, prompt, vocabulary, sampling, eosTokenIds }),
  };
}

/** `advised`: what the model's folder says that an infill is best given. */
function infillRoomOf(request: TypedRequest, contextLength: number, advised: number | undefined): InfillRoom {
  const fitting = Math.max(1, contextLength - infillReserve(request, contextLength));
  if (request.promptTokensMax !== undefined) return { fitting, wanted: request.promptTokensMax, by: 'caller' };
  if (advised !== undefined && advised < fitting) return { fitting, wanted: advised, by: 'model' };
  return { fitting, wanted: fitting, by: 'context' };
}

/** Tokens that are kept free beside an infill's prompt, which is shortened to what is left. */
function infillReserve({ sampling, completionTokensMax }: TypedRequest, contextLength: number): number {
  const share = Math.floor(contextLength * INFILL_COMPLETION_SHARE);
  return sampling.maxTokens ?? Math.min(completionTokensMax ?? share, share);
}

type Fitting = {
  request: TypedRequest;
  prompt: RenderedPrompt;
  model: string;
  contextLength: number;
  defaults: SamplingParams | undefined;
};

/** fitSampling, which says so when the tools take the room. */
async function fitted(
  tokenizer: TokenizerClient,
  { request, prompt, ...from }: Fitting,
  call: TokenizerCall,
): Promise<SamplingParams> {
  try {
    return fitSampling(request, prompt, from);
  } catch (error) {
    const shown = request.prompt.kind === 'chat' ? request.prompt.tools : [];
    const tools = [...shown, ...(request.describedTools ?? [])];
    throw await explainLength(error, tokenizer, { ...from, tools }, call);
  }
}

async function describedBy(models: Models, model: ServedModel, signal: AbortSignal) {
  const engine = await models.replica(model, 0, { waitMs: ENGINE_WAIT_MS, signal });
  return engine.description ?? { contextLength: 0, eosTokenIds: [] };
}
