// An editor of a few lines: starts `quern-lsp --stdio` as a process and speaks the protocol with it.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  CancellationTokenSource,
  createProtocolConnection,
  type InitializeResult,
  type InlineCompletionItem,
  InlineCompletionTriggerKind,
  type Position,
  type ProtocolConnection,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-languageserver/node';

const BIN = join(import.meta.dirname, '../../../../clients/lsp/bin.mjs');

export type Editor = {
  connection: ProtocolConnection;
  child: ChildProcess;
  initialized: InitializeResult;
  open(uri: string, text: string, languageId?: string): Promise<void>;
  /** Inserts text at a position. */
  type(uri: string, version: number, position: Position, text: string): Promise<void>;
  complete(
    uri: string,
    position: Position,
    options?: { invoked?: boolean; cancel?: CancellationTokenSource; selected?: unknown },
  ): Promise<InlineCompletionItem[]>;
};

export type EditorOptions = {
  gateway: string;
  settings?: Record<string, unknown>;
  capabilities?: Record<string, unknown>;
  rootUri?: string;
  /** Program and its first words; default: the checkout's quern-lsp. */
  server?: readonly string[];
};

export async function startEditor(t: Pick<TestContext, 'after'>, options: EditorOptions): Promise<Editor> {
  const [program = '', ...words] = options.server ?? [process.execPath, BIN];
  const child = spawn(program, [...words, '--stdio'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, QUERN_GATEWAY: options.gateway },
  });
  const connection = createProtocolConnection(
    new StreamMessageReader(child.stdout),
    new StreamMessageWriter(child.stdin),
  );
  connection.listen();
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.after(async () => {
    connection.dispose();
    child.stdin.end();
    child.kill();
    await exited;
  });
  const { rootUri } = options;
  const initialized = (await connection.sendRequest('initialize', {
    processId: process.pid,
    rootUri: rootUri ?? null,
    workspaceFolders: rootUri === undefined ? null : [{ uri: rootUri, name: 'project' }],
    capabilities: { textDocument: { inlineCompletion: {} }, ...options.capabilities },
    // A machine that is busy answers late: what a test sees must not depend on it.
    initializationOptions: { softDeadlineMs: 20_000, hardDeadlineMs: 60_000, warm: false, ...options.settings },
  })) as InitializeResult;
  await connection.sendNotification('initialized', {});
  return {
    connection,
    child,
    initialized,
    open: (uri, text, languageId = 'python') =>
      connection.sendNotification('textDocument/didOpen', { textDocument: { uri, languageId, version: 1, text } }),
    type: (uri, version, position, text) =>
      connection.sendNotification('textDocument/didChange', {
        textDocument: { uri, version },
        contentChanges: [{ range: { start: position, end: position }, text }],
      }),
    async complete(uri, position, { invoked = true, cancel, selected } = {}) {
      const triggerKind = invoked ? InlineCompletionTriggerKind.Invoked : InlineCompletionTriggerKind.Automatic;
      const params = {
        textDocument: { uri },
        position,
        context: { triggerKind, ...(selected === undefined ? {} : { selectedCompletionInfo: selected }) },
      };
      const token = (cancel ?? new CancellationTokenSource()).token;
      const result = await connection.sendRequest('textDocument/inlineCompletion', params, token);
      return (result as { items: InlineCompletionItem[] }).items;
    },
  };
}
