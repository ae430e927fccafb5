/** The language server in a browser's worker: the same as quern-lsp, with HTTP and server-sent events in place of gRPC. */
import { BrowserMessageReader, BrowserMessageWriter, createConnection } from 'vscode-languageserver/browser';
import { startServer } from '../../lsp/server.ts';
import { readTarget } from './http-settings.ts';
import { openHttpSource } from './http-source.ts';
import { openPageSurroundings } from './page-surroundings.ts';

/** Set by the bundler: the extension's version. */
declare const EXTENSION_VERSION: string;

type WorkerScope = ConstructorParameters<typeof BrowserMessageReader>[0];

const scope = globalThis as unknown as WorkerScope;

startServer({
  connection: createConnection(new BrowserMessageReader(scope), new BrowserMessageWriter(scope)),
  version: EXTENSION_VERSION,
  openSurroundings: openPageSurroundings,
  openSource: (settings) => {
    const { target, problems } = readTarget(settings);
    return { source: openHttpSource(target), problems, target: JSON.stringify(target) };
  },
});
