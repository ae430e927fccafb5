// Chaos against the real thing: `quern up` with gateway, tokenizer and engine as processes and quern-mini as the model.
// Half of the requests, a measurement, the other half, a measurement: what the second half left behind is a leak.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { ChatServiceClient, CompletionServiceClient, RequestServiceClient } from '#gen/quern/gateway/v1/gateway.ts';
import { openChannel } from '#kit/rpc/client.ts';
import { readModelFiles } from '../../services/tokenizer/model-files.ts';
import { TextTokenizer } from '../../services/tokenizer/tokenizer.ts';
import { eventually } from '../contract/gateway/fakes/mesh.ts';
import { watchEngine } from '../e2e/engine-watch.ts';
import { type Mesh, startMesh } from '../e2e/mesh.ts';
import { type ChaosReport, type Known, type KnownAnswer, runChaos } from './chaos.ts';
import { type ChaosTarget, runGeneration } from './chaos-client.ts';
import type { Recipe } from './chaos-plan.ts';
import { INSPECTED, inspectorsIn, measureProcess, type ProcessMemory } from './process-memory.ts';

const MODEL = join(import.meta.dirname, '..', '..', 'models', 'quern-mini');
const CONTEXT_LENGTH = 2048;
const MAX_TOKENS = 48;
/**
 * 192 blocks of 16 tokens: three quarters of what 32 clients want at once, so that prefixes are evicted and sequences
 * wait or are preempted; and small enough for all of it to be touched in the first half of a run.
 */
const KV_BYTES = 12 * 2 ** 20;
const SETTLE_MS = 30_000;
/** A cancelled sequence is gone a step later; an endless one that nobody cancelled goes on for a thousand. */
const SETTLE_STEPS = 300n;

const LONG = 'export const total = rows.map((row) => row.price * row.count);\n';

const RECIPES: readonly Recipe[] = [
  { name: 'greedy', kind: 'complete', text: 'def add(a, b):\n    return', sampling: { temperature: 0 } },
  { name: 'to the end', kind: 'complete', text: 'class A', sampling: { temperature: 0, ignoreEos: true } },
  { name: 'endless', kind: 'complete', text: 'let i', sampling: { temperature: 0, ignoreEos: true }, endless: 1_000 },
  { name: 'sampled', kind: 'complete', text: 'import ', sampling: { temperature: 0.9, seed: 7, ignoreEos: true } },
  { name: 'long prompt', kind: 'complete', text: LONG.repeat(30), sampling: { temperature: 0, ignoreEos: true } },
  { name: 'stop string', kind: 'complete', text: 'for i in', sampling: { temperature: 0 }, stop: ['\n', 'zz'] },
  {
    name: 'two choices',
    kind: 'complete',
    text: 'let x',
    sampling: { temperature: 1, seed: 11, n: 2, ignoreEos: true },
  },
  { name: 'infill', kind: 'complete', text: 'def f(x):\n    ', suffix: '\n', sampling: { temperature: 0 } },
  { name: 'chat', kind: 'chat', text: 'Write a loop in Python.', sampling: { temperature: 0 } },
];

/** Gauges of the gateway that must read 0 when nothing runs. */
const IDLE_GAUGES = [
  'quern_gateway_requests_running',
  'quern_gateway_tokens_in_flight',
  'quern_gateway_engine_requests',
  'quern_gateway_zombie_requests',
  'quern_gateway_engine_requests_running',
  'quern_gateway_engine_requests_waiting',
];

/** What is left when all is over; every number must be 0. */
export type MeshLeftovers = Record<string, number>;

export type MeshChaosReport = ChaosReport & {
  seconds: number;
  left: MeshLeftovers;
  preemptions: number;
  prefixHitTokens: number;
  /** Per process: after the first half and after the second. */
  memory: Record<string, { half: ProcessMemory; end: ProcessMemory }>;
  /** Processes that ended, and lines of the log that say warn, error or fatal, or that are no log lines. */
  incidents: string[];
};

type Scope = Pick<TestContext, 'after'>;

function openTarget(t: Scope, mesh: Mesh): ChaosTarget {
  const address = mesh.grpc;
  const completion = openChannel(CompletionServiceClient, { address });
  const chat = openChannel(ChatServiceClient, { address });
  const requests = openChannel(RequestServiceClient, { address });
  t.after(() => {
    for (const client of [completion, chat, requests]) client.close();
  });
  return { url: `http://${mesh.http}`, completion, chat, requests };
}

/** Runs every recipe alone, undisturbed. */
async function askKnown(target: ChaosTarget): Promise<Known> {
  const tokenizer = new TextTokenizer(await readModelFiles(MODEL));
  const answers = new Map<string, KnownAnswer[]>();
  for (const recipe of RECIPES) {
    const { log, outcome } = await runGeneration(target, {
      requestId: `known-${answers.size}`,
      transport: 'grpc',
      stream: false,
      recipe,
      maxTokens: recipe.endless ?? MAX_TOKENS,
      behaviour: { kind: 'whole' },
    });
    if (outcome.kind !== 'answered') throw new Error(`${recipe.name}: ${JSON.stringify(outcome)}`);
    answers.set(
      recipe.name,
      log.choices.map(({ ids, text, reason }) => ({ ids, text, reason: String(reason) })),
    );
  }
  return {
    answer: (recipe) => answers.get(recipe) ?? [],
    // The gateway leaves out every control token; the model's files call those of infilling ordinary ones, and a sample may hold them.
    decode: (ids) => tokenizer.decode(ids, { skipSpecial: true }).replace(/<\|fim_[a-z]+\|>/g, ''),
  };
}

async function leftovers(mesh: Mesh, load: ReturnType<typeof watchEngine>): Promise<MeshLeftovers> {
  const { running, waiting, freeBlocks, numBlocks, waitingPromptTokens } = await load();
  const text = await (await fetch(`http://${mesh.http}/metrics`)).text();
  const gauge = (name: string): number => {
    const line = text.split('\n').find((one) => one.startsWith(name) && /^[{ ]/.test(one.slice(name.length)));
    return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(' ')));
  };
  return {
    running,
    waiting,
    waitingPromptTokens,
    // Blocks that only cache a prefix are free; these are held by a sequence.
    heldBlocks: numBlocks - freeBlocks,
    ...Object.fromEntries(IDLE_GAUGES.map((name) => [name, gauge(name)])),
  };
}

const isClean = (left: MeshLeftovers): boolean => Object.values(left).every((count) => count === 0);

/** Names of the mesh's processes by pid. */
function processNames(mesh: Mesh): Map<number, string> {
  const started = mesh.events.filter(({ event }) => event === 'started');
  return new Map(started.map(({ pid, name }) => [Number(pid), String(name)]));
}

/** The memory of every process of the mesh, by its name. */
async function measureAll(mesh: Mesh, log: string): Promise<Map<string, ProcessMemory>> {
  const names = processNames(mesh);
  const found = new Map<string, ProcessMemory>();
  for (const url of inspectorsIn(log)) {
    const { pid, memory } = await measureProcess(url);
    found.set(names.get(pid) ?? String(pid), memory);
  }
  for (const name of names.values()) if (!found.has(name)) throw new Error(`no inspector in ${name}: ${log}`);
  return found;
}

/** Lines of the inspector itself. */
const INSPECTOR_LINE = /^(Debugger listening on|For help, see:|Debugger attached|Debugger ending)/;

function incidents(mesh: Mesh, log: string): string[] {
  const deaths = mesh.events.filter(({ event }) => event === 'exited').map((event) => JSON.stringify(event));
  const lines = log.split('\n').filter((line) => line !== '' && !INSPECTOR_LINE.test(line));
  const bad = lines.filter((line) => !/^\{"level":"(debug|info)"/.test(line));
  const stderr = mesh
    .stderr()
    .split('\n')
    .filter((line) => line !== '' && !INSPECTOR_LINE.test(line));
  return [...deaths, ...bad, ...stderr];
}

/** Starts a mesh, runs `requests` in two halves and tells what they left. */
export async function meshChaos(
  t: Scope,
  options: { requests: number; seed: number; concurrency: number },
): Promise<MeshChaosReport> {
  const { requests, seed, concurrency } = options;
  const stateDir = mkdtempSync(join(tmpdir(), 'quern-chaos-'));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const log = (): string => readFileSync(join(stateDir, 'logs', 'up.log'), 'utf8');
  const env = { ...INSPECTED, QUERN_STATE_DIR: stateDir, QUERN_ENGINE_KV_BYTES: String(KV_BYTES) };
  const mesh = await startMesh(t, { env });
  const load = watchEngine(t, mesh);
  const target = openTarget(t, mesh);
  const known = await askKnown(target);

  const startedAt = performance.now();
  const half = async (count: number, halfSeed: number) => {
    const limits = { maxTokens: MAX_TOKENS, maxDelayMs: 600, contextLength: CONTEXT_LENGTH };
    const report = await runChaos(target, known, {
      ...limits,
      recipes: RECIPES,
      seed: halfSeed,
      requests: count,
      concurrency,
      onRequest() {
        // What follows would only say that nobody answers.
        const died = mesh.events.some(({ event }) => event === 'exited');
        if (died) throw new Error(`a process died:\n${incidents(mesh, log()).join('\n')}`);
      },
    });
    const { steps } = await load();
    await eventually(async () => isClean(await leftovers(mesh, load)), 'everything ended', SETTLE_MS).catch(() => {});
    const more = (await load()).steps - steps;
    if (more > SETTLE_STEPS) report.wrong.push(`the engine made ${more} steps after everybody had gone`);
    return report;
  };
  const first = await half(Math.floor(requests / 2), seed);
  const atHalf = await measureAll(mesh, log());
  const second = await half(Math.ceil(requests / 2), seed + 1);
  const seconds = (performance.now() - startedAt) / 1000;
  const atEnd = await measureAll(mesh, log());
  const { preemptions, prefixHitTokens } = await load();

  const outcomes = { ...first.outcomes };
  for (const [kind, times] of Object.entries(second.outcomes)) outcomes[kind] = (outcomes[kind] ?? 0) + times;
  return {
    seed,
    requests,
    seconds,
    outcomes,
    wrong: [...first.wrong, ...second.wrong],
    left: await leftovers(mesh, load),
    preemptions: Number(preemptions),
    prefixHitTokens: Number(prefixHitTokens),
    memory: Object.fromEntries(
      [...atEnd].map(([name, end]) => [name, { half: atHalf.get(name) as ProcessMemory, end }]),
    ),
    incidents: incidents(mesh, log()),
  };
}

/**
 * Growth between the two measurements, both after a collection. Living objects: half of a long run is 1,000 requests, so
 * 2 MiB are 2 kB each, less than the smallest thing a request could leave (its id, its tokens). Resident memory also
 * holds freed pages that the allocators keep and machine code: 32 MiB of them are noise, 32 kB per request are not.
 */
const HEAP_GROWTH_MIB_MAX = 2;
const RSS_GROWTH_MIB_MAX = 32;

/** All that is wrong with a report, in words. */
export function findFaults(report: MeshChaosReport): string[] {
  const faults = [...report.wrong, ...report.incidents];
  for (const [what, count] of Object.entries(report.left)) if (count !== 0) faults.push(`${what}: ${count} left`);
  for (const [name, { half, end }] of Object.entries(report.memory)) {
    const heap = end.heapMib - half.heapMib;
    const rss = end.rssMib - half.rssMib;
    if (heap > HEAP_GROWTH_MIB_MAX) faults.push(`${name}: ${heap.toFixed(1)} MiB of objects more than at half time`);
    if (rss > RSS_GROWTH_MIB_MAX) faults.push(`${name}: ${rss.toFixed(1)} MiB resident more than at half time`);
  }
  return faults;
}
