// node scripts/vscode-extension.mjs [FILE.vsix]
// Bundles clients/vscode and the language server to plain JavaScript in .cache/vscode/extension, which VS Code can load as it
// is, and packs that into a .vsix: .cache/vscode/quern-VERSION.vsix, or the file that is named.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { cacheDir, listFiles, nodeModules, root } from './setup/paths.mjs';
import { formatSeconds, SetupError, say } from './setup/steps.mjs';
import { vsixOf } from './vsix.mjs';

const source = join(root, 'clients/vscode');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const shared = {
  bundle: true,
  minify: true,
  legalComments: 'none', // THIRD-PARTY.txt has the licences whole
  metafile: true,
  logLevel: 'warning',
  absWorkingDir: root,
  define: { EXTENSION_VERSION: JSON.stringify(version) },
};
/** VS Code 1.91's extension host is Node 20; its page is Chromium 122. */
const desktop = { ...shared, platform: 'node', target: 'node20' };
const browser = { ...shared, platform: 'browser', target: 'chrome122', mainFields: ['browser', 'module', 'main'] };
/** What is CommonJS in the bundle asks for Node's modules by require, which an ES module has not. */
const parser = '@vscode/tree-sitter-wasm';

/** The parsing thread is a bundle of its own beside the server's. */
const bundledWorker = {
  name: 'bundled-worker',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]outline[\\/]outliner\.ts$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const contents = text.replace(
        "'./outline-worker.ts', import.meta.url",
        "'./outline-worker.mjs', import.meta.url",
      );
      if (contents === text) throw new Error(`${path}: expected a worker ./outline-worker.ts by its URL`);
      return { contents, loader: 'ts' };
    });
  },
};

const requireBanner = {
  js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
};

/** Bundles the extension into `folder`, which is emptied before. */
export async function buildExtension(folder) {
  rmSync(folder, { recursive: true, force: true });
  const dist = join(folder, 'dist');
  const server = { ...desktop, format: 'esm', banner: requireBanner };
  const into = (name, from, options) =>
    build({ ...options, entryPoints: [join(root, from)], outfile: join(dist, name) });
  const bundles = await Promise.all([
    into('desktop.js', 'clients/vscode/desktop.ts', { ...desktop, format: 'cjs', external: ['vscode'] }),
    into('web.js', 'clients/vscode/web.ts', { ...browser, format: 'cjs', external: ['vscode'] }),
    into('server-worker.js', 'clients/vscode/web/server-worker.ts', { ...browser, format: 'iife' }),
    // Two folders down, as in the checkout: it reads the version out of ../../package.json.
    into('lsp/server.mjs', 'clients/lsp/main.ts', { ...server, plugins: [bundledWorker] }),
    into('lsp/outline-worker.mjs', 'clients/lsp/outline/outline-worker.ts', { ...server, external: [parser] }),
  ]);
  const manifest = JSON.parse(readFileSync(join(source, 'manifest.json'), 'utf8'));
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify({ ...manifest, version }, null, 2)}\n`);
  for (const name of ['README.md', 'CHANGELOG.md']) cpSync(join(source, name), join(folder, name));
  cpSync(join(source, 'media'), join(folder, 'media'), { recursive: true });
  cpSync(join(root, 'docs/images/editors/icon.png'), join(folder, manifest.icon)); // pictures lie in docs/
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE.txt'));
  copyGrammars(join(folder, 'node_modules', parser));
  writeFileSync(join(folder, 'THIRD-PARTY.txt'), licencesOf(packagesIn(bundles).add(parser)));
  return folder;
}

/** Names of the npm packages of which something went into the bundles. */
function packagesIn(bundles) {
  const inputs = bundles.flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = inputs.map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  return new Set(names.filter(Boolean).sort());
}

/** What their licences want kept with every copy. */
function licencesOf(names) {
  const texts = [...names].map((name) => {
    const folder = join(nodeModules, name);
    const { version: at, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
    return `${name} ${at} (${license})\n\n${file ? readFileSync(join(folder, file), 'utf8').trim() : 'No licence text of its own.'}\n`;
  });
  return texts.join(`\n${'-'.repeat(80)}\n\n`);
}

/** The parser and the grammars that the outline reads, laid out as the package that it looks for. */
function copyGrammars(folder) {
  const manifest = createRequire(import.meta.url).resolve(`${parser}/package.json`);
  const wasm = join(dirname(manifest), 'wasm');
  const files = ['tree-sitter.js', 'tree-sitter.wasm'];
  const grammars = ['typescript', 'tsx', 'javascript', 'python'].map((name) => `tree-sitter-${name}.wasm`);
  mkdirSync(join(folder, 'wasm'), { recursive: true });
  for (const name of [...files, ...grammars]) cpSync(join(wasm, name), join(folder, 'wasm', name));
  cpSync(manifest, join(folder, 'package.json'));
}

async function main(target) {
  if (target !== undefined && (!target.endsWith('.vsix') || !existsSync(dirname(resolve(target))))) {
    throw new SetupError(`expected a FILE.vsix in a folder that is there, got "${target}"`);
  }
  const startedAt = performance.now();
  const folder = await buildExtension(join(cacheDir, 'vscode/extension'));
  const files = listFiles(folder, () => true);
  const vsix = vsixOf(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')), folder, files);
  const path = resolve(target ?? join(cacheDir, `vscode/quern-${version}.vsix`));
  writeFileSync(path, vsix);
  const seconds = formatSeconds((performance.now() - startedAt) / 1000);
  say(`${path}: ${files.length} files, ${(vsix.length / 1e6).toFixed(1)} MB, packed in ${seconds}`);
  say(`Install it with: code --install-extension ${path}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv[2]);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
