/** Who may import whom: the design's diagram as rules over import specifiers and #include lines. */
import { posix } from 'node:path';
import { type Finding, isCpp, isTypeScript, lineAt, type SourceFile, viewsOf } from './source.ts';

export type Import = { specifier: string; line: number };

const importForms = [
  /\b(?:import|export)\s+(?:type\s+)?[\w*{}\s,$]+?\s*from\s*(['"])([^'"\n]+)\1/g,
  /\bimport\s*(['"])([^'"\n]+)\1/g,
  /\bimport\s*\(\s*(['"])([^'"\n]+)\1/g,
  /\brequire\s*\(\s*(['"])([^'"\n]+)\1/g,
  /\bnew\s+URL\s*\(\s*(['"])(\.[^'"\n]+\.m?[tj]s)\1\s*,\s*import\.meta\.url/g,
  /\bimport\.meta\.dirname\s*,\s*(['"])([^'"\n]+\.m?[tj]s)\1/g,
];

/** Everything a TypeScript or JavaScript file names as a module: static, dynamic, required, by URL or by path. */
export function importsOf(file: SourceFile): Import[] {
  const { code, strings } = viewsOf(file);
  return importForms.flatMap((form) =>
    [...strings.matchAll(form)]
      .filter((match) => code[match.index] !== ' ') // not text inside a string
      .map((match) => ({ specifier: match[2]!, line: lineAt(strings, match.index) })),
  );
}

/** The path in the tree that a specifier of `from` means, or null for a package. */
export function resolveImport(from: string, specifier: string): string | null {
  if (specifier.startsWith('#kit/')) return `services/kit/${specifier.slice(5)}`;
  if (specifier.startsWith('#gen/')) return `services/gen/${specifier.slice(5)}`;
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  return /\.(ts|mjs)$/.test(specifier) && !specifier.includes(':') ? posix.join(posix.dirname(from), specifier) : null;
}

/** Node does not map .js to .ts as the compiler does: a specifier names the file that is there. */
export function specifierEndings(file: SourceFile): Finding[] {
  if (!isTypeScript(file.path) || file.path.startsWith('services/gen/')) return [];
  return importsOf(file)
    .filter(({ specifier }) => /^[.#].*\.js$/.test(specifier))
    .map(({ specifier, line }) => {
      const message = `${specifier} ends in .js: Node needs the real file name, .ts`;
      return { rule: 'specifier-ending', path: file.path, line, key: file.path, message };
    });
}

const serviceOf = (path: string): string | null => /^services\/([^/]+)\//.exec(path)?.[1] ?? null;

/** gen <- kit <- each service; services never import one another; clients import gen, and the extension the language server. */
export function serviceImports(file: SourceFile): Finding[] {
  const own = serviceOf(file.path);
  const isClient = file.path.startsWith('clients/');
  if (!isTypeScript(file.path) || (own === null && !isClient)) return [];
  return importsOf(file).flatMap(({ specifier, line }) => {
    const target = resolveImport(file.path, specifier);
    if (target === null) return [];
    const message = isClient ? clientVerdict(file.path, target) : serviceVerdict(own!, target);
    return message === '' ? [] : [{ rule: 'service-import', path: file.path, line, key: file.path, message }];
  });
}

function clientVerdict(from: string, target: string): string {
  const own = from.split('/').slice(0, 2).join('/');
  if (target.startsWith(`${own}/`) || target.startsWith('services/gen/')) return '';
  if (own === 'clients/vscode' && target.startsWith('clients/lsp/')) return '';
  return `imports ${target}: clients import services/gen and nothing else of ours`;
}

function serviceVerdict(own: string, target: string): string {
  const theirs = serviceOf(target);
  if (theirs === own || theirs === 'gen') return '';
  if (own === 'gen') return `imports ${target}: generated code imports only generated code`;
  if (own === 'kit') return `imports ${target}: kit imports only gen`;
  if (theirs === 'kit') return '';
  return theirs ? `imports ${target}: services never import one another` : `imports ${target}, outside services/`;
}

/** From the top of a service down; a file imports from its own layer or from below, nouns come last. */
const layers = ['main', 'service', 'rpc', 'flow', 'context', 'noun'] as const;
/** Files between a service's front doors and its nouns: they may use the context. */
const flows = new Set([
  'services/gateway/tool-loop.ts',
  'services/gateway/generation.ts',
  'services/gateway/collector.ts',
  'services/gateway/served-model.ts',
  'services/gateway/agent/generation-turn.ts',
  'services/gateway/agent/start-run.ts',
]);

function layerOf(path: string): (typeof layers)[number] {
  const rest = path.split('/').slice(2);
  if (rest[0] === 'rpc' || rest[0] === 'http') return 'rpc';
  if (flows.has(path)) return 'flow';
  const name = rest.length === 1 ? rest[0] : '';
  return name === 'main.ts' ? 'main' : name === 'service.ts' ? 'service' : name === 'context.ts' ? 'context' : 'noun';
}

/** main -> service -> rpc or http -> flow -> context -> nouns: nothing imports upwards inside a service. */
export function straightColumn(file: SourceFile): Finding[] {
  const own = serviceOf(file.path);
  if (!isTypeScript(file.path) || own === null || ['gen', 'kit', 'cli'].includes(own)) return [];
  const from = layerOf(file.path);
  return importsOf(file).flatMap(({ specifier, line }) => {
    const target = resolveImport(file.path, specifier);
    if (target === null || serviceOf(target) !== own) return [];
    const to = layerOf(target);
    if (layers.indexOf(to) >= layers.indexOf(from)) return [];
    const message = `${from} imports ${target} (${to}): a service reads ${layers.join(' -> ')}, never upwards`;
    return [{ rule: 'straight-column', path: file.path, line, key: file.path, message }];
  });
}

/** What the completion core may use beside itself: pure JavaScript that runs in a browser worker as well. */
const corePackages = new Set(['vscode-languageserver-textdocument']);

/** The core of the language server knows no transport and no Node: it also runs in a browser. */
export function clientCore(file: SourceFile): Finding[] {
  const { path } = file;
  const core = 'clients/lsp/core/';
  if (!isTypeScript(path) || !path.startsWith(core)) return [];
  const found = importsOf(file)
    .filter(({ specifier }) => !corePackages.has(specifier) && !resolveImport(path, specifier)?.startsWith(core))
    .map(({ specifier, line }) => ({ line, message: `imports ${specifier}: the core imports only itself` }));
  const { code } = viewsOf(file);
  const globals = [...code.matchAll(/(?<!\.\s*)\b(process|Buffer|setImmediate|require)\s*[.(]/g)].map((match) => ({
    line: lineAt(code, match.index),
    message: `uses ${match[1]}, which a browser does not have`,
  }));
  return [...found, ...globals].map((one) => ({ rule: 'client-core', path, key: path, ...one }));
}

/** The files that load an addon, each its own. */
const ADDON_DOORS = ['services/engine/native.ts', 'services/tools/jail/program.ts'];

/** Packages and files with one door. */
export function doors(file: SourceFile): Finding[] {
  const { path } = file;
  if (!isTypeScript(path) || !/^(services|clients)\//.test(path) || path.startsWith('services/gen/')) return [];
  const mayUseGrpc = /^(services|clients)\/[^/]+\/rpc\//.test(path);
  const mayLoadAddon = ADDON_DOORS.includes(path);
  const found: Finding[] = [];
  const report = (line: number, message: string): unknown =>
    found.push({ rule: 'door', path, line, key: path, message });
  for (const { specifier, line } of importsOf(file)) {
    if (specifier.startsWith('@grpc/grpc-js') && !mayUseGrpc) {
      report(line, `imports ${specifier}: only kit/rpc and the rpc/ of a service or client touch grpc-js`);
    }
    if (specifier.endsWith('.node') && !mayLoadAddon)
      report(line, `loads ${specifier}: only ${ADDON_DOORS.join(' and ')} may`);
  }
  const { code, strings } = viewsOf(file);
  const loader =
    /\bprocess\s*\.\s*dlopen\b/.exec(code) ??
    (/\bcreateRequire\b/.test(code) ? /(?:engine|spawn)_addon/.exec(strings) : null);
  if (loader && !mayLoadAddon) {
    report(lineAt(strings, loader.index), `only ${ADDON_DOORS.join(' and ')} load addons`);
  }
  return found;
}

/** Folder of engine-native/src -> what it may include, as prefixes. Folders that are not named may include anything. */
const includable: [folder: string, prefixes: string[]][] = [
  ['base/', ['base/']],
  ['cache/', ['base/', 'cache/']],
  ['sched/', ['base/', 'cache/', 'sched/']],
  ['weights/', ['base/', 'weights/']],
  ['sample/', ['base/', 'sample/', 'weights/', 'model/']],
  ['model/', ['base/', 'weights/', 'model/', 'backend/backend.h', 'comm/']],
  ['comm/', ['base/', 'comm/']],
  ['backend/cpu/', ['base/', 'weights/', 'model/', 'comm/', 'backend/backend.h', 'backend/cpu/']],
  ['backend/cuda/', ['base/', 'weights/', 'model/', 'comm/', 'backend/backend.h', 'backend/cuda/']],
  ['backend/', ['base/', 'weights/', 'model/', 'backend/backend.h']],
  ['engine/', ['base/', 'cache/', 'sched/', 'weights/', 'sample/', 'model/', 'comm/', 'backend/backend.h', 'engine/']],
  ['napi/', ['base/', 'engine/engine.h', 'napi/']],
];

export function cppIncludes(file: SourceFile): Finding[] {
  if (!isCpp(file.path)) return [];
  const { strings } = viewsOf(file);
  const place = file.path.replace(/^engine-native\/(src|include)\//, '');
  return [...strings.matchAll(/^[ \t]*#[ \t]*include[ \t]*(<|")([^>"\n]+)/gm)].flatMap((match) => {
    const message = match[1] === '"' ? ownInclude(place, match[2]!) : foreignInclude(place, match[2]!);
    const foreign = message || foreignInclude(place, match[2]!);
    if (foreign === '') return [];
    return [
      { rule: 'cpp-include', path: file.path, line: lineAt(strings, match.index), key: file.path, message: foreign },
    ];
  });
}

function ownInclude(place: string, header: string): string {
  const entry = includable.find(([folder]) => place.startsWith(folder));
  if (!entry || !header.includes('/') || entry[1].some((prefix) => header.startsWith(prefix))) return '';
  return `${entry[0]} includes "${header}"; it may include ${entry[1].join(', ')}`;
}

function foreignInclude(place: string, header: string): string {
  if (
    /^(cuda|cublas|nccl|cooperative_groups|cub\/|mma\.h)/.test(header) &&
    !/^(backend\/cuda\/|comm\/nccl)/.test(place)
  ) {
    return `includes <${header}>: CUDA headers stay under backend/cuda and comm/nccl`;
  }
  if (/^(napi|node_api|js_native_api)/.test(header) && !place.startsWith('napi/')) {
    return `includes <${header}>: Node's headers stay under napi`;
  }
  return '';
}

export const importRules = [specifierEndings, serviceImports, straightColumn, clientCore, doors, cppIncludes];
