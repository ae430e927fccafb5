// Reads code one UTF-16 unit at a time and tells its brackets apart from those in strings and comments. What it says of a
// unit depends on those before it only, so that it does not matter how a stream is cut.
import type { CodeSyntax } from './code-syntax.ts';

const PAIRS: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' };
const OPENERS = '([{';
/** A slash behind one of these divides nothing. */
const BEFORE_REGEX = '(,=:[!&|?{};+-*%<>~^\n';

type State =
  | { kind: 'code' }
  | { kind: 'line-comment' | 'block-comment' | 'regex' | 'regex-class' }
  | { kind: 'string'; quote: string; length: 1 | 3; spansLines: boolean };

const CODE: State = { kind: 'code' };

export type Bracket = { readonly open: boolean /** The opening form: ( [ or { . */; readonly kind: string };

const specials = new WeakMap<CodeSyntax, ReadonlySet<string>>();

/** The units that may mean something in code; all others are passed over at once. */
function specialsOf(syntax: CodeSyntax): ReadonlySet<string> {
  const known = specials.get(syntax);
  if (known) return known;
  const { lineComments, lineQuotes, textQuotes } = syntax;
  const made = new Set(`/${OPENERS}${Object.keys(PAIRS).join('')}${lineComments.join('')}${lineQuotes}${textQuotes}`);
  specials.set(syntax, made);
  return made;
}

export class CodeScanner {
  readonly #syntax: CodeSyntax;
  readonly #specials: ReadonlySet<string>;
  #state: State = CODE;
  #escaped = false;
  /** The last units of the present state, as far as a mark of up to three units needs them; in code a slash or dash. */
  #recent = '';
  #lastSolid = '\n';

  constructor(syntax: CodeSyntax) {
    this.#syntax = syntax;
    this.#specials = specialsOf(syntax);
  }

  /** One in the same place, which goes on by itself. */
  copy(): CodeScanner {
    const twin = new CodeScanner(this.#syntax);
    twin.#state = this.#state;
    twin.#escaped = this.#escaped;
    twin.#recent = this.#recent;
    twin.#lastSolid = this.#lastSolid;
    return twin;
  }

  /** True inside of a string or comment that goes on over the end of a line. */
  get spansLines(): boolean {
    const state = this.#state;
    return state.kind === 'block-comment' || (state.kind === 'string' && state.spansLines);
  }

  /** Takes the next unit; the bracket that it is, or null. */
  push(unit: string): Bracket | null {
    const state = this.#state;
    if (state.kind === 'code') {
      if (this.#recent !== '' || this.#specials.has(unit)) return this.#inCode(unit);
      if (unit > ' ' || unit === '\n') this.#lastSolid = unit;
      return null;
    }
    if (unit === '\n' && !this.spansLines) {
      this.#enter(CODE);
      this.#lastSolid = '\n';
      return null;
    }
    if (state.kind === 'string') return this.#inString(unit, state);
    if (state.kind === 'block-comment') {
      if (this.#recent === '*' && unit === '/') this.#enter(CODE);
      else this.#recent = unit;
    } else if (state.kind !== 'line-comment') this.#inRegex(unit, state.kind);
    return null;
  }

  #enter(state: State): void {
    this.#state = state;
    this.#recent = '';
    this.#escaped = false;
  }

  #inCode(unit: string): Bracket | null {
    const { lineComments, blockComments, lineQuotes, textQuotes, tripleQuotes, regexLiterals } = this.#syntax;
    const last = this.#recent;
    this.#recent = unit === '/' || unit === '-' ? unit : '';
    if (lineComments.some((mark) => mark === unit || mark === last + unit)) {
      this.#enter({ kind: 'line-comment' });
      return null;
    }
    if (blockComments && last === '/' && unit === '*') {
      this.#enter({ kind: 'block-comment' });
      return null;
    }
    // A slash is looked at with the unit behind it, which says whether it began a comment.
    if (regexLiterals && last === '/' && BEFORE_REGEX.includes(this.#lastSolid) && unit !== '\n') {
      this.#enter({ kind: unit === '[' ? 'regex-class' : 'regex' });
      this.#escaped = unit === '\\';
      return null;
    }
    if (last === '/') this.#lastSolid = '/';
    if (lineQuotes.includes(unit)) {
      this.#enter({ kind: 'string', quote: unit, length: 1, spansLines: false });
      if (tripleQuotes) this.#recent = unit;
    } else if (textQuotes.includes(unit)) {
      this.#enter({ kind: 'string', quote: unit, length: 1, spansLines: true });
    }
    if (unit !== ' ' && unit !== '\t' && unit !== '/') this.#lastSolid = unit;
    if (OPENERS.includes(unit)) return { open: true, kind: unit };
    const kind = PAIRS[unit];
    return kind === undefined ? null : { open: false, kind };
  }

  /** `recent` holds the quotes in a row: at the beginning of a string with a triple form those that open it. */
  #inString(unit: string, state: { quote: string; length: 1 | 3 }): Bracket | null {
    if (state.length === 1 && this.#recent.length === 2 && unit !== state.quote) {
      this.#endString(state.quote); // it was empty, and had ended with the unit before
      return this.#inCode(unit);
    }
    if (this.#escaped) this.#escaped = false;
    else if (unit === '\\') {
      this.#escaped = true;
      this.#recent = '';
    } else if (unit === state.quote) this.#quoteInString(unit, state.length);
    else this.#recent = '';
    return null;
  }

  #quoteInString(unit: string, length: 1 | 3): void {
    if (length === 3) {
      this.#recent += unit;
      if (this.#recent.length === 3) this.#endString(unit);
    } else if (this.#recent.length === 2) {
      this.#enter({ kind: 'string', quote: unit, length: 3, spansLines: true });
    } else if (this.#recent.length === 1) {
      this.#recent += unit;
    } else {
      this.#endString(unit);
    }
  }

  #endString(quote: string): void {
    this.#enter(CODE);
    this.#lastSolid = quote;
  }

  #inRegex(unit: string, kind: 'regex' | 'regex-class'): void {
    if (this.#escaped) this.#escaped = false;
    else if (unit === '\\') this.#escaped = true;
    else if (kind === 'regex-class') {
      if (unit === ']') this.#state = { kind: 'regex' };
    } else if (unit === '[') this.#state = { kind: 'regex-class' };
    else if (unit === '/') this.#endString('/');
  }
}
