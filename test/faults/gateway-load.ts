// Hostile load on a gateway between fakes: what the chaos test runs for seconds and cancel-storm.ts at full length.
import { setTimeout as sleep } from 'node:timers/promises';
import { CompleteRequest, type CompleteResponse } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { serverStream, unary } from '#kit/rpc/client.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { eventually, type TestMesh } from '../contract/gateway/fakes/mesh.ts';

/** What may be left behind; everything must be 0 when the load is over. */
export type Leftovers = {
  engineLive: number;
  handles: number;
  zombies: number;
  admitted: number;
  tokens: number;
  table: number;
};

export function leftovers({ gateway, engines }: TestMesh): Leftovers {
  const { admission, requests, models } = gateway.context;
  const replicas = models.all().flatMap((model) => model.replicas);
  return {
    engineLive: engines.reduce((sum, engine) => sum + engine.live, 0),
    handles: replicas.reduce((sum, replica) => sum + replica.inFlight, 0),
    zombies: replicas.reduce((sum, replica) => sum + replica.zombies, 0),
    admitted: admission.requests,
    tokens: admission.tokens,
    table: requests.size,
  };
}

/** Waits until nothing is left, or for 10 s: the caller reports what is. */
function settled(mesh: TestMesh): Promise<void> {
  const clean = (): boolean => Object.values(leftovers(mesh)).every((count) => count === 0);
  return eventually(clean, 'everything ended', 10_000).catch(() => {});
}

function heapMib(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

function request(text: string, maxTokens: number, over: Partial<CompleteRequest> = {}): CompleteRequest {
  const base = CompleteRequest.decode(new Uint8Array(0));
  return { ...base, prompt: { $case: 'text', value: text }, sampling: { ...emptySampling(), maxTokens }, ...over };
}

export type StormReport = {
  cancels: number;
  seconds: number;
  deaths: number;
  bystanderTokens: number;
  heapStartMib: number;
  heapEndMib: number;
  left: Leftovers;
};

/** `cancels` streams, begun and cancelled at `perSecond` on one connection, beside `bystanders` that must not notice. */
export async function cancelStorm(
  mesh: TestMesh,
  options: { cancels: number; perSecond: number; bystanders: number },
): Promise<StormReport> {
  const { cancels, perSecond, bystanders } = options;
  let deaths = 0;
  let bystanderTokens = 0;
  const stop = new AbortController();
  const watching = Array.from({ length: bystanders }, async () => {
    while (!stop.signal.aborted) {
      try {
        const stream = serverStream(
          mesh.completion,
          'streamComplete',
          { request: request('watch', 4000) },
          { signal: stop.signal },
        );
        for await (const { event } of stream) if (event?.$case === 'delta') bystanderTokens += 1;
      } catch {
        if (!stop.signal.aborted) deaths += 1;
      }
    }
  });
  const startedAt = performance.now();
  let heapStartMib = 0;
  const running = new Set<Promise<void>>();
  for (let i = 0; i < cancels; i += 1) {
    if (i === Math.floor(cancels / 4)) heapStartMib = heapMib();
    const work = cancelOne(mesh, Math.ceil(Math.random() * 30)).finally(() => running.delete(work));
    running.add(work);
    const dueMs = startedAt + ((i + 1) / perSecond) * 1000 - performance.now();
    await sleep(Math.max(0, dueMs)); // also when late: the event loop must turn
  }
  await Promise.all(running);
  const seconds = (performance.now() - startedAt) / 1000;
  await sleep(100);
  const heapEndMib = heapMib();
  stop.abort();
  await Promise.all(watching);
  await settled(mesh);
  return { cancels, seconds, deaths, bystanderTokens, heapStartMib, heapEndMib, left: leftovers(mesh) };
}

async function cancelOne(mesh: TestMesh, afterMs: number): Promise<void> {
  const signal = AbortSignal.timeout(afterMs);
  try {
    for await (const _ of serverStream(
      mesh.completion,
      'streamComplete',
      { request: request('type', 4000) },
      { signal },
    ));
  } catch {
    // its own cancel
  }
}

export type ChaosReport = {
  requests: number;
  outcomes: Record<string, number>;
  wrong: string[];
  heapStartMib: number;
  heapEndMib: number;
  left: Leftovers;
};

const TEXT = 'const answer = 42; // é 😀 fin\n'.repeat(4);

/** The tokens every chaos request is answered with, byte by byte. */
export const CHAOS_SCRIPT = [...Buffer.from(TEXT)];

type Outcome = { kind: string; text: string | null };

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)] as T;
}

async function overGrpc(
  mesh: TestMesh,
  maxTokens: number,
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
): Promise<string> {
  if (Math.random() < 0.5) {
    const answer: CompleteResponse = await unary(mesh.completion, 'complete', request('x', maxTokens), {
      signal,
      timeoutMs: timeoutMs ?? null,
    });
    return answer.choices[0]?.text ?? '';
  }
  let text = '';
  for await (const { event } of serverStream(
    mesh.completion,
    'streamComplete',
    { request: request('x', maxTokens) },
    { signal, timeoutMs },
  )) {
    if (event?.$case === 'delta') text += event.value.text;
  }
  return text;
}

async function overHttp(
  mesh: TestMesh,
  maxTokens: number,
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
): Promise<string> {
  const stream = Math.random() < 0.5;
  const headers: Record<string, string> = timeoutMs === undefined ? {} : { 'x-request-timeout-ms': String(timeoutMs) };
  const body = JSON.stringify({ prompt: 'x', max_tokens: maxTokens, stream });
  const response = await fetch(`${mesh.url}/v1/completions`, { method: 'POST', body, headers, signal: signal ?? null });
  const raw = await response.text();
  if (response.status !== 200) throw new Error(`http ${response.status}`);
  if (!stream) return (JSON.parse(raw) as { choices: { text: string }[] }).choices[0]?.text ?? '';
  if (!raw.endsWith('data: [DONE]\n\n')) throw new Error('http error event');
  const events = raw.split('\n\n').filter((event) => event.startsWith('data: {'));
  return events
    .map((event) => (JSON.parse(event.slice(6)) as { choices: { text: string }[] }).choices[0]?.text ?? '')
    .join('');
}

const BAD = [
  () => ({ prompt: 'x', temperature: 9 }),
  () => ({ prompt: 'x'.repeat(5000) }),
  () => ({ prompt: 5 }),
  () => ({ prompt: 'x', model: 'nope' }),
  () => ({ prompt: 'x', stop: ['', 'a'] }),
];

async function one(mesh: TestMesh): Promise<Outcome> {
  const maxTokens = 1 + Math.floor(Math.random() * 160);
  const behaviour = pick(['whole', 'whole', 'whole', 'cancel', 'deadline', 'bad'] as const);
  if (behaviour === 'bad') {
    const response = await fetch(`${mesh.url}/v1/completions`, { method: 'POST', body: JSON.stringify(pick(BAD)()) });
    await response.text();
    return { kind: `bad ${response.status}`, text: null };
  }
  const signal = behaviour === 'cancel' ? AbortSignal.timeout(1 + Math.floor(Math.random() * 60)) : undefined;
  const timeoutMs = behaviour === 'deadline' ? 1 + Math.floor(Math.random() * 60) : undefined;
  try {
    const text = await pick([overGrpc, overHttp])(mesh, maxTokens, signal, timeoutMs);
    const expected = new TextDecoder().decode(Buffer.from(CHAOS_SCRIPT.slice(0, maxTokens)));
    return { kind: behaviour, text: text === expected ? null : `${maxTokens} tokens: ${JSON.stringify(text)}` };
  } catch (error) {
    const what =
      error instanceof QuernError ? error.code : error instanceof Error ? error.message.slice(0, 40) : 'unknown';
    return { kind: `${behaviour} ${what}`, text: null };
  }
}

/** `requests` of all kinds, `concurrency` at once, an engine's sessions broken with every `breakEvery`th one. */
export async function chaos(
  mesh: TestMesh,
  options: { requests: number; concurrency: number; breakEvery: number },
): Promise<ChaosReport> {
  const { requests, concurrency, breakEvery } = options;
  const outcomes: Record<string, number> = {};
  const wrong: string[] = [];
  let begun = 0;
  let heapStartMib = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (begun < requests) {
        begun += 1;
        if (begun === Math.floor(requests / 4)) heapStartMib = heapMib();
        // By count, not by time: on a slow machine a request would meet more breaks than it may survive.
        if (begun % breakEvery === 0) pick(mesh.engines).breakSessions();
        const { kind, text } = await one(mesh);
        outcomes[kind] = (outcomes[kind] ?? 0) + 1;
        if (text !== null) wrong.push(`${kind}: ${text}`);
      }
    }),
  );
  await settled(mesh);
  return { requests, outcomes, wrong, heapStartMib, heapEndMib: heapMib(), left: leftovers(mesh) };
}
