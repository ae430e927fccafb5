/** As much of VS Code's API as the extension uses, in memory: what was shown, stored and run can be looked at. */
import type { ExtensionContext, Position, StatusBarItem, TextDocument } from 'vscode';
import type { Api } from '../../../../../clients/vscode/ui/api.ts';
import type { Client } from '../../../../../clients/vscode/ui/extension.ts';

type Hear = (event: never) => void;

const WORKSPACE = 2;

class Emitter {
  readonly #hearers = new Set<Hear>();
  readonly event = (hear: Hear) => {
    this.#hearers.add(hear);
    return { dispose: () => this.#hearers.delete(hear) };
  };
  fire(event: unknown): void {
    for (const hear of this.#hearers) hear(event as never);
  }
}

export class StubPosition {
  readonly line: number;
  readonly character: number;
  constructor(line: number, character: number) {
    this.line = line;
    this.character = character;
  }
  isEqual(other: StubPosition): boolean {
    return other.line === this.line && other.character === this.character;
  }
  translate(lines: number, characters: number): StubPosition {
    return new StubPosition(this.line + lines, this.character + characters);
  }
  with(line: number, character: number): StubPosition {
    return new StubPosition(line, character);
  }
}

export const at = (line: number, character: number): Position =>
  new StubPosition(line, character) as unknown as Position;

export function stubDocument(languageId: string, text: string, uri = 'file:///project/a'): TextDocument {
  type Range = { start: Position; end: Position };
  // One line is enough here.
  const getText = ({ start, end }: Range): string => text.slice(start.character, end.character);
  return { languageId, version: 1, uri: { toString: () => uri }, getText } as unknown as TextDocument;
}

export type StubApi = {
  api: Api;
  settings: Record<string, unknown>;
  /** What the workspace says over the user's settings; it is in `settings` too. */
  workspaceSettings: Record<string, unknown>;
  /** VS Code's own switch. */
  inlineSuggest: boolean;
  messages: string[];
  /** What a user answers to the next message, pick or input; undefined: nothing. */
  answers: unknown[];
  ran: string[];
  opened: string[];
  clipboard: string;
  item: StatusBarItem;
  run(command: string): Promise<unknown>;
  edited: Emitter;
  selected: Emitter;
  activated: Emitter;
  openIn(languageId: string | null): void;
};

export function stubApi(defaults: Record<string, unknown> = {}): StubApi {
  const settings: Record<string, unknown> = { enabled: true, languages: { '*': true }, ...defaults };
  const commands = new Map<string, () => unknown>();
  const configured = new Emitter();
  const stub = {
    ...{
      settings,
      workspaceSettings: {} as Record<string, unknown>,
      inlineSuggest: true,
      messages: [] as string[],
      answers: [] as unknown[],
      ran: [] as string[],
      opened: [] as string[],
      clipboard: '',
    },
    ...{ edited: new Emitter(), selected: new Emitter(), activated: new Emitter() },
    item: { text: '', tooltip: '', show() {}, dispose() {} } as unknown as StatusBarItem,
    run: async (command: string): Promise<unknown> => commands.get(command)?.(),
    openIn(languageId: string | null): void {
      const editor =
        languageId === null ? undefined : { document: stubDocument(languageId, ''), selection: { active: at(0, 0) } };
      window.activeTextEditor = editor;
      stub.activated.fire(editor);
    },
  };
  const say = async (text: string): Promise<unknown> => {
    stub.messages.push(text);
    return stub.answers.shift();
  };
  const ask = async (): Promise<unknown> => stub.answers.shift();
  const window = {
    activeTextEditor: undefined as unknown,
    createStatusBarItem: () => stub.item,
    ...{ showInformationMessage: say, showErrorMessage: say, showInputBox: ask },
    showQuickPick: async (entries: { command: string }[]) => {
      const wanted = stub.answers.shift();
      return entries.find(({ command }) => command === wanted);
    },
    onDidChangeTextEditorSelection: stub.selected.event,
    onDidChangeActiveTextEditor: stub.activated.event,
  };
  const configuration = {
    get: (name: string, otherwise: unknown) => settings[name] ?? otherwise,
    inspect: (name: string) => ({ globalValue: settings[name], workspaceValue: stub.workspaceSettings[name] }),
    update: async (name: string, value: unknown, target: number) => {
      if (target === WORKSPACE) stub.workspaceSettings[name] = value;
      if (target === WORKSPACE || stub.workspaceSettings[name] === undefined) settings[name] = value;
      configured.fire({ affectsConfiguration: (section: string) => section === 'quern' });
    },
    toJSON: () => settings,
  };
  const editorConfiguration = { get: () => stub.inlineSuggest };
  const api = {
    version: '1.91.1',
    window,
    workspace: {
      getConfiguration: (section: string) => (section === 'editor' ? editorConfiguration : configuration),
      onDidChangeConfiguration: configured.event,
      onDidChangeTextDocument: stub.edited.event,
    },
    commands: {
      registerCommand(name: string, run: () => unknown) {
        commands.set(name, run);
        return { dispose: () => commands.delete(name) };
      },
      async executeCommand(name: string, ...args: unknown[]) {
        stub.ran.push([name, ...args].join(' '));
        return commands.get(name)?.();
      },
    },
    env: {
      appName: 'Code',
      clipboard: { writeText: async (text: string) => void Object.assign(stub, { clipboard: text }) },
      openExternal: async (uri: string) => stub.opened.push(uri) > 0,
    },
    Uri: { parse: (text: string) => text },
    ...{ StatusBarAlignment: { Right: 2 }, ConfigurationTarget: { Global: 1, Workspace: WORKSPACE } },
    ThemeColor: class {
      readonly id: string;
      constructor(id: string) {
        this.id = id;
      }
    },
  };
  return Object.assign(stub, { api: api as unknown as Api });
}

export function stubContext(): ExtensionContext & { stored: Map<string, string> } {
  const stored = new Map<string, string>();
  const changed = new Emitter();
  const secrets = {
    get: async (name: string) => stored.get(name),
    store: async (key: string, value: string) => {
      stored.set(key, value);
      changed.fire({ key });
    },
    delete: async (key: string) => {
      stored.delete(key);
      changed.fire({ key });
    },
    onDidChange: changed.event,
  };
  const extension = { id: 'quern.quern', packageJSON: { version: '1.2.3' } };
  return { stored, secrets, extension, subscriptions: [] } as unknown as ExtensionContext & {
    stored: Map<string, string>;
  };
}

export type StubClient = {
  client: Client;
  sent: [method: string, params: unknown][];
  hear: Map<string, Hear>;
  /** Of the language client: { oldState, newState }. */
  states: Emitter;
  logShown: () => number;
};

/** `pull`: what the server does about new settings. */
export function stubClient(pull: () => unknown, start: () => Promise<void> = async () => undefined): StubClient {
  const sent: [string, unknown][] = [];
  const hear = new Map<string, Hear>();
  const states = new Emitter();
  let shown = 0;
  const client = {
    start,
    onDidChangeState: states.event,
    outputChannel: { show: () => (shown += 1) },
    stop: async () => undefined,
    sendNotification: async (method: string, params: unknown) => {
      sent.push([method, params]);
      if (method === 'workspace/didChangeConfiguration') await pull();
    },
    sendRequest: async () => ({ answers: 7 }),
    onNotification(method: string, listener: Hear) {
      hear.set(method, listener);
      return { dispose: () => hear.delete(method) };
    },
  };
  return { client: client as unknown as Client, sent, hear, states, logShown: () => shown };
}
