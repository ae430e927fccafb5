// What stands around the cursor, as far as the end of a completion depends on it.
import { CodeScanner } from './code-scanner.ts';
import { type CodeSyntax, syntaxOf } from './code-syntax.ts';

/** UTF-16 units of prefix and suffix that are read: two hundred lines or so on each side. */
const READ_UNITS_MAX = 8_192;
/** Nested brackets on each side that are compared with one another. */
const DEPTH_MAX = 64;

export type ScopeContext = {
  readonly syntax: CodeSyntax;
  /** As it stands at the cursor; to be copied. */
  readonly scanner: CodeScanner;
  /** The cursor's line up to the cursor. */
  readonly head: string;
  /** Opening forms of the brackets that may be closed before the suffix, innermost last. */
  readonly closable: readonly string[];
  /** How many of the innermost of them were opened on the cursor's line. */
  readonly openedInHead: number;
  /** The first line behind the cursor's that is not blank, "" = none. */
  readonly nextLine: string;
};

/** The brackets of `text` that stay open, and the closers in it that close none of its own. */
function unmatched(text: string, scanner: CodeScanner): { open: { kind: string; at: number }[]; closers: string[] } {
  const open: { kind: string; at: number }[] = [];
  const closers: string[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const bracket = scanner.push(text[at] as string);
    if (bracket === null) continue;
    if (bracket.open) open.push({ kind: bracket.kind, at });
    else if (open.at(-1)?.kind === bracket.kind) open.pop();
    else if (open.length === 0) closers.push(bracket.kind);
  }
  return { open, closers };
}

/**
 * The open brackets that the suffix closes none of. Both lists begin with the outermost. As many as possible are taken for
 * closed, outer ones rather than inner ones: what the suffix lacks is most likely the closer of what was typed last.
 */
function withoutCloser<T extends { kind: string }>(open: readonly T[], closers: readonly string[]): T[] {
  // pairs[i][j]: how many of open[i..] find their closer in closers[j..], in order.
  const pairs = Array.from({ length: open.length + 1 }, () => new Uint8Array(closers.length + 1));
  const at = (i: number, j: number): number => pairs[i]?.[j] ?? 0;
  for (let i = open.length - 1; i >= 0; i -= 1) {
    for (let j = closers.length - 1; j >= 0; j -= 1) {
      const both = open[i]?.kind === closers[j] ? 1 + at(i + 1, j + 1) : 0;
      (pairs[i] as Uint8Array)[j] = Math.max(both, at(i + 1, j), at(i, j + 1));
    }
  }
  const missing: T[] = [];
  let j = 0;
  open.forEach((bracket, i) => {
    while (j < closers.length && bracket.kind !== closers[j] && at(i, j + 1) === at(i, j)) j += 1;
    const isClosed = j < closers.length && bracket.kind === closers[j] && at(i, j) === 1 + at(i + 1, j + 1);
    if (isClosed) j += 1;
    else missing.push(bracket);
  });
  return missing;
}

/** From a line's beginning on, so that no string or comment is entered half way more often than must be. */
function lastPart(prefix: string): string {
  if (prefix.length <= READ_UNITS_MAX) return prefix;
  const cut = prefix.length - READ_UNITS_MAX;
  return prefix.slice(prefix.indexOf('\n', cut) + 1 || cut);
}

export type InfillPlace = {
  readonly prefix: string;
  readonly suffix: string;
  readonly path: string;
  /** As LSP names it; what is not known goes by the path. */
  readonly languageId?: string | undefined;
};

/** `prefix` and `suffix` have LF line ends. */
export function readContext(place: InfillPlace): ScopeContext {
  const syntax = syntaxOf(place.path, place.languageId);
  const before = lastPart(place.prefix);
  const after = place.suffix.slice(0, READ_UNITS_MAX);
  const headAt = before.lastIndexOf('\n') + 1;
  const scanner = new CodeScanner(syntax);
  const { open } = unmatched(before, scanner);
  const { closers } = unmatched(after, scanner.copy());
  // Where the suffix goes on beyond what was read, it may close all of them.
  const isWhole = after.length === place.suffix.length;
  const missing = withoutCloser(open.slice(-DEPTH_MAX), closers.slice(0, DEPTH_MAX).reverse());
  const closable = missing.filter(({ at }) => isWhole || at >= headAt);
  const nextLine =
    after
      .split('\n')
      .slice(1)
      .find((line) => line.trim() !== '') ?? '';
  return {
    syntax,
    scanner,
    head: before.slice(headAt),
    closable: closable.map(({ kind }) => kind),
    openedInHead: closable.filter(({ at }) => at >= headAt).length,
    nextLine: nextLine.trimEnd(),
  };
}

/** True when code stands right of the cursor on its line, other than brackets and punctuation that an editor closes by itself. */
export function hasCodeBehind(suffix: string): boolean {
  return /[\p{L}\p{N}_]/u.test(suffix.split('\n', 1)[0] as string);
}
