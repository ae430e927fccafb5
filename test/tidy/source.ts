/**
 * What the tidy rules see: a file, and views of its text in which comments or strings are blanked out. Blanks keep
 * every offset and line, so that a rule can search a view and report a place in the file.
 */

export type SourceFile = { path: string; text: string };

/** A broken rule at a place. `key` is what an exception in the table names: usually the path, or path and name. */
export type Finding = { rule: string; path: string; line: number; key: string; message: string };

export type Views = {
  /** Without comments and without the contents of strings, templates and regular expressions. */
  code: string;
  /** Without comments. */
  strings: string;
  /** Comments only. */
  comments: string;
};

export const isTypeScript = (path: string): boolean => /\.(ts|mts|mjs|js)$/.test(path);
export const isCpp = (path: string): boolean => /\.(cc|h|cu|cuh)$/.test(path);

/** Line number, from 1, of an offset. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let i = text.indexOf('\n'); i !== -1 && i < offset; i = text.indexOf('\n', i + 1)) line++;
  return line;
}

/** All matches of `pattern` in `view`, as findings of `rule` in `file`. */
export function findAll(
  file: SourceFile,
  view: string,
  pattern: RegExp,
  rule: string,
  message: (match: RegExpMatchArray) => string,
): Finding[] {
  return [...view.matchAll(pattern)].map((match) => ({
    rule,
    path: file.path,
    line: lineAt(view, match.index),
    key: file.path,
    message: message(match),
  }));
}

const cache = new WeakMap<SourceFile, Views>();

/** The views of a TypeScript, JavaScript or C++ file. */
export function viewsOf(file: SourceFile): Views {
  const known = cache.get(file);
  if (known) return known;
  const kinds = isCpp(file.path) ? classifyCpp(file.text) : classifyTypeScript(file.text);
  const keep = (wanted: string): string => {
    let view = '';
    for (let start = 0, end = 0; start < kinds.length; start = end) {
      while (end < kinds.length && kinds[end] === kinds[start]) end++;
      const run = file.text.slice(start, end);
      view += wanted.includes(kinds[start]!) ? run : run.replace(/[^\n]/g, ' ');
    }
    return view;
  };
  const views = { code: keep('c'), strings: keep('cs'), comments: keep('/') };
  cache.set(file, views);
  return views;
}

/** One letter per character: c code, s string, / comment. */
type Kinds = string[];

class Scanner {
  readonly text: string;
  readonly kinds: Kinds;
  at = 0;

  constructor(text: string) {
    this.text = text;
    this.kinds = new Array<string>(text.length).fill('c');
  }

  startsWith(prefix: string): boolean {
    return this.text.startsWith(prefix, this.at);
  }

  /** Marks from here to `end` (exclusive) and moves there. */
  mark(kind: string, end: number): void {
    const stop = Math.min(end, this.text.length);
    this.kinds.fill(kind, this.at, stop);
    this.at = stop;
  }

  markThrough(kind: string, terminator: string, from: number): void {
    const found = this.text.indexOf(terminator, from);
    this.mark(kind, found === -1 ? this.text.length : found + terminator.length);
  }

  markComment(): boolean {
    if (this.startsWith('//')) {
      const end = this.text.indexOf('\n', this.at);
      this.mark('/', end === -1 ? this.text.length : end);
      return true;
    }
    if (!this.startsWith('/*')) return false;
    this.markThrough('/', '*/', this.at + 2);
    return true;
  }

  /** A literal that `quote` ends and a backslash escapes. */
  markQuoted(quote: string): void {
    let end = this.at + 1;
    while (end < this.text.length && this.text[end] !== quote && this.text[end] !== '\n') {
      end += this.text[end] === '\\' ? 2 : 1;
    }
    this.mark('s', end + 1);
  }
}

function classifyCpp(text: string): Kinds {
  const scanner = new Scanner(text);
  while (scanner.at < text.length) {
    const char = text[scanner.at]!;
    if (scanner.markComment()) continue;
    const raw = char === 'R' ? /^R"([^(\s]*)\(/.exec(text.slice(scanner.at, scanner.at + 20)) : null;
    const isDigitSeparator =
      char === "'" && /[0-9a-fA-F]/.test(text[scanner.at - 1] ?? '') && /\d/.test(lastWord(scanner));
    if (raw) scanner.markThrough('s', `)${raw[1]}"`, scanner.at);
    else if (char === '"' || (char === "'" && !isDigitSeparator)) scanner.markQuoted(char);
    else scanner.at++;
  }
  return scanner.kinds;
}

const lastWord = (scanner: Scanner): string =>
  /[\w']*$/.exec(scanner.text.slice(Math.max(0, scanner.at - 40), scanner.at))?.[0]?.[0] ?? '';

function classifyTypeScript(text: string): Kinds {
  const scanner = new Scanner(text);
  const templates: number[] = []; // open braces in each ${ } that we are inside of
  while (scanner.at < text.length) {
    const char = text[scanner.at]!;
    if (scanner.markComment()) continue;
    if (char === "'" || char === '"') scanner.markQuoted(char);
    else if (char === '`') openTemplate(scanner, templates);
    else if (char === '/' && startsRegex(scanner)) markRegex(scanner);
    else if (char === '}' && templates.at(-1) === 0) {
      templates.pop();
      openTemplate(scanner, templates);
    } else {
      if (templates.length > 0 && char === '{') templates[templates.length - 1]!++;
      if (templates.length > 0 && char === '}') templates[templates.length - 1]!--;
      scanner.at++;
    }
  }
  return scanner.kinds;
}

/** Marks template text from a backquote, or from the brace that ends a substitution, to the next of either. */
function openTemplate(scanner: Scanner, templates: number[]): void {
  const { text } = scanner;
  let end = scanner.at + 1;
  while (end < text.length && text[end] !== '`' && !text.startsWith('${', end)) end += text[end] === '\\' ? 2 : 1;
  const closes = text[end] === '`';
  scanner.mark('s', end + (closes ? 1 : 2));
  if (!closes) templates.push(0);
}

/** A slash is a division after a value and starts a regular expression elsewhere. */
function startsRegex(scanner: Scanner): boolean {
  let before = scanner.at - 1;
  while (before >= 0 && (scanner.kinds[before] === '/' || /\s/.test(scanner.text[before]!))) before--;
  if (before < 0) return true;
  if (scanner.kinds[before] === 's') return false;
  const word = /[\w$]*$/.exec(scanner.text.slice(Math.max(0, before - 20), before + 1))![0];
  if (word !== '') return /^(return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield)$/.test(word);
  return !/[)\]}]/.test(scanner.text[before]!);
}

function markRegex(scanner: Scanner): void {
  let end = scanner.at + 1;
  let inClass = false;
  for (; end < scanner.text.length && scanner.text[end] !== '\n'; end++) {
    const char = scanner.text[end];
    if (char === '\\') end++;
    else if (char === '[') inClass = true;
    else if (char === ']') inClass = false;
    else if (char === '/' && !inClass) break;
  }
  const flags = /^[a-z]*/.exec(scanner.text.slice(end + 1))?.[0].length ?? 0;
  scanner.mark('s', end + 1 + flags);
}
