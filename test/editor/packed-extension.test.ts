/** The .vsix as it is installed: unpacked far from any checkout, its language server completes and reads imports. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { eventually, startMesh } from '../contract/gateway/fakes/mesh.ts';
import { bytesOf } from '../contract/gateway/fakes/mock-tokenizer.ts';
import { startEditor } from '../contract/lsp/support/editor.ts';

const SCRIPT = join(import.meta.dirname, '../../scripts/vscode-extension.mjs');
const MODULES = join(import.meta.dirname, '../../node_modules');

test('the .vsix holds all that it needs, and its server runs by itself', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-vsix-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const vsix = join(folder, 'quern.vsix');
  execFileSync(process.execPath, [SCRIPT, vsix]);
  execFileSync('python3', ['-m', 'zipfile', '-t', vsix]); // another reader of zip files checks lengths and sums
  execFileSync('python3', ['-m', 'zipfile', '-e', vsix, folder]);
  assert.match(
    readFileSync(join(folder, 'extension.vsixmanifest'), 'utf8'),
    /<Identity [^>]*Id="quern" [^>]*Publisher="quern"/,
  );
  const extension = join(folder, 'extension');
  const manifest = JSON.parse(readFileSync(join(extension, 'package.json'), 'utf8'));
  assert.match(manifest.version, /^\d+\.\d+\.\d+$/);
  assert.equal(manifest.engines.vscode, '^1.91.0');
  const media = manifest.contributes.walkthroughs[0].steps.map(
    (step: { media: { markdown: string } }) => step.media.markdown,
  );
  const page = [manifest.icon, 'README.md', 'CHANGELOG.md', 'LICENSE.txt', 'THIRD-PARTY.txt'];
  assert.match(readFileSync(join(extension, 'CHANGELOG.md'), 'utf8'), new RegExp(`^## ${manifest.version}$`, 'm'));
  for (const file of [manifest.main, manifest.browser, 'dist/server-worker.js', ...page, ...media])
    assert(existsSync(join(extension, file)), file);
  const licences = readFileSync(join(extension, 'THIRD-PARTY.txt'), 'utf8');
  for (const text of [
    ...[/^@grpc\/grpc-js \d\S+, Apache-2\.0$/m, /^@vscode\/tree-sitter-wasm \d\S+, MIT$/m],
    /Copyright 2008 Google Inc\./, // of @bufbuild/protobuf, in which no file but its sources has it
  ])
    assert.match(licences, text);
  const nested = 'vscode-languageclient/node_modules/vscode-jsonrpc';
  for (const name of ['vscode-jsonrpc', nested].filter((one) => existsSync(join(MODULES, one)))) {
    const { version } = JSON.parse(readFileSync(join(MODULES, name, 'package.json'), 'utf8'));
    assert(licences.includes(`\nvscode-jsonrpc ${version}, MIT\n`), `${name} ${version}`);
  }

  const mesh = await startMesh(t, { engine: { script: () => bytesOf('area(2)') } });
  writeFileSync(join(folder, 'shapes.py'), 'def area(side: float) -> float:\n    return side * side\n');
  const server = [process.execPath, join(extension, 'dist/lsp/server.mjs')];
  const rootUri = pathToFileURL(folder).href;
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, server, rootUri });
  const uri = `${rootUri}/main.py`;
  await editor.open(uri, 'from shapes import area\nvalue = \n');
  const complete = () => editor.complete(uri, { line: 1, character: 8 });
  assert.equal((await complete())[0]?.insertText, 'area(2)');
  const seen = () =>
    mesh.engine.requests.some(({ tokenIds }) =>
      Buffer.from(tokenIds.filter((id) => id < 256)).includes('def area(side: float) -> float'),
    );
  await eventually(async () => seen() || ((await complete()) && seen()), 'the parser runs in its thread', 60_000);
});
