/** The rules that one file keeps by itself. Each takes a file and returns what breaks it; `fileRules` lists them. */
import { findFunctions } from './functions.ts';
import { type Finding, findAll, isCpp, isTypeScript, lineAt, type SourceFile, viewsOf } from './source.ts';

export type FileRule = (file: SourceFile) => Finding[];

/** A function's own lines leave out the functions inside it; its lines with them are bounded too. */
export const limits = { functionOwnLines: 70, functionLines: 140, lineColumns: 140, fileLines: 600 };

const isCode = (path: string): boolean => isTypeScript(path) || isCpp(path) || /\.(py|sh|cmake|proto)$/.test(path);
const isService = (path: string): boolean => path.startsWith('services/') || path.startsWith('clients/');

function whole(file: SourceFile, rule: string, message: string): Finding {
  return { rule, path: file.path, line: 1, key: file.path, message };
}

export function functionLength(file: SourceFile): Finding[] {
  if (!isTypeScript(file.path) && !isCpp(file.path)) return [];
  const { functionOwnLines, functionLines } = limits;
  return findFunctions(file)
    .filter(({ ownLines, lines }) => ownLines > functionOwnLines || lines > functionLines)
    .map(({ name, line, ownLines, lines }) => ({
      rule: 'function-length',
      path: file.path,
      line,
      key: `${file.path} ${name}`,
      message:
        `${name} has ${ownLines} lines of its own (at most ${functionOwnLines}), ${lines} with the functions inside it ` +
        `(at most ${functionLines}): split it where its steps have names`,
    }));
}

export function lineLength(file: SourceFile): Finding[] {
  if (!isCode(file.path)) return [];
  return file.text.split('\n').flatMap((text, index) => {
    if ([...text].length <= limits.lineColumns) return [];
    const message = `${[...text].length} columns, at most ${limits.lineColumns}`;
    return [{ rule: 'line-length', path: file.path, line: index + 1, key: file.path, message }];
  });
}

export function fileLength(file: SourceFile): Finding[] {
  const lines = file.text.split('\n').length - 1;
  if (!isCode(file.path) || lines <= limits.fileLines) return [];
  return [
    whole(file, 'file-length', `${lines} lines, at most ${limits.fileLines} (400 is a smell): one noun per file`),
  ];
}

/** Words that say nothing in a name, each with what to do instead. */
const bannedWords = new Map([
  ['manager', 'say what it does to what: pool, registry, supervisor'],
  ['helper', 'name it for its noun or verb'],
  ['util', 'name it for its noun or verb'],
  ['utils', 'name it for its noun or verb'],
  ['handler2', 'say how it differs from the first'],
]);

/** Names that other people gave: they may be used, not imitated. */
const foreignNames = new Set([
  'AsyncLocalStorageContextManager',
  'setGlobalContextManager',
  'jetstreamManager',
  'JetStreamManager',
  'util',
]);

export function bannedNames(file: SourceFile): Finding[] {
  const parts = file.path.split(/[/.]/).filter((part) => adviceFor(part) !== undefined);
  const found = parts.map((part) => whole(file, 'banned-name', `file name "${part}": ${adviceFor(part)}`));
  if (!isTypeScript(file.path) && !isCpp(file.path)) return found;
  const { code } = viewsOf(file);
  for (const { 0: name, index } of code.matchAll(/[A-Za-z_$][\w$]*/g)) {
    const advice = foreignNames.has(name) ? undefined : adviceFor(name);
    if (advice === undefined) continue;
    const message = `identifier "${name}": ${advice}`;
    found.push({ rule: 'banned-name', path: file.path, line: lineAt(code, index), key: file.path, message });
  }
  return found;
}

/** What to do instead of a name, when one of its camelCase, kebab-case or snake_case words is banned. */
function adviceFor(name: string): string | undefined {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z0-9]+/);
  const banned = words.find((word) => bannedWords.has(word.replace(/(?<=manager|helper)s$/, '')));
  return banned && bannedWords.get(banned.replace(/(?<=manager|helper)s$/, ''));
}

/** An open end may stay only with what it waits for, in at least three words. */
export function openEnds(file: SourceFile): Finding[] {
  if (!isCode(file.path)) return [];
  const text = isTypeScript(file.path) || isCpp(file.path) ? viewsOf(file).comments : file.text;
  const marks = new RegExp(
    `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b(?!:\\s+\\S+\\s+\\S+\\s+\\S+)`,
    'g',
  );
  return findAll(
    file,
    text,
    marks,
    'open-end',
    (match) => `${match[1]} without a reason; write "${match[1]}: what is missing and why"`,
  );
}

/** Erasable, named, typed: what the compiler options leave open. */
export function typeScriptSubset(file: SourceFile): Finding[] {
  if (!isTypeScript(file.path) || file.path.startsWith('services/gen/')) return [];
  const { code } = viewsOf(file);
  const rule = 'typescript-subset';
  const found = [
    ...findAll(
      file,
      code,
      /\bexport\s+default\b|\bexport\s*\{[^}]*\bas\s+default\b/g,
      rule,
      () => 'default export: export by name',
    ),
    ...findAll(
      file,
      code,
      /^\s*(?:export\s+|declare\s+|const\s+)*enum\s+\w/gm,
      rule,
      () => 'enum: use a union of literals',
    ),
    ...findAll(
      file,
      code,
      /^\s*(?:export\s+|declare\s+)*(?:namespace|module)\s+\w/gm,
      rule,
      () => 'namespace: a file is one',
    ),
  ];
  if (!file.path.endsWith('.ts')) return found;
  const anyType = /(?:[:<|&]|\bas)\s*any\b(?!\s*(?:[:(.]|=>))|,\s*any\s*>|=>?\s*any\s*[;|&]|\bany\[\]/g;
  return [...found, ...findAll(file, code, anyType, rule, () => '`any`: say the type, or `unknown` and look')];
}

/** config.ts is handed the environment by main.ts, which may do nothing else with it. */
export function environmentAccess(file: SourceFile): Finding[] {
  const { path } = file;
  if (!isTypeScript(path) || !isService(path)) return [];
  if (/^(services|clients)\/[^/]+\/config\.ts$/.test(path)) return [];
  const read = /^(services|clients)\/[^/]+\/main\.ts$/.test(path)
    ? /(?<!\bread(?:Cli)?Config\()\bprocess\s*\.\s*env\b/g
    : /\bprocess\s*\.\s*env\b|(?<!\.\s*)\benv\s*\.\s*[A-Z]|\bconfig\s*\.\s*env\s*\.\s*[A-Z]/g;
  return findAll(file, viewsOf(file).code, read, 'environment', () => {
    return 'process.env: only config.ts reads the environment; take a setting as an argument';
  });
}

/** Addresses of package registries and paths of one machine: neither belongs to the project. */
export function foreignPlaces(file: SourceFile): Finding[] {
  // In pieces, so that this file keeps its own rule.
  const hosts = [
    'registry.npm' + 'js',
    'npm' + 'js\\.(?:org|com)',
    'py' + 'pi\\.org',
    'files\\.python' + 'hosted',
    'proxy\\.go' + 'lang',
    'deb\\.deb' + 'ian',
  ];
  const paths = ['/wo' + 'rk/', '/ro' + 'ot/', '/ho' + 'me/\\w+/', '/Us' + 'ers/\\w+/'];
  return [
    ...findAll(
      file,
      file.text,
      new RegExp(hosts.join('|'), 'g'),
      'foreign-place',
      (match) => `registry host ${match[0]}`,
    ),
    ...findAll(file, file.text, new RegExp(`(?<![\\w.$}])(?:${paths.join('|')})`, 'g'), 'foreign-place', (match) => {
      return `absolute path ${match[0]} of one machine`;
    }),
  ];
}

export function binaryFile(file: SourceFile): Finding[] {
  if (!file.text.slice(0, 8192).includes('\0')) return [];
  if (file.path.startsWith('models/') || /^docs\/.*\.(png|svg)$/.test(file.path)) return [];
  return [whole(file, 'binary-file', 'binary file: only models/ and pictures under docs/ may be')];
}

/**
 * `QUERN_*` variables that the code reads: in TypeScript any mention in code or strings, in C++ through getenv. Tests
 * set the services' variables and make up others; only QUERN_TEST_* are their own.
 */
export function environmentVariables(file: SourceFile): { name: string; line: number }[] {
  if (!isTypeScript(file.path) && !isCpp(file.path)) return [];
  const { strings } = viewsOf(file);
  const pattern = isCpp(file.path) ? /getenv\(\s*"(QUERN_[A-Z0-9_]+)"/g : /(?<!-D)\b(QUERN_[A-Z0-9_]+)\b(?!=)/g;
  return [...strings.matchAll(pattern)]
    .map((match) => ({ name: match[1]!, line: lineAt(strings, match.index) }))
    .filter(({ name }) => !file.path.startsWith('test/') || /^QUERN_TEST_./.test(name));
}

const protoField = /^\s*(?:(?:optional|repeated) )?(?:map<[^>]+>|[\w.]+) (\w+) = \d+(?: \[[^\]]*\])?;(.*)$/;

/** Each field of our own protos says its unit and range beside it or on the line above. */
export function uncommentedFields(file: SourceFile): Finding[] {
  if (!/^proto\/quern\/.*\.proto$/.test(file.path)) return [];
  const lines = file.text.split('\n');
  const isComment = (text: string): boolean => /^\s*\/\/\s*\S/.test(text);
  return lines.flatMap((text, index) => {
    const [, name, rest = ''] = protoField.exec(text) ?? [];
    if (name === undefined || /^\s*option /.test(text) || isComment(rest) || isComment(lines[index - 1] ?? ''))
      return [];
    const message = `field ${name} has no comment: say unit and range, e.g. "// tokens, 0..context length; 0 = none"`;
    return [{ rule: 'proto-field-comment', path: file.path, line: index + 1, key: `${file.path} ${name}`, message }];
  });
}

export const fileRules: FileRule[] = [
  functionLength,
  lineLength,
  fileLength,
  bannedNames,
  openEnds,
  typeScriptSubset,
  environmentAccess,
  foreignPlaces,
  binaryFile,
  uncommentedFields,
];
