/** The language server: the protocol on one side, the core on the other. It holds no rule of its own about completion. */
import {
  type CancellationToken,
  type Connection,
  type InitializeParams,
  type InitializeResult,
  type InlineCompletionItem,
  type InlineCompletionParams,
  InlineCompletionTriggerKind,
  TextDocumentSyncKind,
} from 'vscode-languageserver';
import { realClock } from './core/clock.ts';
import { type Answer, Completer } from './core/completer.ts';
import { Documents } from './core/documents.ts';
import type { InfillSource } from './core/infill-source.ts';
import { defaultSettings, readSettings, type Settings } from './core/settings.ts';

export type ServerParts = {
  connection: Connection;
  /** Opens the mesh with what the editor's settings say, on top of the environment's. */
  openSource: (settings: unknown) => { source: InfillSource & { close(): void }; problems: string[] };
  version: string;
};

export function startServer({ connection, openSource, version }: ServerParts): void {
  const documents = new Documents();
  let settings: Settings = defaultSettings;
  let opened = openSource(undefined);
  const completer = new Completer({
    clock: realClock,
    documents,
    source: { infill: (query, options) => opened.source.infill(query, options) },
    settings: () => settings,
    newId: () => crypto.randomUUID(),
    describe: (document) => ({ path: document.uri.split('/').at(-1) ?? '', repository: '' }),
    chunksFor: () => [],
  });

  function configure(given: unknown): void {
    const read = readSettings(given);
    settings = read.settings;
    opened.source.close();
    opened = openSource(given);
    completer.reset();
    for (const problem of [...read.problems, ...opened.problems]) connection.console.warn(`quern: ${problem}`);
  }

  connection.onInitialize((params: InitializeParams): InitializeResult => {
    configure(params.initializationOptions);
    return {
      serverInfo: { name: 'quern-lsp', version },
      capabilities: {
        positionEncoding: 'utf-16',
        textDocumentSync: { openClose: true, change: TextDocumentSyncKind.Incremental, save: false },
        inlineCompletionProvider: true,
      },
    };
  });

  connection.onDidOpenTextDocument(({ textDocument: { uri, languageId, version: at, text } }) =>
    documents.open(uri, languageId, at, text),
  );
  connection.onDidChangeTextDocument(({ textDocument: { uri, version: at }, contentChanges }) => {
    documents.change(uri, at, contentChanges);
  });
  connection.onDidCloseTextDocument(({ textDocument: { uri } }) => documents.close(uri));

  connection.languages.inlineCompletion.on(async (params: InlineCompletionParams, token) => {
    const { textDocument, position, context } = params;
    const selected = context.selectedCompletionInfo ?? null;
    const invoked = context.triggerKind === InlineCompletionTriggerKind.Invoked;
    const signal = signalOf(token);
    const answer = await completer.complete({ uri: textDocument.uri, position, invoked, selected }, { signal });
    return { items: itemsOf(answer) };
  });

  connection.onShutdown(() => {
    completer.close();
    opened.source.close();
  });
  connection.listen();
}

function itemsOf({ suggestions }: Answer): InlineCompletionItem[] {
  return suggestions.map(({ insertText, range }) => ({ insertText, range }));
}

function signalOf(token: CancellationToken): AbortSignal {
  const abort = new AbortController();
  if (token.isCancellationRequested) abort.abort();
  else token.onCancellationRequested(() => abort.abort());
  return abort.signal;
}
