/** Entry in a desktop's extension host: the language server is a process of its own and speaks gRPC. */
import * as vscode from 'vscode';
import type { LanguageClientOptions, MessageTransports } from 'vscode-languageclient';
import { LanguageClient, type ServerOptions, TransportKind } from 'vscode-languageclient/node';
import { SECTION } from './ui/api.ts';
import { type Extension, startExtension } from './ui/extension.ts';
import type { KeyInTransit } from './ui/key-in-transit.ts';

let running: Extension | null = null;

/** quern.serverCommand, else the server that this extension brings, run by VS Code's own Node. */
function serverOf(context: vscode.ExtensionContext): ServerOptions {
  const [command = '', ...args] = vscode.workspace.getConfiguration(SECTION).get<string[]>('serverCommand', []);
  if (command !== '') return { command, args };
  const module = vscode.Uri.joinPath(context.extensionUri, 'dist', 'lsp', 'server.mjs').fsPath;
  return { module, transport: TransportKind.stdio };
}

class ProcessClient extends LanguageClient {
  readonly #key: KeyInTransit;

  constructor(server: ServerOptions, options: LanguageClientOptions, key: KeyInTransit) {
    super('quern', 'Quern', server, options);
    this.#key = key;
  }

  protected override async createMessageTransports(encoding: string): Promise<MessageTransports> {
    return this.#key.over(await super.createMessageTransports(encoding));
  }
}

export function activate(context: vscode.ExtensionContext): Promise<void> {
  running = startExtension(vscode, context, {
    name: 'quern-lsp over gRPC',
    without: ['gatewayUrl'],
    open: (options, key) => new ProcessClient(serverOf(context), options, key),
  });
  return running.ready;
}

export const deactivate = (): Promise<void> | undefined => running?.close();
