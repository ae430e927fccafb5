/** Syntax trees of sources, by the grammars that VS Code uses. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import treeSitter, { type Language, type Node, type Parser } from '@vscode/tree-sitter-wasm';

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

export type Block = { start: number; end: number };

export type Reading = {
  /** Nodes that do not fit the grammar, and such that it had to make up. */
  errors: number;
  /** In order; strings and comments are one token each. */
  tokens: Token[];
  /** From the first to the last statement of each block. */
  blocks: Block[];
};

export type Syntax = { read(text: string, language: string): Promise<Reading>; close(): void };

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
  return {
    async read(text, language) {
      parser.setLanguage(await load(GRAMMARS[language] ?? language));
      const tree = parser.parse(text);
      if (tree === null) return { errors: 1, tokens: [], blocks: [] };
      const reading: Reading = { errors: 0, tokens: [], blocks: [] };
      visit(tree.rootNode, reading);
      tree.delete(); // its memory is the module's, which nothing collects
      return reading;
    },
    close: () => parser.delete(),
  };
}

const isOpaque = (type: string): boolean =>
  /comment|^string$|template_string|string_literal|char_literal|regex/.test(type);
const isBlock = (type: string): boolean => /^(block|statement_block|class_body|compound_statement)$/.test(type);

function visit(root: Node, reading: Reading): void {
  const pending: Node[] = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    const { type, startIndex: start, endIndex: end } = node;
    if (node.isError || node.isMissing) reading.errors++;
    if (isBlock(type)) noteBlock(node, reading);
    const children = node.children.filter((child) => child !== null);
    if (children.length > 0 && !(isOpaque(type) && !node.hasError)) pending.push(...children.reverse());
    else if (end > start) reading.tokens.push({ start, end, isIdentifier: /identifier$/.test(type) });
  }
}

function noteBlock(node: Node, { blocks }: Reading): void {
  const statements = node.namedChildren.filter((child) => child !== null);
  const [first] = statements;
  const last = statements.at(-1);
  if (first && last) blocks.push({ start: first.startIndex, end: last.endIndex });
}
