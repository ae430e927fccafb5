/** Filter 15: habits of single model families that their templates do not cure. They are told by the text, not by a name. */
import { type Filter, hasWord, isBlank, withText } from './draft.ts';

const PROSE_LANGUAGES = new Set(['markdown', 'mdx', 'quarto', 'rmd']);

/** Qwen3 thinks aloud, also where nobody asked; what follows the thought is the answer. */
function withoutThought(text: string): string | null {
  const begin = /^\s*<think>/.exec(text);
  if (!begin) return text;
  const end = text.indexOf('</think>');
  return end === -1 ? null : text.slice(end + '</think>'.length).replace(/^\s*\n/, '');
}

export const undoQuirks: Filter = (draft, { around }) => {
  const { linePrefix, languageId } = around;
  let text = withoutThought(draft.text);
  if (text === null) return null;
  // An instruct model that answers in chat: a fenced block is no code of this file.
  if (/^\s*```/.test(text) && !PROSE_LANGUAGES.has(languageId)) return null;
  if (!isBlank(linePrefix)) {
    // Codestral begins with a space, also behind one.
    if (/\s$/.test(linePrefix) && /^ \S/.test(text)) text = text.slice(1);
    // Granite says the beginning of the line again.
    const said = linePrefix.trimStart();
    if (said.length >= 3 && hasWord(said) && text.startsWith(said)) text = text.slice(said.length);
  }
  return text.trim() === '' ? null : withText(draft, text);
};
