// The files that traces are made of: permissively licensed source as it lies on this machine, none that quern-mini was trained on.
// Packages are pinned by the lock file, the Python library by the distribution; each trace says the hash of what it was made of.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

type Origin = { languageId: string; licence: string; from: string; paths: readonly string[] };

const PYTHON_FOLDER = /^python3\.\d+$/;

/** The newest standard library of /usr/lib; null where there is none. */
function pythonLibrary(): string | null {
  const names = existsSync('/usr/lib') ? readdirSync('/usr/lib').filter((name) => PYTHON_FOLDER.test(name)) : [];
  const minor = (name: string): number => Number(name.split('.')[1]);
  const newest = names.sort((a, b) => minor(b) - minor(a))[0];
  return newest === undefined ? null : join('/usr/lib', newest);
}

function origins(): Origin[] {
  const inModules = (folder: string, names: string): string[] =>
    names.split(' ').map((name) => join(ROOT, 'node_modules', folder, name));
  const inEngine = (names: string): string[] => names.split(' ').map((name) => join(ROOT, 'engine-native/src', name));
  const library = pythonLibrary();
  const inPython = (names: string): string[] =>
    library === null ? [] : names.split(' ').map((name) => join(library, `${name}.py`));
  return [
    {
      ...{ languageId: 'typescript', licence: 'MIT', from: '@huggingface/jinja' },
      paths: inModules('@huggingface/jinja/src', 'lexer.ts parser.ts runtime.ts format.ts'),
    },
    {
      ...{ languageId: 'python', licence: 'PSF-2.0', from: "Python's standard library" },
      paths: inPython('textwrap shlex sched configparser cmd statistics'),
    },
    {
      ...{ languageId: 'javascript', licence: 'BSD-3-Clause', from: 'protobufjs' },
      paths: inModules('protobufjs/src', 'reader.js writer.js namespace.js tokenize.js'),
    },
    {
      ...{ languageId: 'cpp', licence: 'Apache-2.0', from: 'engine-native' },
      paths: inEngine('cache/block_pool.cc sched/scheduler.cc weights/safetensors.cc base/json.cc'),
    },
    {
      ...{ languageId: 'typescript', licence: 'MIT', from: 'eventsource-parser' },
      paths: inModules('eventsource-parser/src', 'parse.ts'),
    },
    {
      ...{ languageId: 'javascript', licence: 'Apache-2.0', from: 'prom-client' },
      paths: inModules('prom-client/lib', 'registry.js histogram.js timeWindowQuantiles.js'),
    },
  ];
}

export type Source = {
  languageId: string;
  licence: string;
  from: string;
  /** Without what is before the package. */
  path: string;
  /** Line ends are "\n". */
  text: string;
  /** First 12 hex digits of its SHA-256. */
  hash: string;
};

function read(origin: Origin, path: string): Source {
  const text = readFileSync(path, 'utf8').replaceAll('\r\n', '\n');
  const { languageId, licence, from } = origin;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 12);
  const name = path.split('/').slice(-2).join('/');
  return { languageId, licence, from, path: name, text, hash };
}

/**
 * `count` files, of some languages if they are named, the origins in turn so that few traces have all of them; again from the
 * first when there are no more.
 */
export function readSources(count: number, languageIds?: readonly string[]): Source[] {
  const all = origins()
    .filter(({ languageId }) => languageIds?.includes(languageId) ?? true)
    .map((origin) => ({ origin, paths: origin.paths.filter((path) => existsSync(path)) }))
    .filter(({ paths }) => paths.length > 0);
  const longest = Math.max(...all.map(({ paths }) => paths.length));
  const turns = Array.from({ length: longest }, (_, turn) =>
    all.flatMap(({ origin, paths }) => (paths[turn] === undefined ? [] : [read(origin, paths[turn])])),
  ).flat();
  if (turns.length === 0) throw new Error('no source was found; run npm install first');
  return Array.from({ length: count }, (_, index) => turns[index % turns.length]!);
}
