/** Entry in a browser's extension host: the language server runs in a worker beside it and speaks HTTP. */
import * as vscode from 'vscode';
import type { LanguageClientOptions, MessageTransports } from 'vscode-languageclient';
import { LanguageClient } from 'vscode-languageclient/browser';
import { type Extension, startExtension } from './ui/extension.ts';
import type { KeyInTransit } from './ui/key-in-transit.ts';

/** A page's, of which Node's types know nothing. */
type PageWorker = ConstructorParameters<typeof LanguageClient>[2];
declare const Worker: new (url: string) => PageWorker;

let running: Extension | null = null;

class WorkerClient extends LanguageClient {
  readonly #key: KeyInTransit;

  constructor(worker: PageWorker, options: LanguageClientOptions, key: KeyInTransit) {
    super('quern', 'Quern', worker, options);
    this.#key = key;
  }

  protected override async createMessageTransports(encoding: string): Promise<MessageTransports> {
    return this.#key.over(await super.createMessageTransports(encoding));
  }
}

export function activate(context: vscode.ExtensionContext): Promise<void> {
  const script = vscode.Uri.joinPath(context.extensionUri, 'dist', 'server-worker.js');
  running = startExtension(vscode, context, {
    name: 'worker over HTTP',
    without: ['gateway', 'caFile'],
    open: (options, key) => new WorkerClient(new Worker(script.toString(true)), options, key),
  });
  return running.ready;
}

export const deactivate = (): Promise<void> | undefined => running?.close();
