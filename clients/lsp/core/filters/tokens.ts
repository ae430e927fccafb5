/** Filters 1 to 3: control tokens that came as text, stop strings, one line where one line was asked for. */
import { type Filter, withText } from './draft.ts';

/** Literals of models' FIM prompts; at the beginning of a text they are an echo of the prompt, later they end it. */
const PROMPT_TOKENS = [
  '<|fim_prefix|>',
  '<|fim_suffix|>',
  '<|fim_middle|>',
  '<|fim_pad|>',
  '<fim_prefix>',
  '<fim_suffix>',
  '<fim_middle>',
  '<fim_pad>',
  '<｜fim▁begin｜>',
  '<｜fim▁hole｜>',
  '<｜fim▁end｜>',
  '<[fim-prefix]>',
  '<[fim-suffix]>',
  '<[fim-middle]>',
  '<|code_prefix|>',
  '<|code_suffix|>',
  '<|code_middle|>',
];

const END_TOKENS = [
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|file_sep|>',
  '<|file_separator|>',
  '<|repo_name|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|EOT|>',
  '<EOT>',
  '<file_sep>',
  '<repo_name>',
  '<end_of_turn>',
  '<｜end▁of▁sentence｜>',
  '<[end▁of▁sentence]>',
  '\n+++++ ',
];

export const stripSpecialTokens: Filter = (draft) => {
  let text = draft.text.replaceAll('<|cursor|>', '');
  for (let token: string | undefined = ''; token !== undefined; text = text.slice(token.length)) {
    token = PROMPT_TOKENS.find((one) => text.startsWith(one));
    if (token === undefined) break;
  }
  return withText(draft, text);
};

/** A shorter beginning of a token is too likely to be code. */
const CUT_TOKEN_CHARS_MIN = 2;

/** Length of the longest end of `text` that is the beginning of a token: the rest of it was cut off. */
function cutToken(text: string, tokens: readonly string[]): number {
  const longest = (token: string): number => {
    for (let length = Math.min(token.length - 1, text.length); length >= CUT_TOKEN_CHARS_MIN; length--) {
      if (text.endsWith(token.slice(0, length))) return length;
    }
    return 0;
  };
  return Math.max(0, ...tokens.map(longest));
}

export const cutAtStop: Filter = (draft, { stop, cut }) => {
  const { text } = draft;
  const tokens = [...PROMPT_TOKENS, ...END_TOKENS, ...stop];
  const places = tokens.map((one) => text.indexOf(one)).filter((at) => at !== -1);
  if (places.length > 0) return withText(draft, text.slice(0, Math.min(...places)));
  return cut ? withText(draft, text.slice(0, text.length - cutToken(text, tokens))) : draft;
};

export const trimToSingleLine: Filter = (draft, { singleLine }) => {
  const end = singleLine ? draft.text.indexOf('\n') : -1;
  return end === -1 ? draft : withText(draft, draft.text.slice(0, end));
};
