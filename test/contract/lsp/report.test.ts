/** What quern-lsp tells a real gateway of its suggestions: numbers in /metrics, and nothing where it is turned off. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { eventually, startMesh, type TestMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';
import { type Editor, startEditor } from './support/editor.ts';

const uri = 'file:///project/answer.py';
const end = { line: 0, character: 8 };

const metricsOf = async (mesh: TestMesh): Promise<string> => (await fetch(`${mesh.url}/metrics`)).text();

/** Asks, accepts, and asks where there is no document. */
async function work(editor: Editor, without: number): Promise<void> {
  await editor.open(uri, 'value = \n');
  const [item] = await editor.complete(uri, end);
  const { command = '', arguments: given = [] } = item?.command ?? {};
  if (item) await editor.connection.sendRequest('workspace/executeCommand', { command, arguments: given });
  for (let i = 0; i < without; i++) await editor.complete('file:///project/other.py', end);
}

const has = (text: string, line: RegExp): void =>
  assert.match(text, line, text.match(/quern_suggestion.*/g)?.join('\n'));

test('what became of suggestions is counted by the gateway, without any text', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('secret_answer()') } });
  const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress });
  await work(editor, 62); // 64 with what was shown and accepted: a report goes at once
  let text = '';
  // Where they took longer than ten seconds to come together, they go in two reports.
  const isCounted = async (): Promise<boolean> => {
    text = await metricsOf(mesh);
    return text.includes('reason="STALE",language="other",service="gateway"} 62\n');
  };
  await eventually(isCounted, 'events are counted', 60_000);
  has(text, /quern_suggestion_events_total\{event="shown",language="python",service="gateway"\} 1\n/);
  has(text, /quern_suggestion_events_total\{event="accepted",language="python",service="gateway"\} 1\n/);
  has(
    text,
    /quern_suggestion_events_total\{event="not_shown",reason="STALE",language="other",service="gateway"\} 62\n/,
  );
  has(text, /quern_suggestion_characters_total\{event="accepted",language="python",service="gateway"\} 15\n/);
  has(text, /quern_suggestion_shown_seconds_count\{cache="miss",service="gateway"\} 1\n/);
  assert(!text.includes('secret_answer') && !text.includes('answer.py') && !text.includes('value ='));
});

test('a session that ends tells what is left; one that may not tell does not', async (t) => {
  const mesh = await startMesh(t, { engine: { script: () => bytesOf('answer()') } });
  const session = async (reportEvents: boolean): Promise<boolean> => {
    const editor = await startEditor(t, { gateway: mesh.gateway.grpcAddress, settings: { reportEvents } });
    await work(editor, 3);
    await editor.connection.sendRequest('shutdown');
    return (await metricsOf(mesh)).includes('quern_suggestion_events_total{event="accepted"');
  };
  assert.equal(await session(false), false);
  // The last report may take a moment only: on a busy machine some sessions end without it.
  await eventually(() => session(true), 'a session was counted', 60_000);
});

test('with completion turned off nobody is even connected to', async (t) => {
  let connections = 0;
  const gateway = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => gateway.close(resolve)));
  const { port } = gateway.address() as { port: number };
  const editor = await startEditor(t, { gateway: `127.0.0.1:${port}`, settings: { enabled: false } });
  await work(editor, 70);
  await editor.connection.sendRequest('shutdown');
  assert.equal(connections, 0);
});
