/** Entry in a browser's extension host: the language server runs in a worker beside it and speaks HTTP. */
import * as vscode from 'vscode';
import { LanguageClient } from 'vscode-languageclient/browser';
import { type Extension, startExtension } from './ui/extension.ts';

/** A page's, of which Node's types know nothing. */
declare const Worker: new (url: string) => ConstructorParameters<typeof LanguageClient>[2];

let running: Extension | null = null;

export function activate(context: vscode.ExtensionContext): Promise<void> {
  const script = vscode.Uri.joinPath(context.extensionUri, 'dist', 'server-worker.js');
  running = startExtension(vscode, context, {
    name: 'worker over HTTP',
    fixed: { reportEvents: false },
    open: (options) => new LanguageClient('quern', 'Quern', new Worker(script.toString(true)), options),
  });
  return running.ready;
}

export const deactivate = (): Promise<void> | undefined => running?.close();
