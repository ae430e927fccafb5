/** The language server: the protocol on one side, the core on the other. It holds no rule of its own about completion. */
import {
  type CancellationToken,
  type ClientCapabilities,
  type CompletionList,
  type Connection,
  DidChangeConfigurationNotification,
  type InitializeParams,
  type InitializeResult,
  TextDocumentSyncKind,
  type WorkspaceFolder,
} from 'vscode-languageserver';
import { CapabilityBook } from './core/capabilities.ts';
import { ChunkCollector } from './core/chunks/chunk-collector.ts';
import { hasSecretText } from './core/chunks/secrets.ts';
import { type Clock, realClock } from './core/clock.ts';
import { type Answer, Completer, type CompletionRequest } from './core/completer.ts';
import { Documents, type Position } from './core/documents.ts';
import { EventReporter } from './core/event-reporter.ts';
import type { InfillQuery } from './core/infill-source.ts';
import type { MeshSource } from './core/mesh-source.ts';
import { defaultSettings, readSettings, type Settings } from './core/settings.ts';
import { StatisticsCounter } from './core/statistics.ts';
import { type EditorNote, type SuggestionEvent, SuggestionEvents } from './core/suggestion-events.ts';
import { newTraceId } from './core/trace-id.ts';
import { Warmer } from './core/warmer.ts';
import { FollowedSettings, SECTION } from './followed-settings.ts';
import { gatedSource, settled } from './gated-source.ts';
import { ACCEPTED_COMMAND, inlineItems, listItems } from './protocol-items.ts';
import { readChanged, readInlineParams, readListParams, readOpened } from './request-params.ts';
import type { OpenSurroundings, Surroundings } from './surroundings.ts';

export type OpenedSource = { source: MeshSource & { close(): void }; problems: string[]; target: string };

export type ServerParts = {
  connection: Connection;
  /** Opens the mesh with what the editor's settings say, on top of the environment's. `target` tells one from another. */
  openSource: (settings: unknown) => OpenedSource;
  openSurroundings: OpenSurroundings;
  version: string;
  /** Absent: the platform's own. */
  clock?: Clock;
};

/** Server to editor: how one request for a suggestion ended. Sent when the initialization option `outcomes` is true. */
export const OUTCOME = 'quern/outcome';
/** Editor to server: what became of a suggestion ({ kind, id, index, chars? }). */
export const NOTE = 'quern/note';
/** Editor to server, a request: the numbers of this session. */
export const STATISTICS = 'quern/statistics';

export function startServer(parts: ServerParts): void {
  const server = new Server(parts);
  server.listen();
}

class Server {
  readonly #connection: Connection;
  readonly #parts: ServerParts;
  readonly #documents = new Documents();
  readonly #surroundings: Surroundings;
  readonly #statistics = new StatisticsCounter();
  readonly #completer: Completer;
  readonly #abilities: CapabilityBook;
  readonly #collector: ChunkCollector;
  readonly #events: SuggestionEvents;
  readonly #reporter: EventReporter;
  readonly #warmer: Warmer;
  readonly #clock: Clock;
  readonly #followed: FollowedSettings;
  /** Where the user is, as far as the editor has told. */
  #at: { uri: string; position: Position } | null = null;
  #settings: Settings = defaultSettings;
  #opened: OpenedSource;
  #capabilities: ClientCapabilities = {};
  /** What was last said to keep suggestions away, and what of the settings cannot be. */
  #told = '';
  #problems: readonly string[] = [];
  /** What was last said not to fit into the model. */
  #narrowed: string | null = null;

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.#connection = parts.connection;
    this.#opened = parts.openSource(undefined);
    const documents = this.#documents;
    const clock = parts.clock ?? realClock;
    this.#clock = clock;
    this.#followed = new FollowedSettings({
      clock,
      pull: () => this.#connection.workspace.getConfiguration(SECTION),
      apply: (given) => this.#configure(given),
      warn: (message) => this.#warn(message),
    });
    const surroundings = parts.openSurroundings(documents);
    this.#surroundings = surroundings;
    this.#collector = new ChunkCollector({
      ...{ clock, documents },
      pathFor: (uri) => surroundings.pathBeside(uri),
      declarationsBeside: (uri) => surroundings.declarationsBeside(uri),
      onChange: () => this.#warmer.noteChange(),
    });
    this.#events = new SuggestionEvents({ clock, documents, sink: (event) => this.#became(event) });
    const source = gatedSource({
      opened: () => this.#opened.source,
      unsettled: () => this.#followed.unsettled,
      enabled: () => this.#settings.enabled,
    });
    this.#abilities = new CapabilityBook(clock, source);
    this.#reporter = new EventReporter({ clock, source, settings: () => this.#settings });
    this.#completer = new Completer({
      ...{ clock, documents, source, capabilities: this.#abilities },
      settings: () => this.#settings,
      newId: () => crypto.randomUUID(),
      newTraceId,
      describe: ({ uri, text }) => (hasSecretText(text) ? null : surroundings.describe(uri)),
      chunksFor: (place) => this.#collector.chunksFor(place),
    });
    this.#warmer = new Warmer({
      ...{ clock, source, query: () => this.#queryHere(), busy: () => this.#completer.busy },
      allowed: () => this.#settings.enabled && this.#settings.automatic && this.#settings.warm,
    });
    documents.onEdit(() => this.#warmer.noteActivity());
  }

  #queryHere(): Promise<InfillQuery | null> {
    return this.#at ? this.#completer.queryAt(this.#at.uri, this.#at.position) : Promise.resolve(null);
  }

  listen(): void {
    const connection = this.#connection;
    connection.onInitialize((params) => this.#initialize(params));
    connection.onInitialized(() => this.#initialized());
    connection.onDidChangeConfiguration((params) => this.#followed.changed(params?.settings));
    this.#listenToDocuments();
    connection.languages.inlineCompletion.on(async (params, token) => ({
      items: inlineItems(await this.#answer(readInlineParams(params), token)),
    }));
    connection.onCompletion((params, token) => this.#listCompletion(readListParams(params), token));
    connection.onExecuteCommand(({ command, arguments: given = [] }) => {
      const [id, index] = given as unknown[];
      if (command === ACCEPTED_COMMAND) this.#note({ kind: 'accepted', id, index });
    });
    connection.onNotification(NOTE, (note: unknown) => this.#note(note));
    connection.onRequest(STATISTICS, () => this.#statistics.snapshot);
    connection.onShutdown(async () => {
      this.#followed.close();
      this.#completer.close();
      this.#warmer.reset();
      this.#events.close();
      this.#surroundings.close();
      await this.#reporter.close();
      this.#opened.source.close();
    });
    connection.listen();
  }

  #initialize(params: InitializeParams): InitializeResult {
    this.#capabilities = params.capabilities ?? {};
    this.#surroundings.setFolders(foldersOf(params));
    this.#followed.start(params.initializationOptions, this.#capabilities.workspace?.configuration === true);
    const speaksInline = this.#capabilities.textDocument?.inlineCompletion !== undefined;
    return {
      serverInfo: { name: 'quern-lsp', version: this.#parts.version },
      capabilities: {
        positionEncoding: 'utf-16',
        textDocumentSync: { openClose: true, change: TextDocumentSyncKind.Incremental, save: true },
        inlineCompletionProvider: true,
        // With both, an editor would ask twice at every key.
        ...(speaksInline ? {} : { completionProvider: { triggerCharacters: ['.', '(', ' ', '='] } }),
        executeCommandProvider: { commands: [ACCEPTED_COMMAND] },
        workspace: { workspaceFolders: { supported: true, changeNotifications: true } },
      },
    };
  }

  async #initialized(): Promise<void> {
    const { workspace } = this.#capabilities;
    if (workspace?.didChangeConfiguration?.dynamicRegistration) {
      this.#connection.client
        .register(DidChangeConfigurationNotification.type, { section: SECTION })
        .catch((error: Error) => this.#warn(`settings are not followed: ${error.message}`));
    }
    if (workspace?.workspaceFolders) {
      this.#connection.workspace.onDidChangeWorkspaceFolders(async () => {
        this.#surroundings.setFolders((await this.#connection.workspace.getWorkspaceFolders()) ?? []);
        this.#collector.reset();
      });
    }
    await this.#followed.ready();
    if (this.#at) this.#warmer.noteChange(); // what was opened before the settings came
  }

  #listenToDocuments(): void {
    const connection = this.#connection;
    const documents = this.#documents;
    connection.onDidOpenTextDocument((params) => {
      const { uri, languageId, version, text } = readOpened(params);
      documents.open(uri, languageId, version, text);
      this.#at = { uri, position: { line: 0, character: 0 } };
      this.#warmer.noteChange();
      if (this.#settings.enabled && this.#settings.crossFile) this.#surroundings.declarationsBeside(uri);
    });
    connection.onDidChangeTextDocument((params) => {
      const { uri, version, changes } = readChanged(params);
      try {
        documents.change(uri, version, changes());
      } catch (error) {
        documents.close(uri); // its text is not known any more
        throw error;
      }
    });
    connection.onDidCloseTextDocument(async ({ textDocument: { uri } }) => {
      const taken = this.#collector.takeFrom(uri);
      this.#collector.closed(uri);
      documents.close(uri);
      await taken;
    });
    connection.onDidSaveTextDocument(async ({ textDocument: { uri } }) => {
      if (uri.endsWith('/.gitignore')) {
        this.#surroundings.reset();
        this.#collector.reset();
      }
      this.#surroundings.saved();
      await this.#collector.takeFrom(uri);
    });
  }

  async #listCompletion(request: CompletionRequest, token: CancellationToken): Promise<CompletionList> {
    const { uri, position } = request;
    const answer = await this.#answer(request, token);
    const document = this.#documents.get(uri);
    const start = document?.offsetAt({ line: position.line, character: 0 }) ?? 0;
    const line = document?.text.slice(start, start + position.character) ?? '';
    return { isIncomplete: true, items: listItems(answer, line, position) };
  }

  async #answer(request: CompletionRequest, token: CancellationToken): Promise<Answer> {
    if (this.#at?.uri !== request.uri) this.#warmer.noteChange();
    this.#at = request;
    this.#warmer.noteActivity();
    void this.#collector.noteCursor(request.uri, request.position.line);
    const askedAt = this.#clock.now();
    const version = this.#documents.get(request.uri)?.version;
    const signal = signalOf(token);
    await settled(() => this.#followed.unsettled, signal);
    const answer = await this.#completer.complete({ ...request, version }, { signal });
    const document = this.#documents.get(request.uri);
    if (document) this.#events.answered(answer, document, this.#clock.now() - askedAt);
    this.#reporter.noteAnswer(answer, document?.languageId ?? '');
    this.#statistics.noteAnswer(answer);
    this.#tell(request, answer);
    this.#tellRoom();
    return answer;
  }

  #became(event: SuggestionEvent): void {
    this.#statistics.noteEvent(event);
    this.#reporter.noteEvent(event);
  }

  #tell({ uri, invoked }: CompletionRequest, answer: Answer): void {
    const { id, reason, rule, from, partial, traceId, suggestions } = answer;
    if (this.#followed.initial.outcomes === true) {
      const count = suggestions.length;
      void this.#connection.sendNotification(OUTCOME, {
        uri,
        invoked,
        id,
        reason,
        rule,
        from,
        partial,
        traceId,
        count,
      });
    }
    const failure = reason !== null && ['OFFLINE', 'UNAUTHENTICATED', 'MODEL_NO_FIM', 'FAILED'].includes(reason);
    if (failure && this.#told !== reason) this.#warn(`no suggestions (${reason}): ${this.#completer.lastFailure}`);
    // Said once per kind of failure, and again when it comes back; the cache says nothing about the mesh.
    if (failure) this.#told = reason;
    else if (reason === null && from !== 'cache') this.#told = '';
  }

  /** Once for a model and settings. */
  #tellRoom(): void {
    const { narrowed } = this.#abilities.room(this.#settings.maxTokens);
    if (narrowed !== null && narrowed !== this.#narrowed) this.#connection.console.info(`quern: ${narrowed}`);
    this.#narrowed = narrowed ?? this.#narrowed;
  }

  #note(given: unknown): void {
    const { kind, id, index, chars } = (given ?? {}) as Partial<Record<keyof EditorNote, unknown>>;
    const known = ['shown', 'accepted', 'partially_accepted', 'dismissed'] as const;
    const found = known.find((one) => one === kind);
    if (found === undefined || typeof id !== 'string' || !Number.isInteger(index)) {
      this.#warn(`${NOTE}: expected { kind, id, index } with a kind of ${known.join(', ')}; it is passed over`);
      return;
    }
    const share = typeof chars === 'number' && Number.isInteger(chars) && chars >= 0 ? { chars } : {};
    this.#events.note({ kind: found, id, index: index as number, ...share });
  }

  #configure(given: unknown): void {
    const { settings, problems } = readSettings(given, defaultSettings, this.#settings);
    const opened = this.#parts.openSource(given);
    const old = this.#opened;
    const isSameMesh = opened.target === old.target;
    const isSame = isSameMesh && JSON.stringify(settings) === JSON.stringify(this.#settings);
    this.#settings = settings;
    if (!isSame) {
      this.#completer.reset();
      this.#warmer.reset();
      this.#told = '';
    }
    if (!isSameMesh) {
      this.#abilities.forget();
      this.#reporter.forget();
    }
    // A connection that is open, or is tried again and again, is traffic too: turned off, there is none.
    const keeps = isSameMesh && settings.enabled;
    (keeps ? opened : old).source.close();
    if (!keeps) this.#opened = opened;
    this.#tellProblems([...problems, ...opened.problems]);
  }

  /** Each once, and again when it comes back. */
  #tellProblems(problems: readonly string[]): void {
    for (const problem of problems) if (!this.#problems.includes(problem)) this.#warn(problem);
    this.#problems = problems;
  }

  #warn(message: string): void {
    this.#connection.console.warn(`quern: ${message}`);
  }
}

/** Older editors name one folder, and newer ones that have none open say null. */
function foldersOf({ workspaceFolders, rootUri }: InitializeParams): WorkspaceFolder[] {
  if (workspaceFolders) return workspaceFolders;
  return rootUri ? [{ uri: rootUri, name: rootUri.split('/').at(-1) ?? '' }] : [];
}

function signalOf(token: CancellationToken): AbortSignal {
  const abort = new AbortController();
  if (token.isCancellationRequested) abort.abort();
  else token.onCancellationRequested(() => abort.abort());
  return abort.signal;
}
