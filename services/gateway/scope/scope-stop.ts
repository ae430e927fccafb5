// Ends a completion where the scope around the cursor ends: at a bracket that was opened before the cursor and is closed behind
// it, at a line that is indented less, at the line that follows the cursor anyway. Seen in the stream, so that the engine stops too.
import type { CodeScanner } from './code-scanner.ts';
import type { ScopeContext } from './scope-context.ts';

/** statement: what the cursor's line begins, with its block. block: the lines around the cursor that are indented as much. */
export type ScopeKind = 'statement' | 'block';

const TAB_COLUMNS = 4;
/** Shorter lines are often repeated by right. */
const REPEATED_LINE_UNITS_MIN = 3;
/** First on a line they go on with the statement above. */
const GOES_ON = '.?:&|,={';
const CLOSERS: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' };

/** Columns of the blank beginning of a line. */
function indentOf(line: string): number {
  let columns = 0;
  for (const unit of line) {
    if (unit === ' ') columns += 1;
    else if (unit === '\t') columns += TAB_COLUMNS - (columns % TAB_COLUMNS);
    else break;
  }
  return columns;
}

const isBlank = (text: string): boolean => text.trim() === '';
const wordOf = (text: string): string => /^\w*/.exec(text)?.[0] ?? '';

/** What may be said of a line of which only the beginning is known: it belongs to the scope, it does not, more is needed. */
type Verdict = 'go' | 'end' | 'wait';

/**
 * Takes the text in pieces; what it releases in all does not depend on how the text was cut (tested over every cut). Held
 * back is a line's beginning, with the line ends before it, until it is certain that the line belongs to the scope.
 */
export class ScopeStop {
  readonly #context: ScopeContext;
  #kind: ScopeKind;
  readonly #scanner: CodeScanner;
  /** Brackets opened since the cursor's line began, innermost last, and before them those that may still be closed. */
  readonly #own: string[];
  readonly #closable: string[];
  /** The cursor's line so far, while it is blank. */
  #firstLine: string;
  /** Columns of the scope's lines; null until the first line with code shows it. */
  #indent: number | null = null;
  /** A block was opened: deeper lines, or lines in braces. */
  #hasBlock = false;
  /** The line under way closes what was opened before the cursor's line: nothing follows it. */
  #isLast = false;
  /** Nothing but blanks stood on the cursor's line behind the cursor. */
  #firstLineEmpty = true;
  /** Null: in the middle of a line that is let through. */
  #held: string | null = null;
  #released = 0;
  #ended = false;

  constructor(context: ScopeContext, kind: ScopeKind) {
    this.#context = context;
    this.#kind = kind;
    this.#scanner = context.scanner.copy();
    const outer = context.closable.length - context.openedInHead;
    this.#closable = context.closable.slice(0, outer);
    this.#own = context.closable.slice(outer);
    this.#firstLine = context.head;
    if (!isBlank(context.head)) this.#indent = indentOf(context.head);
  }

  /** UTF-16 units of the text at which it ends; null while it goes on. */
  get cut(): number | null {
    return this.#ended ? this.#released : null;
  }

  /** Takes the next piece; returns what is certain to be shown now. */
  push(piece: string): string {
    let out = '';
    for (const unit of piece) {
      if (this.#ended) break;
      out += this.#held === null ? this.#inLine(unit) : this.#atLineBegin(this.#held, unit);
    }
    this.#released += out.length;
    return out;
  }

  /** The text has ended: what was held back comes free if it belongs to the scope; if not, it is the scope that ends the text. */
  end(): string {
    if (this.#ended || this.#held === null) return '';
    const line = this.#held.slice(this.#held.lastIndexOf('\n') + 1);
    if (isBlank(line) || this.#judge(line, true) === 'go') {
      const out = this.#letThrough(this.#held);
      this.#released += out.length;
      return out;
    }
    this.#ended = !this.#beginsContinuation(line.trim()); // a word that a limit cut off might have gone on with the scope
    return '';
  }

  #inLine(unit: string): string {
    if (unit !== '\n') return this.#code(unit) ? unit : '';
    if (this.#scanner.spansLines || this.#own.length > 0) {
      this.#scanner.push(unit);
      if (this.#own.includes('{')) this.#hasBlock = true;
      this.#firstLineEmpty = false;
      return unit;
    }
    if (this.#isLast) this.#ended = true;
    else this.#held = unit;
    return '';
  }

  /** False: it closes what the suffix closes, and the text ends before it. */
  #code(unit: string): boolean {
    if (this.#indent === null) {
      this.#firstLine += unit;
      if (!isBlank(unit)) this.#indent = indentOf(this.#firstLine);
    }
    if (!isBlank(unit)) this.#firstLineEmpty = false;
    const bracket = this.#scanner.push(unit);
    if (bracket === null) return true;
    if (bracket.open) {
      this.#own.push(bracket.kind);
      return true;
    }
    if (this.#own.length > 0) {
      if (this.#own.at(-1) === bracket.kind) this.#own.pop();
      return true;
    }
    if (this.#closable.at(-1) === bracket.kind) {
      this.#closable.pop();
      this.#isLast = true;
      return true;
    }
    this.#ended = true;
    return false;
  }

  #atLineBegin(held: string, unit: string): string {
    const line = held.slice(held.lastIndexOf('\n') + 1);
    if (unit === '\n' && !isBlank(line)) {
      if (this.#judge(line, true) !== 'go') return this.#end();
      const out = this.#letThrough(held);
      return this.#ended ? out : out + this.#inLine(unit);
    }
    this.#held = held + unit;
    const verdict = unit === '\n' ? 'wait' : this.#judge(line + unit, false);
    if (verdict === 'go') return this.#letThrough(this.#held);
    return verdict === 'end' ? this.#end() : '';
  }

  #end(): string {
    this.#ended = true;
    return '';
  }

  /** Reads what was held as code; it may hold a bracket that ends the text after all. */
  #letThrough(held: string): string {
    this.#held = null;
    for (let at = 0; at < held.length; at += 1) {
      const unit = held[at] as string;
      if (unit === '\n') {
        this.#scanner.push(unit);
        this.#firstLine = '';
      } else if (!this.#code(unit)) return held.slice(0, at);
    }
    return held;
  }

  #judge(line: string, isWhole: boolean): Verdict {
    if (isBlank(line)) return 'wait';
    const { nextLine } = this.#context;
    if (nextLine.trim().length >= REPEATED_LINE_UNITS_MIN && nextLine.startsWith(line.trimEnd())) {
      if (!isWhole) return 'wait';
      if (line.trimEnd() === nextLine) return 'end';
    }
    const closes = CLOSERS[line.trimStart()[0] as string];
    if (closes !== undefined) return this.#closable.at(-1) === closes ? 'go' : 'end';
    const indent = indentOf(line);
    if (this.#indent === null) return 'go';
    if (indent < this.#indent) return 'end';
    if (indent > this.#indent) {
      this.#hasBlock = true;
      return 'go';
    }
    return this.#judgeSibling(line.trim(), isWhole);
  }

  /** A line that is indented as the scope's lines are. */
  #judgeSibling(text: string, isWhole: boolean): Verdict {
    const isFinished = this.#kind === 'statement' || (this.#indent === 0 && this.#hasBlock);
    if (!isFinished) return 'go';
    if (this.#kind === 'statement' && !this.#hasBlock && this.#firstLineEmpty) {
      this.#kind = 'block'; // the cursor stood behind a whole line: what is asked for are the next ones
      return 'go';
    }
    if (this.#context.head.trimStart().startsWith('@') && !this.#hasBlock) return 'go'; // what a decorator stands above
    if (GOES_ON.includes(text[0] as string)) return 'go';
    if (!isWhole && this.#beginsContinuation(text)) return 'wait';
    return this.#context.syntax.continuations.has(wordOf(text)) ? 'go' : 'end';
  }

  /** A whole word, or the beginning of one, and nothing else. */
  #beginsContinuation(text: string): boolean {
    const word = wordOf(text);
    return word === text && [...this.#context.syntax.continuations].some((known) => known.startsWith(word));
  }
}
