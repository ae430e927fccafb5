// node scripts/vscode-extension.mjs [FILE.vsix]
// Bundles clients/vscode and the language server to plain JavaScript in .cache/vscode/extension, which VS Code can load as it
// is, and packs that into a .vsix: .cache/vscode/quern-VERSION.vsix, or the file that is named.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { cacheDir, listFiles, root } from './setup/paths.mjs';
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

/** What is CommonJS in the bundle asks for Node's modules by require, which an ES module has not. */
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
  writeFileSync(join(folder, 'THIRD-PARTY.txt'), licencesOf(packagesIn(bundles)));
  return folder;
}

/**
 * Folders of the npm packages of which something is in the extension, sorted, each with the files that are in the bundles. By their
 * folders, since one package may be there in two versions.
 */
function packagesIn(bundles) {
  const packages = new Map([[join('node_modules', parser), []]]);
  for (const path of new Set(bundles.flatMap(({ metafile }) => Object.keys(metafile.inputs)))) {
    const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
    if (folder !== undefined && existsSync(join(root, path)))
      // else a module that esbuild put in the place of one
      packages.set(folder, [...(packages.get(folder) ?? []), path]);
  }
  return [...packages].sort(([one], [other]) => (one < other ? -1 : 1));
}

const LICENCE_FILE = /^(licen[cs]e|copying|notice|third-?party-?notices?)/i;

/** What their licences want kept with every copy. */
function licencesOf(packages) {
  const texts = packages.map(([folder, inputs]) => {
    const { name, version: at, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    const entries = readdirSync(join(root, folder), { withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name));
    const kept = files.map((entry) => readFileSync(join(root, folder, entry.name), 'utf8').trim());
    return [`${name} ${at}, ${license}`, ...(kept.length > 0 ? kept : licencesInside(name, license, inputs))].join(
      '\n\n',
    );
  });
  return `${texts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}

/** Of a package that has no file for it: what its sources begin with. */
function licencesInside(name, license, inputs) {
  const heads = inputs.map(
    (path) => /^\s*((?:\/\/.*\n)+|\/\*[\s\S]*?\*\/)/.exec(readFileSync(join(root, path), 'utf8'))?.[1],
  );
  const texts = new Set(heads.filter((head) => /copyright|licen[cs]ed/i.test(head ?? '')).map((head) => head.trim()));
  if (texts.size === 0) throw new Error(`expected a licence text in the package ${name} (${license}), found none`);
  const whole = /apache-2\.0/i.test(license) ? ['The text of Apache-2.0 is in LICENSE.txt.'] : [];
  return [...texts, ...whole];
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

async function main([target, ...rest]) {
  const isFile = target === undefined || (target.endsWith('.vsix') && existsSync(dirname(resolve(target))));
  if (!isFile || rest.length > 0)
    throw new SetupError(`expected a FILE.vsix in a folder that is there, got "${[target, ...rest].join(' ')}"`);
  const startedAt = performance.now();
  const folder = await buildExtension(join(cacheDir, 'vscode/extension'));
  const files = listFiles(folder, () => true);
  const vsix = vsixOf(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')), folder, files);
  const path = resolve(target ?? join(cacheDir, `vscode/quern-${version}.vsix`));
  writeFileSync(path, vsix);
  const seconds = formatSeconds((performance.now() - startedAt) / 1000);
  say(`${path}: ${files.length} files, ${(vsix.length / 1e6).toFixed(1)} MB, packed in ${seconds}`);
  say(`Install it with: code --install-extension '${path}'`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
