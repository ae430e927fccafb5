/** What editors send, checked: what cannot be is refused as InvalidParams with a sentence, and changes nothing. */
import { ErrorCodes, InlineCompletionTriggerKind, ResponseError } from 'vscode-languageserver';
import type { CompletionRequest } from './core/completer.ts';
import type { Change, Position, Range } from './core/documents.ts';
import type { SelectedCompletion } from './core/place.ts';

type Fields = Readonly<Record<string, unknown>>;

const UINTEGER_MAX = 2 ** 31 - 1;
const SHOWN_CHARS_MAX = 80;

/** Of textDocument/inlineCompletion. Without a context nobody is known to have asked: it counts as typing. */
export function readInlineParams(params: unknown): CompletionRequest {
  const fields = record('params', params);
  const context = optional(fields.context);
  const { triggerKind, selectedCompletionInfo } = context === null ? {} : record('context', context);
  return {
    ...placeIn(fields),
    invoked: isInvoked(optional(triggerKind)),
    selected: selectedOf(optional(selectedCompletionInfo)),
  };
}

/** Of textDocument/completion. Editors do not tell a key pressed for the list from a letter typed: all counts as typing. */
export function readListParams(params: unknown): CompletionRequest {
  return { ...placeIn(record('params', params)), invoked: false };
}

/** Of textDocument/didOpen. */
export function readOpened(params: unknown): { uri: string; languageId: string; version: number; text: string } {
  const { uri, languageId, version, text } = record('textDocument', record('params', params).textDocument);
  return {
    uri: string('textDocument.uri', uri),
    languageId: string('textDocument.languageId', languageId),
    version: integer('textDocument.version', version),
    text: string('textDocument.text', text),
  };
}

/** Of textDocument/didChange. */
export function readChanged(params: unknown): { uri: string; version: number; changes: () => Change[] } {
  const { textDocument, contentChanges } = record('params', params);
  const { uri, version } = record('textDocument', textDocument);
  const changeOf = (given: unknown, i: number): Change => {
    const name = `contentChanges[${i}]`;
    const { range, text } = record(name, given);
    const changed = { text: string(`${name}.text`, text) };
    return optional(range) === null ? changed : { ...changed, range: rangeOf(`${name}.range`, range) };
  };
  return {
    uri: string('textDocument.uri', uri),
    version: integer('textDocument.version', version),
    changes: () => {
      if (!Array.isArray(contentChanges)) throw invalid('contentChanges', 'an array', contentChanges);
      return contentChanges.map(changeOf);
    },
  };
}

function placeIn({ textDocument, position }: Fields): { uri: string; position: Position } {
  const { uri } = record('textDocument', textDocument);
  return { uri: string('textDocument.uri', uri), position: positionOf('position', position) };
}

function isInvoked(triggerKind: unknown): boolean {
  const { Invoked, Automatic } = InlineCompletionTriggerKind;
  if (triggerKind === null || triggerKind === Automatic) return false;
  if (triggerKind === Invoked) return true;
  throw invalid('context.triggerKind', `${Invoked} (invoked) or ${Automatic} (automatic)`, triggerKind);
}

function selectedOf(given: unknown): SelectedCompletion | null {
  if (given === null) return null;
  const name = 'context.selectedCompletionInfo';
  const { range, text } = record(name, given);
  return { range: rangeOf(`${name}.range`, range), text: string(`${name}.text`, text) };
}

function rangeOf(name: string, given: unknown): Range {
  const { start, end } = record(name, given);
  return { start: positionOf(`${name}.start`, start), end: positionOf(`${name}.end`, end) };
}

function positionOf(name: string, given: unknown): Position {
  const { line, character } = record(name, given);
  return { line: unit(`${name}.line`, line), character: unit(`${name}.character`, character) };
}

function unit(name: string, given: unknown): number {
  if (typeof given === 'number' && Number.isInteger(given) && given >= 0 && given <= UINTEGER_MAX) return given;
  throw invalid(name, `a whole number from 0 to ${UINTEGER_MAX}`, given);
}

function integer(name: string, given: unknown): number {
  if (Number.isSafeInteger(given)) return given as number;
  throw invalid(name, 'a whole number', given);
}

function string(name: string, given: unknown): string {
  if (typeof given === 'string') return given;
  throw invalid(name, 'a text', given);
}

function record(name: string, given: unknown): Fields {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given as Fields;
  throw invalid(name, 'an object', given);
}

const optional = (given: unknown): unknown => given ?? null;

function invalid(name: string, expected: string, given: unknown): ResponseError<void> {
  return new ResponseError(ErrorCodes.InvalidParams, `${name}: expected ${expected}, got ${shown(given)}`);
}

/** Never what stands in an object: it may be source text. */
function shown(given: unknown): string {
  if (Array.isArray(given)) return 'an array';
  if (typeof given === 'object' && given !== null) return 'an object';
  return JSON.stringify(given)?.slice(0, SHOWN_CHARS_MAX) ?? 'nothing';
}
