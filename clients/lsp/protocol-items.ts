/** From the core's answers to the protocol's items. */
import {
  type CompletionItem,
  CompletionItemKind,
  type InlineCompletionItem,
  InsertTextMode,
  type Position,
} from 'vscode-languageserver';
import type { Answer } from './core/completer.ts';
import type { Suggestion } from './core/presentation.ts';

/** What an editor runs after it has taken an item, with the answer's id and the item's index. */
export const ACCEPTED_COMMAND = 'quern.accepted';

const LABEL_CHARS_MAX = 80;

const acceptedCommand = ({ id }: Answer, index: number) => ({
  title: 'Suggestion accepted',
  command: ACCEPTED_COMMAND,
  arguments: [id, index],
});

export function inlineItems(answer: Answer): InlineCompletionItem[] {
  return answer.suggestions.map(({ insertText, range }, index) => ({
    insertText,
    range,
    command: acceptedCommand(answer, index),
  }));
}

/** For editors without inline completion: items of the ordinary list. `line`: the cursor's line up to the cursor. */
export function listItems(answer: Answer, line: string, position: Position): CompletionItem[] {
  return answer.suggestions.map((suggestion, index) => {
    const { insertText, range } = fromWord(suggestion, line, position);
    const label = insertText.trim().split(/\r?\n/)[0] ?? '';
    return {
      label: label.length > LABEL_CHARS_MAX ? `${label.slice(0, LABEL_CHARS_MAX - 1)}…` : label,
      kind: CompletionItemKind.Text,
      detail: 'quern',
      documentation: insertText,
      // Without filterText: Neovim before 0.10 does not look at the range of an item that has one.
      sortText: `0${index}`,
      insertTextMode: InsertTextMode.asIs,
      textEdit: { range, newText: insertText },
      command: acceptedCommand(answer, index),
    };
  });
}

/** Begins with the word that the cursor stands behind, and with nothing before it: lists filter by that word. */
function fromWord({ insertText, range }: Suggestion, line: string, position: Position): Suggestion {
  const before = line.slice(range.start.character);
  if (!insertText.startsWith(before)) return { insertText, range };
  const word = /[\p{L}\p{N}_]*$/u.exec(line)?.[0] ?? '';
  const start = { line: position.line, character: position.character - word.length };
  return { insertText: word + insertText.slice(before.length), range: { start, end: range.end } };
}
