/** Requests that completion plug-ins' own code sent: every one is answered, with all that the plug-in reads of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, startMesh, type TestMesh } from './fakes/mesh.ts';
import { bytesOf } from './fakes/mock-tokenizer.ts';
import { type RecordedRequest, recordedClients, recordedRequests } from './fakes/recorded-requests.ts';

/** Every value at `path`; llama.vim's answers have names with slashes in them. */
function valuesAt(answer: unknown, path: string): unknown[] {
  if (typeof answer !== 'object' || answer === null) return [undefined];
  const flat = (answer as Record<string, unknown>)[path];
  if (flat !== undefined) return [flat];
  const [first = '', ...rest] = path.split('/');
  const next = first === '*' ? Object.values(answer) : [(answer as Record<string, unknown>)[first]];
  return rest.length === 0 ? next : next.flatMap((value) => valuesAt(value, rest.join('/')));
}

async function send(mesh: TestMesh, { method, path, headers, body }: RecordedRequest, completionId: string) {
  const named = body && 'completion_id' in body ? { ...body, completion_id: completionId } : body;
  const content = named === undefined ? {} : { body: JSON.stringify(named) };
  const response = await fetch(mesh.url + path, { method, headers, ...content });
  const text = await response.text();
  return { status: response.status, text, json: text === '' ? null : JSON.parse(text) };
}

for (const client of recordedClients()) {
  test(`${client}: each recorded request gets what the plug-in reads`, async (t) => {
    const mesh = await startMesh(t);
    mesh.engine.settings.script = () => bytesOf('area(2, 3))');
    let completionId = '';
    for (const request of recordedRequests(client)) {
      const { status, text, json } = await send(mesh, request, completionId);
      assert.equal(status, 200, `${request.name}: ${text}`);
      for (const [path, type] of Object.entries(request.reads)) {
        const values = valuesAt(json, path);
        assert(values.length > 0, `${request.name}: nothing at ${path} in ${text}`);
        for (const value of values) assert.equal(typeof value, type, `${request.name}: ${path} in ${text}`);
      }
      if (typeof json?.id === 'string') completionId = json.id;
    }
    await eventually(() => mesh.engine.live === 0, 'the engine has ended all');
  });
}

async function suggestionEvents(mesh: TestMesh): Promise<string[]> {
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  return text.split('\n').filter((line) => line.startsWith('quern_suggestion_events_total{'));
}

test("Tabby's events are counted as the suggestions of other clients are", async (t) => {
  const mesh = await startMesh(t);
  for (const request of recordedRequests('tabby-agent').filter(({ path }) => path.startsWith('/v1/events')))
    assert.equal((await send(mesh, request, 'cmpl-0b9c')).status, 200);
  const counted = (event: string): string =>
    `quern_suggestion_events_total{event="${event}",language="other",service="gateway"} 1`;
  assert.deepEqual(
    (await suggestionEvents(mesh)).sort(),
    ['accepted', 'dismissed', 'partially_accepted', 'shown'].map(counted),
  );
});

test("Tabby's events: mistakes are named and not counted", async (t) => {
  const mesh = await startMesh(t);
  const event = { type: 'view', completion_id: 'cmpl-0b9c', choice_index: 0 };
  const post = (body: object) =>
    send(
      mesh,
      { name: '', method: 'POST', path: '/v1/events', headers: {}, body: body as Record<string, unknown>, reads: {} },
      'a b',
    );
  const refused: [object, RegExp][] = [
    [{ ...event, type: 'hover' }, /type: expected one of "view"\|"select"\|"dismiss"|type: .*view/],
    [{ ...event, choice_index: -1 }, /choice_index/],
    [{ type: 'view', choice_index: 0 }, /completion_id: expected a string/],
    [event, /request_id: expected 1\.\.128/],
  ];
  for (const [body, message] of refused) {
    const { status, json } = await post(body);
    assert.equal(status, 400);
    assert.match(json.error.message, message);
  }
  assert.deepEqual(await suggestionEvents(mesh), []);
});

test('/infill: of one model any name is that one, as in llama.cpp; the answer tells which', async (t) => {
  const mesh = await startMesh(t);
  const [, infill] = recordedRequests('llama-vscode');
  assert(infill?.body);
  assert.equal(infill.body.model, 'google/gemini-2.5-flash', 'what its settings hold by default');
  const { json } = await send(mesh, infill, '');
  assert.deepEqual(
    (json as { model: string }[]).map(({ model }) => model),
    ['mock', 'mock', 'mock'],
  );
  const other = await send(mesh, { ...infill, path: '/v1/completions', body: { model: 'gpt-4', prompt: 'a' } }, '');
  assert.equal(other.status, 404, 'elsewhere a name is meant');
});
