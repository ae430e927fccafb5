// What the scope stop has to know of a language: where strings and comments are, and which words go on with a block.
import { extname } from 'node:path';

export type CodeSyntax = {
  /** Quotes of strings that end with their line at the latest. */
  readonly lineQuotes: string;
  /** Quotes of strings that run over lines. */
  readonly textQuotes: string;
  /** Three line quotes begin a string that runs over lines. */
  readonly tripleQuotes: boolean;
  readonly lineComments: readonly string[];
  /** The slash and star kind. */
  readonly blockComments: boolean;
  /** A slash where no value stands before it begins a regular expression. */
  readonly regexLiterals: boolean;
  /** Words that, first on a line, belong to the block above it. */
  readonly continuations: ReadonlySet<string>;
};

const NONE: ReadonlySet<string> = new Set();
const words = (text: string): ReadonlySet<string> => new Set(text.split(' '));

const C_LIKE: CodeSyntax = {
  lineQuotes: `"'`,
  textQuotes: '',
  tripleQuotes: false,
  lineComments: ['//'],
  blockComments: true,
  regexLiterals: false,
  continuations: words('else catch finally while case default public private protected'),
};
const SCRIPT: CodeSyntax = { ...C_LIKE, textQuotes: '`', regexLiterals: true };
const HASH: CodeSyntax = {
  lineQuotes: `"'`,
  textQuotes: '',
  tripleQuotes: false,
  lineComments: ['#'],
  blockComments: false,
  regexLiterals: false,
  continuations: NONE,
};
const PYTHON: CodeSyntax = { ...HASH, tripleQuotes: true, continuations: words('else elif except finally case') };
const RUBY: CodeSyntax = { ...HASH, continuations: words('end else elsif when rescue ensure in') };
const LUA: CodeSyntax = { ...HASH, lineComments: ['--'], continuations: words('end else elseif until') };
const SHELL: CodeSyntax = { ...HASH, continuations: words('fi done esac else elif do then') };
const GO: CodeSyntax = { ...C_LIKE, textQuotes: '`' };
const RUST: CodeSyntax = { ...C_LIKE, lineQuotes: '"' }; // a single quote is a lifetime more often than a character
const SQL: CodeSyntax = { ...HASH, lineComments: ['--'], continuations: words('end else when from where') };
const HASKELL: CodeSyntax = { ...LUA, lineQuotes: '"', continuations: words('where else then of') };
const PLAIN: CodeSyntax = { ...HASH, lineQuotes: '', lineComments: [] };

const BY_EXTENSION: Readonly<Record<string, CodeSyntax>> = {
  ...Object.fromEntries(['.py', '.pyi', '.pyx', '.bzl'].map((ext) => [ext, PYTHON])),
  ...Object.fromEntries(
    ['.js', '.mjs', '.cjs', '.jsx', '.ts', '.mts', '.cts', '.tsx', '.vue'].map((ext) => [ext, SCRIPT]),
  ),
  ...Object.fromEntries(['.rb', '.rake', '.ex', '.exs', '.jl'].map((ext) => [ext, RUBY])),
  ...Object.fromEntries(['.sh', '.bash', '.zsh'].map((ext) => [ext, SHELL])),
  ...Object.fromEntries(['.md', '.txt', '.rst', '.tex', '.html', '.xml', '.csv'].map((ext) => [ext, PLAIN])),
  ...Object.fromEntries(['.yaml', '.yml', '.toml', '.ini', '.cfg', '.r', '.pl', '.tf'].map((ext) => [ext, HASH])),
  '.lua': LUA,
  '.go': GO,
  '.rs': RUST,
  '.sql': SQL,
  '.hs': HASKELL,
};

/** As LSP names languages. */
const BY_LANGUAGE: ReadonlyMap<string, CodeSyntax> = new Map([
  ['python', PYTHON],
  ...['javascript', 'javascriptreact', 'typescript', 'typescriptreact', 'vue', 'svelte'].map(entry(SCRIPT)),
  ...['ruby', 'elixir', 'julia'].map(entry(RUBY)),
  ['shellscript', SHELL],
  ...['markdown', 'plaintext', 'restructuredtext', 'latex', 'tex', 'html', 'xml'].map(entry(PLAIN)),
  ...['yaml', 'toml', 'ini', 'r', 'perl', 'terraform', 'makefile', 'dockerfile', 'properties'].map(entry(HASH)),
  ...['c', 'cpp', 'csharp', 'java', 'kotlin', 'scala', 'swift', 'php', 'dart', 'css', 'zig'].map(entry(C_LIKE)),
  ['lua', LUA],
  ['go', GO],
  ['rust', RUST],
  ['sql', SQL],
  ['haskell', HASKELL],
]);

function entry(syntax: CodeSyntax): (languageId: string) => [string, CodeSyntax] {
  return (languageId) => [languageId, syntax];
}

/** By the language, else by the file's name; what is not known is read as the C family. */
export function syntaxOf(path: string, languageId = ''): CodeSyntax {
  return BY_LANGUAGE.get(languageId) ?? BY_EXTENSION[extname(path).toLowerCase()] ?? C_LIKE;
}
