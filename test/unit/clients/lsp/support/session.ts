// A server and its editor in one process, on a clock that the test turns, before a mesh that says what a script says.
import { PassThrough } from 'node:stream';
import type { TestContext } from 'node:test';
import {
  CancellationToken,
  createConnection,
  createProtocolConnection,
  type InlineCompletionItem,
  ProposedFeatures,
  type ProtocolConnection,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-languageserver/node';
import type { MeshSource } from '../../../../../clients/lsp/core/mesh-source.ts';
import { startServer } from '../../../../../clients/lsp/server.ts';
import { ScriptedMesh } from './scripted-mesh.ts';
import { VirtualClock } from './virtual-clock.ts';

export type Session = {
  editor: ProtocolConnection;
  clock: VirtualClock;
  mesh: ScriptedMesh;
  /** Calls to the mesh, whichever they are. */
  sent: string[];
  /** Meshes opened, by their targets, and which of them were closed, by their places in that. */
  opened: string[];
  closed: number[];
  log: string[];
  /** Settings that the server has asked for, answered when the test says so. */
  pulls: { answer: (settings: unknown) => void }[];
  complete(invoked?: boolean, token?: CancellationToken): Promise<InlineCompletionItem[]>;
  /** Everything that was sent by either side so far has arrived. */
  settle(): Promise<void>;
};

export type SessionOptions = { settings?: unknown; pulls?: boolean };

export const uri = 'file:///project/a.py';

/** A server with one document open, initialized. */
export async function startSession(t: TestContext, { settings, pulls = false }: SessionOptions): Promise<Session> {
  const [up, down] = [new PassThrough(), new PassThrough()];
  const clock = new VirtualClock();
  const mesh = new ScriptedMesh(clock, () => 'answer()');
  const sent: string[] = [];
  const opened: string[] = [];
  const closed: number[] = [];
  const log: string[] = [];
  const asked: Session['pulls'] = [];
  const server = createConnection(ProposedFeatures.all, new StreamMessageReader(up), new StreamMessageWriter(down));
  startServer({
    ...{ connection: server, clock, version: '0' },
    openSurroundings: () => ({
      ...{ setFolders: () => {}, describe: () => ({ path: 'a.py', repository: '' }), pathBeside: async () => null },
      ...{ declarationsBeside: () => [], saved: () => {}, reset: () => {}, close: () => {} },
    }),
    openSource: (given) => {
      const target = String((given as { gateway?: string } | undefined)?.gateway ?? 'first');
      const place = opened.push(target) - 1;
      return { source: { ...recorded(mesh, sent), close: () => closed.push(place) }, problems: [], target };
    },
  });
  const editor = createProtocolConnection(new StreamMessageReader(down), new StreamMessageWriter(up));
  editor.onNotification('window/logMessage', ({ message }: { message: string }) => void log.push(message));
  editor.onRequest(
    'workspace/configuration',
    () => new Promise((resolve) => asked.push({ answer: (section) => resolve([section]) })),
  );
  editor.listen();
  t.after(async () => {
    await editor.sendRequest('shutdown');
    editor.dispose();
    server.dispose();
  });
  const capabilities = { textDocument: { inlineCompletion: {} }, workspace: { configuration: pulls } };
  await editor.sendRequest('initialize', {
    processId: null,
    rootUri: null,
    capabilities,
    initializationOptions: settings,
  });
  await editor.sendNotification('initialized', {});
  const textDocument = { uri, languageId: 'python', version: 1, text: 'value = \n' };
  await editor.sendNotification('textDocument/didOpen', { textDocument });
  const session: Session = {
    ...{ editor, clock, mesh, sent, opened, closed, log, pulls: asked },
    async complete(invoked = true, token = CancellationToken.None) {
      const position = { line: 0, character: 8 };
      const params = { textDocument: { uri }, position, context: { triggerKind: invoked ? 1 : 2 } };
      const { items } = (await editor.sendRequest('textDocument/inlineCompletion', params, token)) as {
        items: InlineCompletionItem[];
      };
      return items;
    },
    async settle() {
      // There and back twice: an answer of the editor may be on its way.
      for (let i = 0; i < 2; i++) await editor.sendRequest('quern/statistics');
      await clock.advance(0);
    },
  };
  await session.settle();
  return session;
}

function recorded(mesh: ScriptedMesh, sent: string[]): MeshSource {
  return {
    infill(query, options) {
      sent.push('infill');
      return mesh.infill(query, options);
    },
    async capabilities() {
      sent.push('capabilities');
      const endings = ['single_line', 'multi_line', 'auto'] as const;
      return {
        ...{ infill: true, fimFamily: 'fim', tokenizerHash: 'a', chunksMax: 8, endings },
        ...{ contextLength: mesh.contextLength, infillPromptTokens: 0, modelHash: 'm', ready: true },
      };
    },
    report: async () => void sent.push('report'),
    warm: async () => void sent.push('warm'),
  };
}
