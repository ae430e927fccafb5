/** Syntax trees of sources, by the grammars that VS Code uses. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import treeSitter, { type Language, type Node, type Parser } from '@vscode/tree-sitter-wasm';
import { QuernError } from '#kit/errors.ts';

/** File name ending -> language id, as LSP has it. */
const LANGUAGES: Readonly<Record<string, string>> = {
  '.py': 'python',
  '.ts': 'typescript',
  '.mts': 'typescript',
  '.tsx': 'typescriptreact',
  '.js': 'javascript',
  '.mjs': 'javascript',
  '.cjs': 'javascript',
  '.jsx': 'javascriptreact',
  '.go': 'go',
  '.rs': 'rust',
  '.java': 'java',
  '.cc': 'cpp',
  '.cpp': 'cpp',
  '.hpp': 'cpp',
};

const GRAMMARS: Readonly<Record<string, string>> = { typescriptreact: 'tsx', javascriptreact: 'javascript' };

export const ENDINGS = Object.keys(LANGUAGES);

/** null: a file that cannot be evaluated. */
export function languageOf(path: string): string | null {
  const ending = /\.[^./\\]+$/.exec(path)?.[0] ?? '';
  return Object.hasOwn(LANGUAGES, ending) ? (LANGUAGES[ending] ?? null) : null;
}

/** A leaf of the tree, in UTF-16 units of the text. */
export type Token = { start: number; end: number; isIdentifier: boolean };

/** Text [start, end), in UTF-16 units. */
export type Span = { start: number; end: number };

export type Reading = {
  /** Nodes that do not fit the grammar, and such that it had to make up. */
  errors: number;
  /** In order, without the space around them; strings and comments are one token each. */
  tokens: Token[];
  /** From the first to the last statement, or member of a class, of each block. */
  blocks: Span[];
};

export type Syntax = {
  read(text: string, language: string): Promise<Reading>;
  /** The errors of the whole text, but tokens and blocks only where they touch `span`: many times faster than read(). */
  readAround(text: string, language: string, span: Span): Promise<Reading>;
  close(): void;
};

const folder = dirname(createRequire(import.meta.url).resolve('@vscode/tree-sitter-wasm'));

/** Loads each grammar when it is first needed. */
export async function openSyntax(): Promise<Syntax> {
  await treeSitter.Parser.init({ locateFile: (name: string) => join(folder, name) });
  const parser: Parser = new treeSitter.Parser();
  const languages = new Map<string, Promise<Language>>();
  const load = (grammar: string): Promise<Language> => {
    const loading = languages.get(grammar) ?? treeSitter.Language.load(join(folder, `tree-sitter-${grammar}.wasm`));
    languages.set(grammar, loading);
    return loading;
  };
  const parse = async (text: string, language: string, span: Span): Promise<Reading> => {
    parser.setLanguage(await load(GRAMMARS[language] ?? language));
    const tree = parser.parse(text);
    if (tree === null) throw new QuernError('INTERNAL', `the parser gave up on a text of ${text.length} units`);
    const reading: Reading = { errors: 0, tokens: [], blocks: [] };
    visit(tree.rootNode, text, span, reading);
    tree.delete(); // its memory is the module's, which nothing collects
    return reading;
  };
  return {
    read: (text, language) => parse(text, language, { start: 0, end: text.length }),
    readAround: parse,
    close: () => parser.delete(),
  };
}

const isOpaque = (type: string): boolean =>
  /comment|^string$|template_string|string_literal|char_literal|regex/.test(type);
const BLOCKS = new Set([
  ...['block', 'statement_block', 'compound_statement', 'class_body', 'constructor_body'],
  ...['declaration_list', 'field_declaration_list'],
]);

function visit(root: Node, text: string, span: Span, reading: Reading): void {
  const pending: Node[] = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    const { type, startIndex: start, endIndex: end } = node;
    const isNear = start < span.end && end > span.start;
    if (!isNear && !node.hasError) continue;
    if (node.isError || node.isMissing) reading.errors++;
    if (BLOCKS.has(type)) noteBlock(node, text, reading);
    const children = node.children.filter((child) => child !== null);
    if (children.length > 0 && !(isOpaque(type) && !node.hasError)) pending.push(...children.reverse());
    else if (isNear) noteToken(node, text, reading);
  }
}

/** What is around them is trimmed: some grammars count the line's end to a comment, or to the last statement of a block. */
function trimmed(text: string, start: number, end: number): Span {
  const piece = text.slice(start, end);
  return { start: start + piece.length - piece.trimStart().length, end: start + piece.trimEnd().length };
}

function noteToken({ type, startIndex, endIndex }: Node, text: string, { tokens }: Reading): void {
  const { start, end } = trimmed(text, startIndex, endIndex);
  if (end > start) tokens.push({ start, end, isIdentifier: /identifier$/.test(type) });
}

function noteBlock(node: Node, text: string, { blocks }: Reading): void {
  const statements = node.namedChildren.filter((child) => child !== null);
  const [first] = statements;
  const last = statements.at(-1);
  if (first && last) blocks.push(trimmed(text, first.startIndex, last.endIndex));
}
