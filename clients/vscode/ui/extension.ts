/** The extension beside its back end: the same in a desktop's and in a browser's extension host. */
import type { ExtensionContext } from 'vscode';
import type { BaseLanguageClient, LanguageClientOptions, State } from 'vscode-languageclient';
import { type Api, SECTION } from './api.ts';
import { onKeyChange, storedKey } from './api-key.ts';
import { registerCommands } from './commands.ts';
import { diagnosticsText } from './diagnostics.ts';
import { KeyInTransit } from './key-in-transit.ts';
import { type Note, Offered } from './offered.ts';
import { type Outcome, OutcomeBook } from './outcome.ts';
import { provideBy } from './requests.ts';
import { plainSettings, serverSettings, whyOff } from './settings.ts';
import { SettingsPulls } from './settings-pulls.ts';
import { StatusBar } from './status-bar.ts';

/** What is used of a LanguageClient. */
export type Client = Pick<
  BaseLanguageClient,
  'start' | 'stop' | 'sendNotification' | 'sendRequest' | 'onNotification' | 'onDidChangeState' | 'outputChannel'
>;

export type Backend = {
  /** For diagnostics. */
  name: string;
  /** Settings that are of the other back end. */
  without: readonly string[];
  open(options: LanguageClientOptions, key: KeyInTransit): Client;
};

/** As vscode-languageclient numbers them: only the entries may load it. */
const STOPPED: State.Stopped = 1;
const RUNNING: State.Running = 2;

const ENDED = 'The language server ended. Its log says why; "Developer: Reload Window" starts it again.';

/** Where people write code; not the output channels, diffs and input boxes, which are documents too. */
const SCHEMES = ['file', 'untitled', 'vscode-remote', 'vscode-vfs', 'vscode-notebook-cell', 'memfs'];

export type Extension = { ready: Promise<void>; close(): Promise<void> };

export function startExtension(api: Api, context: ExtensionContext, backend: Backend): Extension {
  const status = new StatusBar(api);
  const pulls = new SettingsPulls(status);
  const outcomes = new OutcomeBook();
  const tell = (note: Note): void => void client.sendNotification('quern/note', note).catch(() => undefined);
  const offered = new Offered(tell);
  const key = new KeyInTransit(context.secrets);
  let closing = false;
  const settings = () => serverSettings(api, backend.without);
  const onDisabled = (uri: string): void => {
    const end = { id: '', rule: null, from: 'none' as const, partial: false, traceId: '', count: 0 };
    outcomes.add({ uri, invoked: false, reason: 'DISABLED', ...end });
  };
  const options: LanguageClientOptions = {
    documentSelector: SCHEMES.map((scheme) => ({ scheme })),
    outputChannelName: 'Quern',
    // Turned off, a server that starts must not ask with settings that are not its own before the real ones come.
    initializationOptions: () => ({ ...settings(), outcomes: true }),
    middleware: {
      workspace: {
        configuration: ({ items }) =>
          pulls.answer(async () => {
            const apiKey = await key.mark();
            return items.map(() => ({ ...settings(), apiKey }));
          }),
      },
      provideInlineCompletionItems: provideBy({ api, status, offered, onDisabled }),
      executeCommand: (command, args, next) => {
        if (command === 'quern.accepted') offered.accepted(String(args[0]));
        return next(command, args);
      },
    },
  };
  const client = backend.open(options, key);
  const pushSettings = (): void => {
    pulls.expect();
    client.sendNotification('workspace/didChangeConfiguration', { settings: null }).catch(() => pulls.end());
  };
  const look = (): void => status.off(whyOff(api));
  const facts = async (): Promise<string> =>
    diagnosticsText({
      extensionVersion: String((context.extension.packageJSON as { version?: string }).version ?? ''),
      editor: `${api.env.appName} ${api.version}`,
      backend: backend.name,
      settings: plainSettings(api),
      hasKey: (await storedKey(context.secrets)) !== '',
      state: status.state,
      outcomes: outcomes.all,
      statistics: await client.sendRequest('quern/statistics').catch(() => null),
    });
  context.subscriptions.push(
    status,
    ...registerCommands({
      ...{ api, outcomes, secrets: context.secrets },
      diagnostics: facts,
      state: () => status.state,
      showLog: () => client.outputChannel.show(),
      extensionId: context.extension.id,
    }),
    client.onDidChangeState(({ oldState, newState }) => {
      if (newState === RUNNING) status.started();
      else pulls.end();
      // A server that never ran has told why by itself.
      if (newState === STOPPED && oldState === RUNNING && !closing) status.broken(ENDED);
    }),
    client.onNotification('quern/outcome', (outcome: Outcome) => {
      outcomes.add(outcome);
      status.ended(outcome);
    }),
    onKeyChange(context.secrets, () => {
      pushSettings();
      status.forget();
    }),
    api.workspace.onDidChangeConfiguration((change) => {
      if (!change.affectsConfiguration(SECTION)) return;
      if (status.isStarted) pulls.expect(); // the client tells the server by itself
      status.forget();
      look();
    }),
    api.workspace.onDidChangeTextDocument((change) => offered.changed(change)),
    api.window.onDidChangeTextEditorSelection(({ textEditor, selections }) => {
      const [selection] = selections;
      const at = selections.length === 1 && selection?.isEmpty ? selection.active : null;
      if (textEditor === api.window.activeTextEditor) offered.left(textEditor.document.uri.toString(), at);
    }),
    api.window.onDidChangeActiveTextEditor((editor) => {
      offered.left(editor?.document.uri.toString() ?? null, editor?.selection.active ?? null);
      status.forget();
      look();
    }),
  );
  look();
  const ready = client.start().then(
    () => {
      status.started();
      pushSettings(); // the key, which could not be had before
    },
    (error: unknown) => status.broken(error instanceof Error ? error.message : String(error)),
  );
  const close = (): Promise<void> => {
    closing = true;
    return client.stop();
  };
  return { ready, close };
}
