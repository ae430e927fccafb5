/**
 * How much text is sent around the cursor, and how many tokens are asked for: what the model holds, and what it is best given. Tokens are
 * estimated by characters; the mesh counts them, and cuts what is too long.
 */
import {
  ANSWER_SHARE_MAX,
  PREFIX_CHARS_MAX,
  PREFIX_CHARS_READ,
  PREFIX_SHARE,
  PROMPT_CHARS_PER_TOKEN,
  SUFFIX_CHARS_MAX,
  SUFFIX_CHARS_READ,
  WINDOW_CHARS_PER_GRID_LINE,
  WINDOW_CUTS,
  WINDOW_GRID_LINES,
} from './limits.ts';

/** The text around the cursor, at most, in UTF-16 units. It begins on a multiple of `gridLines`, in a long line on one of `gridChars`. */
export type Window = { prefixChars: number; suffixChars: number; gridLines: number; gridChars: number };

/** What is known of a model: 0 = not told, or no bound. */
export type ModelSize = { model: string; contextLength: number; infillPromptTokens: number };

export type Room = {
  window: Window;
  /** Of an answer at most. */
  maxTokens: number;
  /** What does not fit into the context, and what is done; null: all of it fits. */
  narrowed: string | null;
};

/** A grid of lines is a power of two, so that the mesh's own, which is one too, stays where it is when this window moves. */
function windowOf(prefixChars: number, suffixChars: number): Window {
  const lines = 2 ** Math.floor(Math.log2(Math.max(1, prefixChars / WINDOW_CHARS_PER_GRID_LINE)));
  const gridChars = Math.max(1, Math.ceil(prefixChars / WINDOW_CUTS));
  return { prefixChars, suffixChars, gridLines: Math.min(WINDOW_GRID_LINES, lines), gridChars };
}

/** What is sent where nothing is known of the model. */
export const WIDEST = windowOf(PREFIX_CHARS_MAX, SUFFIX_CHARS_MAX);

const tokensOf = ({ prefixChars, suffixChars }: Window): number =>
  Math.ceil((prefixChars + suffixChars) / PROMPT_CHARS_PER_TOKEN);

/** At most `window`, and about so many tokens. */
function narrowTo(tokens: number, window: Window): Window {
  const chars = Math.max(0, tokens) * PROMPT_CHARS_PER_TOKEN;
  const prefixChars = Math.min(window.prefixChars, Math.floor(chars * PREFIX_SHARE));
  return windowOf(prefixChars, Math.min(window.suffixChars, Math.floor(chars - chars * PREFIX_SHARE)));
}

/** What a prompt of so many tokens may need, and what is read for other ends than the prompt. */
function windowFor(promptTokens: number): Window {
  const { prefixChars, suffixChars } = narrowTo(promptTokens, WIDEST);
  return windowOf(Math.max(PREFIX_CHARS_READ, prefixChars), Math.max(SUFFIX_CHARS_READ, suffixChars));
}

/** `maxTokens`: of an answer, as the settings say. */
export function roomFor({ model, contextLength, infillPromptTokens }: ModelSize, maxTokens: number): Room {
  const window = infillPromptTokens > 0 ? windowFor(infillPromptTokens) : WIDEST;
  if (contextLength === 0) return { window, maxTokens, narrowed: null };
  const answer = Math.min(maxTokens, Math.max(1, Math.floor(contextLength * ANSWER_SHARE_MAX)));
  const left = contextLength - answer;
  const all = tokensOf(window);
  const fits = all <= left;
  const room = { window: fits ? window : narrowTo(left, window), maxTokens: answer };
  if (fits && answer === maxTokens) return { ...room, narrowed: null };
  const wanted = `maxTokens (${maxTokens}) and about ${all} tokens of text around the cursor`;
  const sent = `${answer} and ${tokensOf(room.window)} are asked for`;
  return {
    ...room,
    narrowed: `${wanted} do not fit into the ${contextLength} tokens of ${model || 'the model'}: ${sent}`,
  };
}
