/** A real gateway hears and says the same over HTTP, as the extension in a browser asks it, as over gRPC. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ChunkKind } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { ReportedEvent } from '../../../clients/lsp/core/event-reporter.ts';
import type { InfillEvent, InfillQuery } from '../../../clients/lsp/core/infill-source.ts';
import type { MeshSource } from '../../../clients/lsp/core/mesh-source.ts';
import { openGatewaySource } from '../../../clients/lsp/rpc/gateway-source.ts';
import { openHttpSource } from '../../../clients/vscode/web/http-source.ts';
import { startMesh, type TestMesh } from '../gateway/fakes/mesh.ts';
import { bytesOf } from '../gateway/fakes/mock-tokenizer.ts';

const QUERY: InfillQuery = {
  ...{ requestId: 'r', traceId: 'b'.repeat(32), model: '', prefix: 'def f():\n    ', suffix: '\n' },
  ...{ path: 'src/a.py', languageId: 'python', repository: 'project', chunks: [] },
  ...{ singleLine: false, ending: 'auto', candidates: 1, maxTokens: 100, temperature: 0.1 },
  ...{ priority: 'automatic', supersedeKey: 'place', softDeadlineMs: 60_000 },
};

const go = () => ({ signal: new AbortController().signal });

async function startSources(t: TestContext, script: string, stepMs = 0) {
  const mesh = await startMesh(t, { engine: { stepMs, script: () => bytesOf(script) } });
  const grpc = openGatewaySource({ address: mesh.gateway.grpcAddress, apiKey: null, ca: null });
  const http = openHttpSource({ url: mesh.url, apiKey: null });
  t.after(() => grpc.close());
  t.after(() => http.close());
  return { mesh, sources: { grpc, http } as Readonly<Record<string, MeshSource>> };
}

type Heard = { text: string; cut: boolean; scopeEnded: boolean; superseded: boolean };

async function hear(events: AsyncIterable<InfillEvent>): Promise<Heard> {
  const heard = { text: '', cut: false, scopeEnded: false, superseded: false };
  for await (const event of events) {
    if (event.kind === 'delta') heard.text += event.text;
    if (event.kind === 'finished') Object.assign(heard, { cut: event.cut, scopeEnded: event.scopeEnded });
    if (event.kind === 'end') heard.superseded ||= event.superseded;
  }
  return heard;
}

/** What the gateway made of the last query: its chunks, the prompt's ids, the class and the bounds that the engine was given. */
function passedOn({ engine, tokenizer }: TestMesh) {
  const { tokenIds, sampling, priorityClass, supersedeKey } = engine.requests.at(-1) ?? {};
  const bounds = { ...sampling, seed: 'drawn anew each time' };
  return { chunks: tokenizer.chunks.slice(), tokenIds, bounds, priorityClass, supersedeKey };
}

test('what the mesh can do is the same', async (t) => {
  const { sources } = await startSources(t, '');
  const { grpc, http } = sources;
  const known = await http?.capabilities('', go());
  assert.deepEqual(known, await grpc?.capabilities('', go()));
  assert.deepEqual([known?.infill, known?.endings], [true, ['single_line', 'multi_line', 'auto']]);
});

test('a query is the same prompt with the same bounds, and ends at the same place', async (t) => {
  const { mesh, sources } = await startSources(t, 'if a:\n        b()\nc()\n');
  const kinds = ['declaration', 'open_file', 'recent', undefined] as const;
  const chunks = kinds.map((kind) => ({ path: 'b.py', text: 'b = 1', ...(kind && { kind }) }));
  const block = { text: 'if a:\n        b()', cut: false, scopeEnded: true, superseded: false };
  const line = { text: 'if a:', cut: false, scopeEnded: false, superseded: false };
  const queries: [Partial<InfillQuery>, Heard][] = [
    [{}, block],
    [{ ending: 'multi_line', chunks }, block],
    [{ ending: 'single_line', singleLine: true }, line],
    [{ suffix: ' + 1)\n' }, line],
    [{ maxTokens: 4 }, { ...line, text: 'if a', cut: true }],
  ];
  for (const [i, [over, expected]] of queries.entries()) {
    const passed: unknown[] = [];
    for (const [name, source] of Object.entries(sources)) {
      await source.capabilities('', go());
      const query = { ...QUERY, ...over, requestId: `${name}-${i}` };
      assert.deepEqual(await hear(source.infill(query, go())), expected, query.requestId);
      passed.push(passedOn(mesh));
    }
    assert.deepEqual(passed[1], passed[0], JSON.stringify(over));
    const { CHUNK_KIND_DECLARATION, CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT } = ChunkKind;
    const told = [CHUNK_KIND_DECLARATION, CHUNK_KIND_OPEN_FILE, CHUNK_KIND_RECENT, undefined];
    assert.deepEqual(
      passedOn(mesh).chunks.map(({ kind }) => kind),
      over.chunks ? told : [],
    );
  }
});

test('a prompt to be read ahead is the same, and nothing is made of it', async (t) => {
  const { mesh, sources } = await startSources(t, 'never');
  const passed: unknown[] = [];
  for (const [requestId, source] of Object.entries(sources)) {
    await source.capabilities('', go());
    await source.warm({ ...QUERY, requestId }, go());
    const { tokenIds, bounds, priorityClass } = passedOn(mesh);
    passed.push({ tokenIds, maxTokens: bounds.maxTokens, priorityClass });
  }
  assert.deepEqual(passed[1], passed[0]);
  assert.equal(passedOn(mesh).bounds.maxTokens, 0);
});

test('the soft deadline holds within a line', async (t) => {
  const { sources } = await startSources(t, 'x'.repeat(4_000), 20);
  for (const [requestId, source] of Object.entries(sources)) {
    await source.capabilities('', go());
    const query = { ...QUERY, requestId, maxTokens: 4_000, softDeadlineMs: 300 };
    const { text, cut, superseded } = await hear(source.infill(query, go()));
    assert.deepEqual([text.length < 4_000, cut, superseded], [true, true, false], requestId);
  }
});

test('what became of suggestions is counted the same', async (t) => {
  const { mesh, sources } = await startSources(t, '');
  const event: ReportedEvent = {
    ...{ requestId: 'r-1', choice: 0, kind: 'accepted', reason: '', elapsedMs: 40, characters: 12 },
    ...{ languageId: 'python', afterSeconds: null, fromCache: true },
  };
  const events: ReportedEvent[] = [
    event,
    { ...event, kind: 'shown', characters: null },
    { ...event, kind: 'kept', elapsedMs: null, afterSeconds: 30 },
    { ...event, requestId: '', kind: 'not_shown', reason: 'MODEL_NO_FIM', elapsedMs: null, characters: null },
  ];
  const counted = async (): Promise<[string, number][]> => {
    const text = await (await fetch(`${mesh.url}/metrics`)).text();
    const lines = text.split('\n').filter((line) => /^quern_suggestion_\w+\{/.test(line));
    return lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]);
  };
  await sources.grpc?.report(events, go());
  const once = await counted();
  assert(once.length > events.length);
  await sources.http?.report(events, go());
  assert.deepEqual(
    await counted(),
    once.map(([series, value]) => [series, 2 * value]),
  );
});
