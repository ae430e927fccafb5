// From a request's prompt to token ids, by the tokenizer service; and what a key's policy lowers on the way.
import { ParseSpecial } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import { QuernError } from '#kit/errors.ts';
import type { ParseSpecialCeiling, Principal } from '#kit/principal.ts';
import { literalText } from './text-assembler.ts';
import type { TokenizerCall, TokenizerClient } from './tokenizer-client.ts';
import type { Prompt, TypedRequest } from './typed-request.ts';
import type { Vocabulary } from './vocabulary.ts';

export type InfillFacts = {
  family: string;
  droppedPrefixTokens: number;
  droppedSuffixTokens: number;
  droppedChunks: number;
  /** Tokens that the prompt could have, and whether it was the context that held no more. */
  maxPromptTokens: number;
  contextBound: boolean;
};

/** Tokens that an infill's prompt may have: `fitting` as the context holds them, `wanted` by the caller or the model's folder. */
export type InfillRoom = { fitting: number; wanted: number; by: 'caller' | 'model' | 'context' };

export type RenderedPrompt = {
  tokenIds: readonly number[];
  publicPrefixTokens: number;
  /** Of the FIM family, beside the caller's own. */
  stopTokenIds: readonly number[];
  stopStrings: readonly string[];
  infill: InfillFacts | null;
};

const CEILING: Record<ParseSpecialCeiling, ParseSpecial> = {
  none: ParseSpecial.PARSE_SPECIAL_NONE,
  fim: ParseSpecial.PARSE_SPECIAL_FIM,
  all: ParseSpecial.PARSE_SPECIAL_ALL,
};

/** What the caller asked for, at most what its key allows. Unspecified is NONE. */
export function lowerParseSpecial(asked: ParseSpecial, principal: Principal): ParseSpecial {
  const wanted = asked === ParseSpecial.PARSE_SPECIAL_UNSPECIFIED ? ParseSpecial.PARSE_SPECIAL_NONE : asked;
  const ceiling = CEILING[principal.parseSpecialCeiling];
  return wanted > ceiling ? ceiling : wanted;
}

type Surroundings = {
  model: string;
  principal: Principal;
  vocabulary: Vocabulary;
  /** Absent: the prompt is no infill. */
  infillRoom?: InfillRoom;
};

const NO_ROOM: InfillRoom = { fitting: 0, wanted: 0, by: 'context' };

function plain(tokenIds: readonly number[], publicPrefixTokens = 0): RenderedPrompt {
  return { tokenIds, publicPrefixTokens, stopTokenIds: [], stopStrings: [], infill: null };
}

function checkIds(tokenIds: readonly number[], vocabulary: Vocabulary): void {
  const at = tokenIds.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary.size);
  if (at < 0) return;
  const description = `expected token ids 0..${vocabulary.size - 1}, got ${tokenIds[at]}`;
  const field = `prompt[${at}]`;
  throw new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

/** Throws what the tokenizer refuses (INVALID_ARGUMENT with the field's path), UNAVAILABLE when it is not there. */
export async function renderPrompt(
  tokenizer: TokenizerClient,
  prompt: Prompt,
  around: Surroundings,
  call: TokenizerCall,
): Promise<RenderedPrompt> {
  const { model, principal, vocabulary } = around;
  switch (prompt.kind) {
    case 'token_ids':
      checkIds(prompt.tokenIds, vocabulary);
      return plain(prompt.tokenIds);
    case 'text': {
      const parseSpecial = lowerParseSpecial(prompt.parseSpecial, principal);
      return plain(await tokenizer.encode({ model, text: prompt.text, parseSpecial, addBos: prompt.addBos }, call));
    }
    case 'chat': {
      const { tokenIds, publicPrefixTokens } = await tokenizer.renderChat(
        {
          model,
          messages: [...prompt.messages],
          tools: [...prompt.tools],
          addGenerationPrompt: prompt.addGenerationPrompt,
          enableThinking: prompt.enableThinking,
          templateVariables: prompt.templateVariables,
          continueFinalMessage: prompt.continueFinalMessage,
        },
        call,
      );
      return plain(tokenIds, publicPrefixTokens);
    }
    case 'infill':
      return renderInfill(tokenizer, prompt, around, call);
  }
}

/** Fitted to its room. A model's advice is none where the format's own tokens leave it no text. */
async function renderInfill(
  tokenizer: TokenizerClient,
  { kind: _, chunks, ...texts }: Extract<Prompt, { kind: 'infill' }>,
  { model, infillRoom: { fitting, wanted, by } = NO_ROOM }: Surroundings,
  call: TokenizerCall,
): Promise<RenderedPrompt> {
  const render = (maxPromptTokens: number) =>
    tokenizer.renderInfill({ model, ...texts, chunks: [...chunks], maxPromptTokens }, call);
  let maxPromptTokens = Math.min(wanted, fitting);
  const rendered = await render(maxPromptTokens).catch((thrown: unknown) => {
    if (by !== 'model' || !isNoRoom(thrown)) throw thrown;
    maxPromptTokens = fitting;
    return render(fitting);
  });
  const { tokenIds, stopTokenIds, stopStrings, family, droppedPrefixTokens, droppedSuffixTokens, droppedChunks } =
    rendered;
  const infill = {
    ...{ family, droppedPrefixTokens, droppedSuffixTokens, droppedChunks, maxPromptTokens },
    contextBound: maxPromptTokens === fitting,
  };
  return { tokenIds, publicPrefixTokens: 0, stopTokenIds, stopStrings, infill };
}

/** The tokenizer's word for a budget that the format's own tokens fill. */
export function isNoRoom(thrown: unknown): thrown is QuernError {
  return thrown instanceof QuernError && thrown.details.reason === 'BUDGET_TOO_SMALL';
}

/** The prompt as an echo shows it: the caller's own text, else the ids written out. */
export function echoText(request: TypedRequest, prompt: RenderedPrompt, vocabulary: Vocabulary): string {
  if (request.prompt.kind === 'text') return request.prompt.text;
  return literalText(vocabulary, prompt.tokenIds);
}
