/** The rules that need the whole tree: dead files, links of the documentation, the list of environment variables. */
import { posix } from 'node:path';
import { importsOf, resolveImport } from './import-rules.ts';
import { environmentVariables } from './rules.ts';
import { type Finding, isTypeScript, lineAt, type SourceFile } from './source.ts';

/** Where execution starts: programs, tests, scripts, and what clients ship. */
const isRoot = (path: string): boolean =>
  /^services\/[^/]+\/main\.ts$/.test(path) || /^(test|scripts|clients)\//.test(path) || path.endsWith('.mjs');

/** Every file of services/ is reached from a main, a launcher, a script or a test. Generated code is exempt. */
export function deadFiles(files: SourceFile[]): Finding[] {
  const code = new Map(files.filter(({ path }) => isTypeScript(path)).map((file) => [file.path, file]));
  const reached = new Set<string>();
  const pending = [...code.keys()].filter(isRoot);
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const file = code.get(path);
    if (!file || reached.has(path)) continue;
    reached.add(path);
    for (const { specifier } of importsOf(file)) pending.push(resolveImport(path, specifier) ?? '');
  }
  return [...code.keys()]
    .filter((path) => path.startsWith('services/') && !path.startsWith('services/gen/') && !reached.has(path))
    .map((path) => ({ rule: 'dead-file', path, line: 1, key: path, message: 'no program or test imports this file' }));
}

/** Every relative link of a Markdown file leads to a file or folder of the tree, and to a heading where it names one. */
export function brokenLinks(files: SourceFile[]): Finding[] {
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  const folders = new Set([...texts.keys()].flatMap((path) => foldersOf(path)));
  return files
    .filter(({ path }) => path.endsWith('.md'))
    .flatMap((file) =>
      linksOf(file.text).flatMap(({ target, line }) => {
        const [name = '', heading = ''] = target.split('#');
        const path =
          name === '' ? file.path : posix.join(posix.dirname(file.path), decodeURIComponent(name)).replace(/\/$/, '');
        const report = (message: string): Finding[] => [
          { rule: 'broken-link', path: file.path, line, key: file.path, message },
        ];
        if (!texts.has(path) && !folders.has(path)) return report(`(${target}) leads to no file of the tree`);
        if (heading === '' || !path.endsWith('.md') || headingsOf(texts.get(path) ?? '').has(heading)) return [];
        return report(`(${target}): ${path} has no such heading`);
      }),
    );
}

const foldersOf = (path: string): string[] => {
  const parts = path.split('/');
  return ['.', ...parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'))];
};

function linksOf(text: string): { target: string; line: number }[] {
  const prose = withoutCode(text);
  return [...prose.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)/gm)]
    .map((match) => ({ target: match[1] ?? match[2]!, line: lineAt(prose, match.index) }))
    .filter(({ target }) => !/^[a-z][a-z0-9+.-]*:/i.test(target));
}

/** Blanks fenced blocks and code spans, where brackets are no links. */
const withoutCode = (text: string): string =>
  text.replace(/^(```|~~~)[\s\S]*?^\1|`[^`\n]*`/gm, (block) => block.replace(/[^\n]/g, ' '));

function headingsOf(text: string): Set<string> {
  const headings = [...text.matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)].map((match) => match[1]!);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/\s/g, '-'),
    ),
  );
}

export const environmentList = 'deploy/env.example';

/** Every QUERN_* variable that code reads is listed in deploy/env.example, and every listed one is read. */
export function unlistedVariables(files: SourceFile[]): Finding[] {
  const list = files.find(({ path }) => path === environmentList);
  if (!list) return [];
  const listed = new Map(
    [...list.text.matchAll(/\bQUERN_[A-Z0-9_]+\b/g)].map((match) => [match[0], lineAt(list.text, match.index)]),
  );
  const read = new Set<string>();
  const found: Finding[] = [];
  const rule = 'environment-list';
  for (const file of files) {
    for (const { name, line } of environmentVariables(file)) {
      read.add(name);
      if (listed.has(name)) continue;
      found.push({ rule, path: file.path, line, key: name, message: `${name} is not listed in ${environmentList}` });
    }
  }
  for (const [name, line] of listed) {
    if (read.has(name)) continue;
    found.push({ rule, path: environmentList, line, key: name, message: `${name} is listed but nothing reads it` });
  }
  return found;
}

export const treeRules = [deadFiles, brokenLinks, unlistedVariables];
