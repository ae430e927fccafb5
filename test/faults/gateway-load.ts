// Hostile load on a gateway between fakes: what the chaos test runs for seconds and cancel-storm.ts at full length.
import { setTimeout as sleep } from 'node:timers/promises';
import { CompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { serverStream } from '#kit/rpc/client.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { eventually, type TestMesh } from '../contract/gateway/fakes/mesh.ts';
import { EOS } from '../contract/gateway/fakes/mock-tokenizer.ts';
import { type ChaosReport, type Known, runChaos } from './chaos.ts';
import type { Recipe } from './chaos-plan.ts';

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

const TEXT = 'const answer = 42; // é 😀 fin\n'.repeat(4);

/** The tokens every chaos request is answered with, byte by byte. */
export const CHAOS_SCRIPT = [...Buffer.from(TEXT)];

const ASKED = { text: 'x', sampling: { temperature: 0 } };

/** The mock answers every prompt with the same tokens; what differs is the way through the gateway. */
const MOCK_RECIPES: readonly Recipe[] = [
  { name: 'text', kind: 'complete', ...ASKED },
  { name: 'infill', kind: 'complete', ...ASKED, suffix: 'y' },
  { name: 'chat', kind: 'chat', ...ASKED },
  { name: 'three choices', kind: 'complete', text: 'x', sampling: { temperature: 1, n: 3 } },
];

/** The token that ends an answer is one of its ids and none of its text. */
const MOCK_ANSWER = { ids: [...CHAOS_SCRIPT, EOS], text: TEXT, reason: 'stop' };

const MOCK_ANSWERS: Known = {
  answer: () => [MOCK_ANSWER, MOCK_ANSWER, MOCK_ANSWER],
  decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids.filter((id) => id !== EOS))),
};

export type GatewayChaosReport = ChaosReport & { heapStartMib: number; heapEndMib: number; left: Leftovers };

/** `requests` of all kinds, `concurrency` at once, an engine's sessions broken with every `breakEvery`th one. */
export async function chaos(
  mesh: TestMesh,
  options: { requests: number; concurrency: number; breakEvery: number; seed: number },
): Promise<GatewayChaosReport> {
  const { requests, breakEvery, seed } = options;
  let heapStartMib = 0;
  const report = await runChaos(mesh, MOCK_ANSWERS, {
    ...options,
    recipes: MOCK_RECIPES,
    maxTokens: 160,
    maxDelayMs: 60,
    contextLength: 4096,
    onRequest(index) {
      if (index === Math.floor(requests / 4)) heapStartMib = heapMib();
      // By count, not by time: on a slow machine a request would meet more breaks than it may survive.
      if (index % breakEvery === breakEvery - 1) mesh.engines[(seed + index) % mesh.engines.length]?.breakSessions();
    },
  });
  await settled(mesh);
  return { ...report, heapStartMib, heapEndMib: heapMib(), left: leftovers(mesh) };
}
