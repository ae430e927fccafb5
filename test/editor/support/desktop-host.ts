/**
 * As much of a desktop's extension host as the packed extension needs: its entry is loaded by Node's own `require`, "vscode" is a
 * stub, and all else (the language client, the server as a process, gRPC) is real.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { ExtensionContext, InlineCompletionItemProvider, Position, TextDocument } from 'vscode';
import { type StubApi, StubPosition, stubApi, stubContext } from '../../unit/clients/vscode/support/stub-api.ts';

export type DesktopHost = {
  stub: StubApi;
  context: ExtensionContext;
  /** All that went into the output channel, at level Trace. */
  log(): string;
  /** Asks for suggestions by hand, as the editor would. */
  suggestions(position: Position): Promise<string[]>;
  /** Process ids of language servers. */
  servers(): number[];
};

type Entry = { activate(context: ExtensionContext): Promise<void>; deactivate(): Promise<void> | undefined };
type Provide = (...given: unknown[]) => Promise<{ items: { insertText: string }[] } | undefined>;

const TRACE = 1;

class Disposable {
  dispose(): void {}
}
const listen = (): Disposable => new Disposable();

class Emitter {
  event = listen;
  fire(): void {}
  dispose(): void {}
}

/** Something with every name in it: the language client extends and reads much that is never used here. */
function anything(): unknown {
  const made = new Map<string | symbol, unknown>();
  return new Proxy(class {}, {
    apply: anything,
    get(target, name) {
      if (name === 'prototype' || name in target) return Reflect.get(target, name) as unknown;
      if (name === 'then' || name === Symbol.iterator || name === Symbol.toPrimitive) return undefined;
      if (!made.has(name)) made.set(name, /^(on[A-Z]|register)/.test(String(name)) ? listen : anything());
      return made.get(name);
    },
  });
}

/** `known` first, then anything. */
const completed = (known: object): unknown => {
  const rest = anything() as Record<string | symbol, unknown>;
  return new Proxy(known, { get: (target, name) => Reflect.get(target, name) ?? rest[name] });
};

/**
 * `extension` is a folder that the bundler made; what "vscode" is lies beside it. `settings` are the user's; `document` is open.
 */
export async function startDesktop(
  t: Pick<TestContext, 'after'>,
  extension: string,
  settings: Record<string, unknown>,
  document: TextDocument,
): Promise<DesktopHost> {
  const stub = stubApi(settings);
  const context = Object.assign(stubContext(), { extensionUri: extension });
  const lines: string[] = [];
  let provider: InlineCompletionItemProvider | null = null;
  const module = join(extension, '../node_modules/vscode');
  mkdirSync(module, { recursive: true });
  writeFileSync(join(module, 'index.js'), 'module.exports = globalThis.vscodeOfTest;\n');
  Object.assign(globalThis, {
    vscodeOfTest: fullApi(stub, document, lines, (given) => {
      provider = given;
    }),
  });
  const entry = createRequire(import.meta.url)(join(extension, 'dist/desktop.js')) as Entry;
  await entry.activate(context);
  t.after(() => entry.deactivate());
  return {
    stub,
    context,
    log: () => lines.join('\n'),
    async suggestions(position) {
      const token = { isCancellationRequested: false, onCancellationRequested: listen };
      const provide = provider?.provideInlineCompletionItems as Provide | undefined;
      const list = await provide?.(document, position, { triggerKind: 0 }, token);
      return (list?.items ?? []).map(({ insertText }) => insertText);
    },
    servers: () =>
      readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
        .trim()
        .split(' ')
        .filter((pid) => commandLine(pid).includes('server.mjs'))
        .map(Number),
  };
}

/** "" of a process that is gone. */
function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

function fullApi(
  stub: StubApi,
  document: TextDocument,
  lines: string[],
  registered: (provider: InlineCompletionItemProvider) => void,
): unknown {
  const { api } = stub;
  const write = (text: string): number => lines.push(text);
  const channel = completed({
    ...{ logLevel: TRACE, trace: write, debug: write, info: write, warn: write, error: write },
    ...{ append: write, appendLine: write, dispose() {} },
  });
  class InlineCompletionItem {
    readonly insertText: string;
    readonly command: unknown;
    constructor(insertText: string, _range: unknown, command: unknown) {
      this.insertText = insertText;
      this.command = command;
    }
  }
  class InlineCompletionList {
    readonly items: unknown;
    constructor(items: unknown) {
      this.items = items;
    }
  }
  const workspace = { ...api.workspace, textDocuments: [document], notebookDocuments: [], workspaceFolders: undefined };
  const tabGroups = { all: [], onDidChangeTabGroups: listen, onDidChangeTabs: listen };
  const languages = {
    match: () => 1,
    registerInlineCompletionItemProvider(_selector: unknown, provider: InlineCompletionItemProvider) {
      registered(provider);
      return new Disposable();
    },
  };
  // The bundler copies what an object itself has: what is used by name has to be there.
  const own = {
    ...api,
    ...{ Disposable, EventEmitter: Emitter, Position: StubPosition, InlineCompletionItem, InlineCompletionList },
    LogLevel: { Trace: TRACE, Info: 3 },
    Uri: { ...api.Uri, joinPath: (...parts: string[]) => ({ fsPath: join(...parts) }) },
    window: completed({ ...api.window, tabGroups, visibleTextEditors: [], createOutputChannel: () => channel }),
    workspace: completed(workspace),
    languages: completed(languages),
  };
  Object.defineProperty(own, '__esModule', { value: true });
  return completed(own);
}
