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
    const { insertText, range } = behindCursor(suggestion, line, position);
    const label = insertText.trim().split(/\r?\n/)[0] ?? '';
    return {
      label: label.length > LABEL_CHARS_MAX ? `${label.slice(0, LABEL_CHARS_MAX - 1)}…` : label,
      kind: CompletionItemKind.Text,
      detail: 'quern',
      documentation: insertText,
      // Editors filter by what stands between the range's start and the cursor.
      filterText: line.slice(range.start.character) || label,
      sortText: `0${index}`,
      insertTextMode: InsertTextMode.asIs,
      textEdit: { range, newText: insertText },
      command: acceptedCommand(answer, index),
    };
  });
}

/** Leaves out what stands before the cursor already, so that lists which filter by words take the item. */
function behindCursor({ insertText, range }: Suggestion, line: string, position: Position): Suggestion {
  const before = line.slice(range.start.character);
  if (!insertText.startsWith(before)) return { insertText, range };
  return { insertText: insertText.slice(before.length), range: { start: position, end: range.end } };
}
