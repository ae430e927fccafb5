import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type InfillEvent, InfillFailure, type InfillQuery } from '../../../../clients/lsp/core/infill-source.ts';
import { eventData } from '../../../../clients/vscode/web/event-lines.ts';
import { readTarget } from '../../../../clients/vscode/web/http-settings.ts';
import { openHttpSource } from '../../../../clients/vscode/web/http-source.ts';
import { openPageSurroundings } from '../../../../clients/vscode/web/page-surroundings.ts';

const query: InfillQuery = {
  ...{
    requestId: 'r-1',
    traceId: 'b'.repeat(32),
    model: '',
    prefix: 'a = ',
    suffix: '\n',
    path: 'a.py',
    repository: 'p',
  },
  ...{ languageId: 'python', chunks: [{ path: 'b.py', text: 'b = 1' }], singleLine: true, ending: 'single_line' },
  ...{ candidates: 1, maxTokens: 64, temperature: 0.1, priority: 'automatic', supersedeKey: 'k', softDeadlineMs: 900 },
};

type Sent = { url: string; init: RequestInit };

function source(answer: (sent: Sent) => Response | Promise<Response>) {
  const sent: Sent[] = [];
  const fetchNow = async (url: string, init: RequestInit): Promise<Response> => {
    const one = { url, init };
    sent.push(one);
    return answer(one);
  };
  return { sent, source: openHttpSource({ url: 'http://mesh', apiKey: 'qk' }, fetchNow as typeof fetch) };
}

const stream = (text: string, headers: Record<string, string> = {}): Response => new Response(text, { headers });
const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;

async function all(events: AsyncIterable<InfillEvent>): Promise<InfillEvent[]> {
  const found: InfillEvent[] = [];
  for await (const one of events) found.push(one);
  return found;
}

const go = () => ({ signal: new AbortController().signal });
const kindOf = (kind: string) => (error: unknown) => error instanceof InfillFailure && error.kind === kind;

test('an infill goes as llama.cpp has it, with what is ours beside it, and comes as events', async () => {
  const told =
    event({ index: 0, content: 'b + 1', stop: false }) +
    event({ index: 0, content: '', stop: true, stop_type: 'word' });
  const { sent, source: mesh } = source(() => stream(told, { 'x-trace-id': 'c'.repeat(32) }));
  assert.deepEqual(await all(mesh.infill(query, go())), [
    { kind: 'accepted', traceId: 'c'.repeat(32) },
    { kind: 'delta', index: 0, text: 'b + 1' },
    { kind: 'finished', index: 0, cut: false, scopeEnded: false },
    { kind: 'end', superseded: false },
  ]);
  const [{ url = '', init = {} } = {}] = sent;
  assert.equal(url, 'http://mesh/infill');
  const headers = init.headers as Record<string, string>;
  assert.equal(headers.authorization, 'Bearer qk');
  assert.match(headers.traceparent ?? '', /^00-b{32}-[0-9a-f]{16}-01$/);
  assert.deepEqual(JSON.parse(String(init.body)), {
    ...{ request_id: 'r-1', supersede_key: 'k', priority_class: 'automatic', input_prefix: 'a = ', input_suffix: '\n' },
    ...{ language_id: 'python', input_extra: [{ filename: 'b.py', text: 'b = 1' }], n_predict: 64, n_cmpl: 1 },
    ...{ temperature: 0.1, t_max_predict_ms: 900, stop: ['\n'], stream: true },
  });
});

test('a limit is a cut; several choices end one by one', async () => {
  const told = [1, 0].map((index) => event({ index, content: '', stop: true, stop_type: 'limit' })).join('');
  const { source: mesh } = source(() => stream(told));
  const events = await all(mesh.infill({ ...query, candidates: 2 }, go()));
  assert.deepEqual(events.filter(({ kind }) => kind === 'finished').length, 2);
  assert(events.every((one) => one.kind !== 'finished' || one.cut));
});

test('refusals are kinds of failure, with what the mesh said', async () => {
  const refusals: [status: number, code: string, kind: string][] = [
    ...([
      [401, 'invalid_api_key', 'unauthenticated'],
      [429, 'overloaded', 'overloaded'],
      [503, 'draining', 'offline'],
    ] as const),
    ...([
      [504, 'timeout', 'timeout'],
      [400, 'fim_unsupported', 'no_fim'],
      [400, 'bad', 'failed'],
      [500, 'x', 'failed'],
    ] as const),
  ].map(([status, code, kind]) => [status, code, kind]);
  for (const [status, code, kind] of refusals) {
    const body = JSON.stringify({ error: { code, message: 'what to do' } });
    const { source: mesh } = source(() => new Response(body, { status }));
    await assert.rejects(
      all(mesh.infill(query, go())),
      (error) => kindOf(kind)(error) && /what to do/.test(String(error)),
      code,
    );
  }
});

test('a mesh that is not there, breaks off, or fails in its stream', async () => {
  const gone = source(() => Promise.reject(new TypeError('fetch failed')));
  await assert.rejects(all(gone.source.infill(query, go())), kindOf('offline'));
  const broken = source(() => stream(event({ index: 0, content: 'b', stop: false })));
  await assert.rejects(all(broken.source.infill(query, go())), kindOf('offline'));
  const failing = source(() => stream(event({ error: { message: 'engine lost' } })));
  await assert.rejects(all(failing.source.infill(query, go())), /engine lost/);
  const other = source(() => stream('data: <html>\n\n'));
  await assert.rejects(all(other.source.infill(query, go())), kindOf('failed'));
});

test('how long a full mesh wants to be left alone is passed on', async () => {
  const after = async (headers: Record<string, string>): Promise<unknown> => {
    const { source: mesh } = source(() => new Response('{}', { status: 429, headers }));
    const error = await all(mesh.infill(query, go())).catch((thrown: unknown) => thrown);
    return (error as InfillFailure).retryAfterMs;
  };
  assert.equal(await after({ 'retry-after': '2' }), 2_000);
  assert.equal(await after({ 'retry-after': 'Sun, 22 Nov 2026 04:00:00 GMT' }), null);
  assert.equal(await after({}), null);
});

test('an abort ends the request, before and behind its answer', async () => {
  const abort = new AbortController();
  let cancelled = false;
  const body = new ReadableStream({
    cancel: () => {
      cancelled = true;
    },
  });
  const { sent, source: mesh } = source(() => new Response(body));
  const events = mesh.infill(query, { signal: abort.signal })[Symbol.asyncIterator]();
  await events.next();
  await events.return?.(undefined);
  assert.equal(cancelled, true, 'whoever leaves early cancels it');
  assert.equal(sent[0]?.init.signal?.aborted, false);
  abort.abort();
  assert.equal(sent[0]?.init.signal?.aborted, true);
  await assert.rejects(all(mesh.infill(query, { signal: abort.signal })), kindOf('cancelled'));
  assert.equal(sent.length, 1);
});

test('capabilities are those of the model that is served', async () => {
  const model = (id: string, fim: string, ready = true) => ({ id, quern: { ready, fim_family: fim } });
  const serve = (...data: unknown[]) => source(() => Response.json({ data })).source;
  const one = await serve(model('mini', 'qwen')).capabilities('', go());
  assert.deepEqual([one.infill, one.fimFamily, one.tokenizerHash], [true, 'qwen', 'http:mini']);
  assert.equal((await serve(model('a', ''), model('b', 'x')).capabilities('a', go())).infill, false);
  assert.equal((await serve(model('mini', '', false)).capabilities('', go())).tokenizerHash, '', 'not certain yet');
});

test('events of a stream: any line end, split anywhere, half of one at the end is none', async () => {
  const text = 'data: é1\r\n\r\n: comment\n\ndata:2a\ndata: 2b\n\ndata: 3\r\rdata: half';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.slice(i, i + size));
        controller.close();
      },
    });
    const found: string[] = [];
    for await (const data of eventData(body)) found.push(data);
    assert.deepEqual(found, ['é1', '2a\n2b', '3'], `pieces of ${size}`);
  }
});

test('settings: the address without its last slash, the key, and what cannot be is named', () => {
  assert.deepEqual(readTarget({ gatewayUrl: 'https://mesh/q/', apiKey: 'k' }).target, {
    url: 'https://mesh/q',
    apiKey: 'k',
  });
  const { target, problems } = readTarget({ gatewayUrl: 'mesh:50051' });
  assert.equal(target.url, 'http://127.0.0.1:8000');
  assert.match(problems[0] ?? '', /gatewayUrl: expected http/);
});

test('in a page files are named by their folder, secrets are not, and nothing stands beside', async () => {
  const page = openPageSurroundings();
  page.setFolders([{ uri: 'memfs:/project', name: 'project' }]);
  assert.deepEqual(page.describe('memfs:/project/src/a%20b.py'), { path: 'src/a b.py', repository: 'project' });
  assert.deepEqual(page.describe('untitled:Untitled-1'), { path: 'untitled:Untitled-1', repository: '' });
  assert.equal(page.describe('memfs:/project/.env'), null);
  assert.equal(await page.pathBeside('memfs:/project/src/b.py'), null);
});
