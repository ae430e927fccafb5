import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventReporter, type ReportedEvent } from '../../../../clients/lsp/core/event-reporter.ts';
import { type InfillEvent, InfillFailure, type InfillQuery } from '../../../../clients/lsp/core/infill-source.ts';
import { REPORT_EVERY_MS, REPORT_PAUSE_MS } from '../../../../clients/lsp/core/limits.ts';
import { defaultSettings, type Settings } from '../../../../clients/lsp/core/settings.ts';
import { eventData } from '../../../../clients/vscode/web/event-lines.ts';
import { readTarget } from '../../../../clients/vscode/web/http-settings.ts';
import { openHttpSource } from '../../../../clients/vscode/web/http-source.ts';
import { openPageSurroundings } from '../../../../clients/vscode/web/page-surroundings.ts';
import { VirtualClock } from '../lsp/support/virtual-clock.ts';

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
  ...{
    languageId: 'python',
    chunks: [{ path: 'b.py', text: 'b = 1', kind: 'recent' }],
    singleLine: true,
    ending: 'single_line',
  },
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

/** What /v1/models says of a model: of a mesh as it is now, and of one from before `quern.infill`. */
const INFILL = {
  ...{ prompt_order: 'spm', chunks_max: 12, stop_max: 16, prompt_tokens: 448 },
  modes: ['single_line', 'auto', 'unbounded'],
};
const NEW = {
  ...{ id: 'mini', max_model_len: 2048 },
  quern: { ready: true, fim_family: 'qwen', tokenizer_hash: 'f0', model_hash: 'm0', infill: INFILL },
};
const OLD = { id: 'mini', quern: { ready: true, fim_family: 'qwen' } };
const isModels = ({ url }: Sent): boolean => url.endsWith('/v1/models');
const bodyOf = ({ init }: Sent): unknown => JSON.parse(String(init.body));

const ended = (quern: object, stop_type = 'limit', index = 0): string =>
  event({ index, content: '', stop: true, stop_type, quern });

test('an infill goes as llama.cpp has it, with what is ours beside it, and comes as events', async () => {
  const told = event({ index: 0, content: 'b + 1', stop: false }) + ended({ finish_reason: 'stop' }, 'word');
  const { sent, source: mesh } = source((one) =>
    isModels(one) ? Response.json({ data: [NEW] }) : stream(told, { 'x-trace-id': 'c'.repeat(32) }),
  );
  await mesh.capabilities('', go());
  sent.length = 0;
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
  const asked = {
    ...{ request_id: 'r-1', supersede_key: 'k', priority_class: 'automatic', input_prefix: 'a = ', input_suffix: '\n' },
    ...{ path: 'a.py', repository: 'p', language_id: 'python' },
    ...{ input_extra: [{ filename: 'b.py', text: 'b = 1', kind: 'recent' }], n_predict: 64, n_cmpl: 1 },
    ...{ temperature: 0.1, mode: 'single_line', soft_deadline_ms: 900, stream: true },
  };
  assert.deepEqual(JSON.parse(String(init.body)), asked);
  await mesh.warm(query, go());
  const read = { ...asked, n_predict: 0, stream: false, priority_class: 'warm' };
  assert.deepEqual(sent.slice(1).map(bodyOf), [read]);
});

test('a mesh that does not say what it can do is told the same in terms that it has always known', async () => {
  const told = event({ index: 0, content: '', stop: true, stop_type: 'word' });
  const { sent, source: mesh } = source((one) => (isModels(one) ? Response.json({ data: [OLD] }) : stream(told)));
  const several: InfillQuery = { ...query, singleLine: false, ending: 'auto' };
  for (const ask of [() => Promise.resolve(), () => mesh.capabilities('', go())]) {
    await ask();
    sent.length = 0;
    for (const one of [query, several]) await all(mesh.infill(one, go()));
    const [line, lines] = sent.map(bodyOf) as Record<string, unknown>[];
    assert.deepEqual([line?.stop, line?.t_max_predict_ms, line?.mode], [['\n'], 900, 'single_line']);
    assert.deepEqual([lines?.stop, lines?.t_max_predict_ms, lines?.mode], [undefined, 900, 'auto']);
  }
});

test('how a choice ended is read where the mesh says it, else from llama.cpp’s stop type', async () => {
  const finishedBy = async (last: string): Promise<unknown> => {
    const { source: mesh } = source(() => stream(last));
    const [, finished] = await all(mesh.infill(query, go()));
    return finished?.kind === 'finished' ? [finished.cut, finished.scopeEnded] : finished;
  };
  assert.deepEqual(await finishedBy(ended({ finish_reason: 'stop', scope_ended: true }, 'eos')), [false, true]);
  assert.deepEqual(await finishedBy(ended({ finish_reason: 'stop', scope_ended: false }, 'eos')), [false, false]);
  for (const reason of ['length', 'cancelled', 'superseded'])
    assert.deepEqual(await finishedBy(ended({ finish_reason: reason, scope_ended: false })), [true, false], reason);
  assert.deepEqual(await finishedBy(event({ index: 0, stop: true, stop_type: 'limit' })), [true, false]);
  assert.deepEqual(await finishedBy(event({ index: 0, stop: true, stop_type: 'eos' })), [false, false]);
});

test('a query that a newer one took the place of ends so', async () => {
  const last = ended({ finish_reason: 'stop' }, 'eos', 1) + ended({ finish_reason: 'superseded' });
  const { source: mesh } = source(() => stream(last));
  const end = async (candidates: number): Promise<unknown> =>
    (await all(mesh.infill({ ...query, candidates }, go()))).at(-1);
  assert.deepEqual(await end(2), { kind: 'end', superseded: true });
  assert.deepEqual(await end(3), { kind: 'end', superseded: true }, 'the third was not even begun');
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

test('an error in the middle of a stream is the kind of failure that its status says', async () => {
  const failed = async (error: object): Promise<InfillFailure> => {
    const { source: mesh } = source(() => stream(event({ index: 0, content: 'b', stop: false }) + event({ error })));
    const thrown: unknown = await all(mesh.infill(query, go())).catch((one: unknown) => one);
    assert(thrown instanceof InfillFailure);
    return thrown;
  };
  const message = 'what to do';
  for (const [status, code, kind] of [
    [499, 'cancelled', 'cancelled'],
    [504, 'deadline_exceeded', 'timeout'],
    [429, 'queue_full', 'overloaded'],
    [503, 'no_engine', 'offline'],
    [401, 'invalid_api_key', 'unauthenticated'],
    [500, 'internal', 'failed'],
  ] as const) {
    const found = await failed({ message, type: 'server_error', param: null, code, status, retry_after_ms: 1_500 });
    assert.deepEqual([found.kind, found.message, found.retryAfterMs], [kind, `${message} (${code})`, 1_500]);
  }
  // An older mesh says no status.
  const older = await failed({ message, type: 'rate_limit_error', param: null, code: null });
  assert.deepEqual([older.kind, older.retryAfterMs], ['overloaded', null]);
  assert.equal((await failed({ message, type: 'server_error', code: null })).kind, 'failed');
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

test('capabilities are those that the mesh tells of the model that is served', async () => {
  const serve = (...data: unknown[]) => source(() => Response.json({ data })).source;
  assert.deepEqual(await serve(NEW).capabilities('', go()), {
    ...{ model: 'mini', infill: true, fimFamily: 'qwen', tokenizerHash: 'f0', chunksMax: 12 },
    endings: ['single_line', 'auto'], // the fourth is not one that the editor asks for
    ...{ contextLength: 2048, infillPromptTokens: 448, modelHash: 'm0', ready: true },
  });
  const told = (id: string, hash: string) => ({ id, quern: { ...NEW.quern, tokenizer_hash: hash, infill: null } });
  const chat = await serve(NEW, told('chat', 'f1')).capabilities('chat', go());
  assert.deepEqual([chat.infill, chat.tokenizerHash, chat.endings], [false, 'f1', []]);
  assert.equal((await serve(told('mini', '')).capabilities('', go())).tokenizerHash, '', 'not certain yet');
  for (const name of ['other', ''])
    await assert.rejects(serve(NEW, told('chat', 'f1')).capabilities(name, go()), /served model \(mini, chat\), got/);
  const html = source(() => new Response('<html>')).source;
  await assert.rejects(html.capabilities('', go()), kindOf('failed'));
});

test('of an older mesh a model that is ready is known by its name, and ends are read here', async () => {
  const model = (id: string, fim: string, ready = true) => ({ id, quern: { ready, fim_family: fim } });
  const serve = (...data: unknown[]) => source(() => Response.json({ data })).source;
  assert.deepEqual(await serve(OLD).capabilities('', go()), {
    ...{ model: 'mini', infill: true, fimFamily: 'qwen', tokenizerHash: 'http:mini', chunksMax: 256, endings: [] },
    ...{ contextLength: 0, infillPromptTokens: 0, modelHash: '', ready: true },
  });
  assert.equal((await serve(model('a', ''), model('b', 'x')).capabilities('a', go())).infill, false);
  assert.equal((await serve(model('mini', '', false)).capabilities('', go())).tokenizerHash, '', 'not certain yet');
  assert.equal((await serve({ id: 'any' }).capabilities('', go())).tokenizerHash, '', 'not a mesh of ours');
});

const ACCEPTED: ReportedEvent = {
  ...{ requestId: 'r-1', choice: 1, kind: 'accepted', reason: '', elapsedMs: 40, characters: 12 },
  ...{ languageId: 'python', afterSeconds: null, fromCache: true },
};

test('what became of suggestions is told with what is known of it', async () => {
  const { sent, source: mesh } = source((one) => Response.json(isModels(one) ? { data: [NEW] } : { counted: 2 }));
  const kept: ReportedEvent = { ...ACCEPTED, kind: 'kept', elapsedMs: null, characters: 0, afterSeconds: 30 };
  await mesh.report([ACCEPTED, kept], go());
  await mesh.report([ACCEPTED], go());
  assert.deepEqual(
    sent.map(({ url, init }) => [init.method, url]),
    [
      ['GET', 'http://mesh/v1/models'], // asked once whether it takes them
      ['POST', 'http://mesh/v1/events'],
      ['POST', 'http://mesh/v1/events'],
    ],
  );
  const shared = { request_id: 'r-1', choice: 1, reason: '', language_id: 'python', from_cache: true };
  const first = { ...shared, kind: 'accepted', elapsed_ms: 40, characters: 12 };
  assert.deepEqual(sent.slice(1).map(bodyOf), [
    { events: [first, { ...shared, kind: 'kept', characters: 0, after_seconds: 30 }] },
    { events: [first] },
  ]);
});

test('a mesh that does not say so is told no events; refusals of those that are told are kinds of failure', async () => {
  const old = source(() => Response.json({ data: [OLD] }));
  await assert.rejects(old.source.report([ACCEPTED], go()), kindOf('no_fim'));
  assert(old.sent.every(isModels));
  const refused = async (status: number, message: string): Promise<InfillFailure> => {
    const { source: mesh } = source((one) =>
      isModels(one) ? Response.json({ data: [NEW] }) : Response.json({ error: { message } }, { status }),
    );
    const thrown: unknown = await mesh.report([ACCEPTED], go()).catch((error: unknown) => error);
    assert(thrown instanceof InfillFailure, `HTTP ${status} is a failure`);
    return thrown;
  };
  assert.equal((await refused(400, 'reason: expected one of DISABLED, MODEL_NO_FIM, got "X"')).kind, 'failed');
  assert.equal((await refused(401, 'no key')).kind, 'unauthenticated');
  assert.equal((await refused(503, 'draining')).kind, 'offline');
});

/** The language server's own reporter over HTTP, before a mesh that takes reports from when `told` says so. */
function reporting(settings: Partial<Settings>, told: () => object = () => NEW) {
  const clock = new VirtualClock();
  const { sent, source: mesh } = source((one) => Response.json(isModels(one) ? { data: [told()] } : { counted: 1 }));
  const now = { ...defaultSettings, ...settings };
  const reports: Promise<void>[] = [];
  const report: typeof mesh.report = (events, options) => {
    const running = mesh.report(events, options);
    reports.push(running);
    return running;
  };
  const reporter = new EventReporter({ clock, source: { report }, settings: () => now });
  const accepted = { kind: 'accepted', id: 'r-1', index: 0, languageId: 'python', elapsedMs: 40, chars: 12 } as const;
  reporter.noteEvent({ ...accepted, latencyMs: 90, fromCache: false });
  /** So much later, and with what was sent then answered. */
  const later = async (ms: number): Promise<void> => {
    await clock.advance(ms);
    await Promise.allSettled(reports);
    await new Promise((resolve) => setImmediate(resolve)); // the reporter has heard of it
  };
  return { sent, reporter, later };
}

test('reports are on unless the user turned them off; then nothing is sent, not even the question whether it may', async () => {
  const on = reporting({});
  await on.later(REPORT_EVERY_MS);
  assert.deepEqual(
    on.sent.map(({ url }) => url),
    ['http://mesh/v1/models', 'http://mesh/v1/events'],
  );
  for (const off of [{ reportEvents: false }, { enabled: false }, { languages: { python: false } }]) {
    const { sent, reporter, later } = reporting(off);
    await later(REPORT_PAUSE_MS);
    await reporter.close();
    assert.deepEqual(sent, [], JSON.stringify(off));
  }
});

test('an older mesh is left alone for minutes, and told what there was once it takes reports', async () => {
  let told: object = OLD;
  const { sent, reporter, later } = reporting({}, () => told);
  await later(REPORT_EVERY_MS);
  assert.deepEqual([sent.length, sent.every(isModels), reporter.queued, reporter.dropped], [1, true, 1, 0]);
  told = NEW;
  await later(REPORT_PAUSE_MS - 1);
  assert.equal(sent.length, 1);
  await later(1);
  assert.deepEqual([sent.length, sent.at(-1)?.url, reporter.queued], [3, 'http://mesh/v1/events', 0]);
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
