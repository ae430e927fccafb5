/**
 * One trace from the caller to the engine's phases over the real mesh, for every way in which a request ends. Where the spans
 * are read is the reader's: a collector in the test, or a real Jaeger.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CallOptions, CompleteRequest, CompletionServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import { startTrace, type TraceContext } from '#kit/trace.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { type Mesh, startMesh } from '../e2e/mesh.ts';
import type { ReceivedSpan } from './otlp-spans.ts';
import { checkTrace, pictureOf, uncoveredShare } from './span-tree.ts';

const COMPLETE = 'quern.gateway.v1.CompletionService/StreamComplete';
const GENERATE = 'quern.engine.v1.EngineService/Generate';
const ENCODE = 'quern.tokenizer.v1.TokenizerService/Encode';
const MODEL = 'quern-mini';

/** Where the spans of a mesh are read. */
export type TraceReader = {
  /** For QUERN_OTLP_ENDPOINT. */
  readonly url: string;
  /** The spans of a trace once `enough` says so. */
  settled(traceId: string, enough: (spans: ReceivedSpan[]) => boolean): Promise<ReceivedSpan[]>;
  /** All spans of a service whose name begins so. */
  named(service: string, prefix: string): Promise<ReceivedSpan[]>;
};

export type Traced = { mesh: Mesh; reader: TraceReader; client: InstanceType<typeof CompletionServiceClient> };

export async function startTraced(t: TestContext, reader: TraceReader): Promise<Traced> {
  const env = { QUERN_OTLP_ENDPOINT: reader.url, QUERN_ENGINE_TRACE_STEPS: '7' };
  const mesh = await startMesh(t, { env, audit: true });
  const client = openChannel(CompletionServiceClient, { address: mesh.grpc });
  t.after(() => client.close());
  return { mesh, reader, client };
}

type Part = { name: string; pid: number | null };
type Asked = {
  signal?: AbortSignal;
  timeoutMs?: number;
  maxTokens?: number;
  model?: string;
  supersedeKey?: string;
  onEvent?: () => void;
};

/** Streams one completion; answers its error or null. */
async function complete({ client }: Traced, trace: TraceContext, asked: Asked = {}): Promise<unknown> {
  const { maxTokens = 24, model = '', supersedeKey = '', onEvent, ...options } = asked;
  const request: CompleteRequest = {
    ...CompleteRequest.decode(new Uint8Array(0)),
    model,
    options: { ...CallOptions.decode(new Uint8Array(0)), supersedeKey },
    prompt: { $case: 'text', value: 'def add(a, b):' },
    sampling: { ...emptySampling(), maxTokens, temperature: 0, ignoreEos: true },
  };
  try {
    for await (const _ of serverStream(client, 'streamComplete', { request }, { trace, ...options })) onEvent?.();
    return null;
  } catch (error) {
    return error;
  }
}

/** The whole trace: the gateway's call, which ends last, and the engine's, which another process sends. */
function whole({ reader }: Traced, trace: TraceContext, engines = 1): Promise<ReceivedSpan[]> {
  return reader.settled(trace.traceId, (spans) => {
    const count = (service: string): number =>
      spans.filter((span) => span.service === service && span.kind === 'SERVER').length;
    return count('gateway') === 1 && count('tokenizer') === 1 && count('engine') >= engines;
  });
}

/** audit.append lies where the disk puts it, so a picture is compared without it. */
function picture(spans: readonly ReceivedSpan[]): string[] {
  return pictureOf(spans).filter((line) => !line.includes('audit.append'));
}

const HEAD = [
  '  gateway gateway.authorize INTERNAL',
  '  gateway gateway.admit INTERNAL',
  `  gateway ${ENCODE} CLIENT`,
  `    tokenizer ${ENCODE} SERVER`,
  '  gateway gateway.admit INTERNAL',
  '  gateway gateway.route INTERNAL',
];
const PHASES = [
  '      engine engine.queue INTERNAL',
  '      engine engine.prefill INTERNAL',
  '      engine engine.decode INTERNAL',
];

async function checkSuccess(traced: Traced): Promise<void> {
  const trace = startTrace();
  assert.equal(await complete(traced, trace), null);
  const spans = await whole(traced, trace);
  checkTrace(spans, trace.spanId, { nested: true });
  assert.deepEqual(picture(spans), [
    `gateway ${COMPLETE} SERVER`,
    ...HEAD,
    `  gateway text_completion ${MODEL} CLIENT`,
    `    engine ${GENERATE} SERVER`,
    ...PHASES,
  ]);
  const named = (name: string): ReceivedSpan => spans.find((span) => span.name === name) as ReceivedSpan;
  const { attributes: prefill } = named('engine.prefill');
  assert.equal(
    Number(prefill['quern.cached_tokens']) + Number(prefill['quern.computed_tokens']),
    prefill['gen_ai.usage.input_tokens'],
  );
  assert.ok(Number(named('engine.decode').attributes['quern.decode_steps']) >= 23);
  assert.ok(Number(named('engine.decode').attributes['quern.tpot.p95_ms']) > 0);
  assert.equal(named(GENERATE).attributes['gen_ai.usage.output_tokens'], 24);
  assert.equal(named(`text_completion ${MODEL}`).attributes['gen_ai.usage.output_tokens'], 24);
}

async function checkHttp(traced: Traced): Promise<void> {
  const trace = startTrace();
  const response = await fetch(`http://${traced.mesh.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', traceparent: `00-${trace.traceId}-${trace.spanId}-01` },
    body: JSON.stringify({ prompt: 'def f():', max_tokens: 8, temperature: 0, ignore_eos: true, stream: true }),
  });
  await response.text();
  const spans = await whole(traced, trace);
  checkTrace(spans, trace.spanId, { nested: true });
  assert.deepEqual(picture(spans).slice(0, 3), [
    'gateway POST /v1/completions SERVER',
    '  gateway gateway.authorize INTERNAL',
    '  gateway gateway.receive INTERNAL',
  ]);
  assert.deepEqual(picture(spans).slice(-3), PHASES);
}

async function checkCancel(traced: Traced): Promise<void> {
  const trace = startTrace();
  const gone = new AbortController();
  let events = 0;
  const onEvent = (): void => {
    events += 1;
    if (events === 4) gone.abort();
  };
  await complete(traced, trace, { signal: gone.signal, maxTokens: 1_500, onEvent });
  const spans = await whole(traced, trace);
  checkTrace(spans, trace.spanId, { nested: false });
  assert.ok(
    spans.every((span) => span.status.code !== 'ERROR'),
    `who cancels makes no error: ${pictureOf(spans).join('\n')}`,
  );
  const statuses = spans
    .filter((span) => span.kind === 'SERVER' && span.service !== 'tokenizer')
    .map((span) => span.attributes['rpc.status_code']);
  assert.deepEqual(
    statuses,
    statuses.map(() => 'CANCELLED'),
  );
}

async function checkDeadline(traced: Traced): Promise<void> {
  const trace = startTrace();
  await complete(traced, trace, { timeoutMs: 400, maxTokens: 1_500 });
  const spans = await whole(traced, trace);
  checkTrace(spans, trace.spanId, { nested: false });
  const root = spans.find((span) => span.name === COMPLETE);
  assert.deepEqual([root?.status.code, root?.status.message], ['ERROR', 'DEADLINE_EXCEEDED']);
}

async function checkSuperseded(traced: Traced): Promise<void> {
  const [older, newer] = [startTrace(), startTrace()];
  let next: Promise<unknown> | null = null;
  const onEvent = (): void => {
    next ??= complete(traced, newer, { supersedeKey: 'cursor', maxTokens: 4 });
  };
  await complete(traced, older, { supersedeKey: 'cursor', maxTokens: 1_500, onEvent });
  assert.equal(await next, null);
  const spans = await whole(traced, older);
  checkTrace(spans, older.spanId, { nested: false });
  assert.ok(
    spans.every((span) => span.status.code !== 'ERROR'),
    pictureOf(spans).join('\n'),
  );
  const outcomes = spans.map((span) => span.attributes['quern.outcome']).filter((outcome) => outcome !== undefined);
  assert.deepEqual(outcomes, ['superseded', 'superseded'], 'of the generation and of the engine');
  checkTrace(await whole(traced, newer), newer.spanId, { nested: true });
}

async function checkRefused(traced: Traced): Promise<void> {
  const trace = startTrace();
  assert.ok(await complete(traced, trace, { model: 'no-such-model' }));
  const spans = await traced.reader.settled(trace.traceId, (all) => all.some(({ name }) => name === COMPLETE));
  checkTrace(spans, trace.spanId, { nested: true });
  assert.deepEqual(picture(spans), [`gateway ${COMPLETE} SERVER`, '  gateway gateway.authorize INTERNAL']);
  const root = spans.find(({ name }) => name === COMPLETE);
  assert.deepEqual(
    [root?.attributes['rpc.status_code'], root?.attributes['quern.reason']],
    ['NOT_FOUND', 'MODEL_NOT_FOUND'],
  );
}

/** Steps are traces of their own, linked with the requests in their batch in both directions. */
async function checkSteps({ reader }: Traced): Promise<void> {
  const steps = await reader.named('engine', 'engine.step');
  assert.ok(steps.length > 0, 'some steps were shown');
  let pairs = 0;
  for (const step of steps) {
    assert.equal(step.parentSpanId, '');
    assert.ok(step.links.length <= 32);
    for (const link of step.links.slice(0, 1)) {
      const spans = await reader.settled(link.traceId, (all) => all.some(({ spanId }) => spanId === link.spanId));
      const phase = spans.find((span) => span.spanId === link.spanId) as ReceivedSpan;
      assert.ok(phase.links.length <= 8);
      if (phase.links.some((back) => back.spanId === step.spanId)) pairs += 1;
    }
  }
  assert.ok(pairs > 0, 'a step and a phase name one another');
}

/** What the request did is under some span. The bound is generous: this machine may be busy with other things. */
async function checkCoverage(traced: Traced, t: TestContext): Promise<void> {
  const traces = Array.from({ length: 6 }, () => startTrace());
  for (const trace of traces) assert.equal(await complete(traced, trace, { maxTokens: 32 }), null);
  const shares: number[] = [];
  for (const trace of traces) {
    const spans = await whole(traced, trace);
    shares.push(uncoveredShare(spans, spans.find((span) => span.name === COMPLETE) as ReceivedSpan));
  }
  shares.sort((a, b) => a - b);
  t.diagnostic(`share of the root's time under no child: ${shares.map((share) => share.toFixed(4)).join(' ')}`);
  assert.ok(
    (shares[3] as number) < 0.25,
    `time of the root under no child: ${shares.map((s) => s.toFixed(3)).join(' ')}`,
  );
}

async function checkEngineDeath(traced: Traced): Promise<void> {
  const { mesh } = traced;
  const ready = mesh.events.find(({ event }) => event === 'ready') as unknown as {
    parts: { name: string; pid: number }[];
  };
  const pid = ready.parts.find(({ name }) => name === 'engine')?.pid as number;
  const trace = startTrace();
  let events = 0;
  const onEvent = (): void => {
    events += 1;
    if (events === 4) process.kill(pid, 'SIGKILL');
  };
  assert.equal(await complete(traced, trace, { maxTokens: 300, onEvent }), null);
  const spans = await whole(traced, trace);
  checkTrace(spans, trace.spanId, { nested: true });
  const generation = spans.find((span) => span.name === `text_completion ${MODEL}`);
  assert.equal(generation?.attributes['quern.resumes'], 1);
  assert.ok(generation?.events.some((event) => event.name === 'engine_lost'));
  assert.equal(spans.filter((span) => span.name === 'gateway.route').length, 2);
}

async function checkAudit({ mesh, reader }: Traced): Promise<void> {
  const ready = mesh.events.find(({ event }) => event === 'ready') as unknown as { parts: Part[] };
  const isThere = ready.parts.some(({ name, pid }) => name === 'audit' && pid !== null);
  assert.ok(
    isThere,
    'this mesh has no audit service, because there is no nats-server; node scripts/get-nats.mjs builds one',
  );
  const until = Date.now() + 15_000;
  let send: ReceivedSpan | undefined;
  while (!send && Date.now() < until) {
    const processed = new Set(
      (await reader.named('audit', 'process ')).flatMap(({ links }) => links.map((l) => l.spanId)),
    );
    send = (await reader.named('gateway', 'send ')).find((span) => span.links.length > 0 && processed.has(span.spanId));
    if (!send) await sleep(200);
  }
  assert.ok(send, 'a send that a request led to and that the ledger processed');
  assert.deepEqual([send.name, send.kind, send.parentSpanId], ['send audit.v1.{service}.{instance}', 'PRODUCER', '']);
  const [link] = send.links;
  const spans = await reader.settled(link?.traceId ?? '', (all) => all.some(({ name }) => name === 'audit.append'));
  assert.equal(
    spans.find(({ spanId }) => spanId === link?.spanId)?.kind,
    'SERVER',
    'it links to the call that is recorded',
  );
}

/** Every scenario as a test of its own; one mesh for all. */
export async function checkTraces(t: TestContext, traced: Traced): Promise<void> {
  await t.test('success over gRPC', () => checkSuccess(traced));
  await t.test('success over HTTP', () => checkHttp(traced));
  await t.test('the caller cancels', () => checkCancel(traced));
  await t.test('the deadline passes', () => checkDeadline(traced));
  await t.test('a newer request supersedes it', () => checkSuperseded(traced));
  await t.test('it is refused', () => checkRefused(traced));
  await t.test('the time of a request lies under its spans', (own) => checkCoverage(traced, own));
  await t.test('steps and phases link to one another', () => checkSteps(traced));
  await t.test('an engine dies under a request, which goes on', () => checkEngineDeath(traced));
  await t.test('audit frames link from requests to the ledger', () => checkAudit(traced));
}
