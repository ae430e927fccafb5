// What tracing every request costs, and how much of a call its spans leave unexplained.
//   npm run bench:tracing [-- --pairs 5 --rounds 4 --tokens 6000,256 --same]
// Two gateways over mock engines, one exporting every span to a collector in a process of its own, one exporting none, take
// turns at the same load: what else runs on the machine meets both alike. Two processes of one program differ by themselves (what
// was compiled when), so there are several pairs; --same pairs gateways that both export nothing and says by how much. Medians
// of all rounds, and of the ratio in each.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startCollector } from '../support/otlp-collector.ts';
import { topsOf, uncoveredShare } from '../support/span-tree.ts';
import {
  type Call,
  type Caller,
  cpuSeconds,
  grpcCall,
  type Mesh,
  machineLine,
  percentile,
  print,
  STEP_MS,
  sseCall,
  startProcesses,
} from './support/mesh-processes.ts';
import type { SinkTook } from './support/span-sink.ts';

const STREAMS = 64;
const ROUND_TOKENS = 384_000;
const WARM_UP_ROUNDS = 2;
const COVERAGE_SECONDS = 10;
const COVERAGE_TOKENS = 24;

const { values } = parseArgs({
  options: {
    pairs: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '4' },
    tokens: { type: 'string', default: '6000,256' },
    same: { type: 'boolean', default: false },
  },
});
const ROUNDS = Number(values.rounds);
const PAIRS = Number(values.pairs);

type Round = { tokensPerSecond: number; cpuMicros: number };
type Side = { mesh: Mesh; caller: Caller; rounds: Round[] };
type Pair = { off: Mesh; on: Mesh };

const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** All streams busy until ROUND_TOKENS have come, `tokens` per request. */
async function round({ mesh, caller }: Side, tokens: number): Promise<Round> {
  const pid = mesh.gateway.pid ?? 0;
  const perStream = Math.max(1, Math.round(ROUND_TOKENS / STREAMS / tokens));
  const [cpu, startedAt] = [cpuSeconds(pid), performance.now()];
  const stream = async (): Promise<void> => {
    for (let i = 0; i < perStream; i += 1) await caller.call(tokens, () => {});
  };
  await Promise.all(Array.from({ length: STREAMS }, stream));
  const made = STREAMS * perStream * tokens;
  const seconds = (performance.now() - startedAt) / 1000;
  return { tokensPerSecond: made / seconds, cpuMicros: ((cpuSeconds(pid) - cpu) / made) * 1e6 };
}

/** Rounds of two gateways in turns. */
async function pair(
  open: (mesh: Mesh) => Caller,
  meshes: Pair,
  tokens: number,
): Promise<{ off: Round[]; on: Round[] }> {
  const sides: Side[] = [meshes.off, meshes.on].map((mesh) => ({ mesh, caller: open(mesh), rounds: [] }));
  for (let i = 0; i < WARM_UP_ROUNDS + ROUNDS; i += 1) {
    for (const side of i % 2 === 0 ? sides : sides.toReversed()) {
      const one = await round(side, tokens);
      if (i >= WARM_UP_ROUNDS) side.rounds.push(one);
    }
  }
  for (const { caller } of sides) caller.close();
  const [off, on] = sides.map(({ rounds }) => rounds) as [Round[], Round[]];
  return { off, on };
}

function printCost(name: string, pairs: readonly { off: Round[]; on: Round[] }[]): void {
  const [off, on] = [pairs.flatMap((one) => one.off), pairs.flatMap((one) => one.on)];
  const ratiosOf = (from: readonly Round[], to: readonly Round[], read: (one: Round) => number): number[] =>
    to.map((one, i) => read(one) / read(from[i] as Round) - 1);
  const ratios = ratiosOf(off, on, ({ tokensPerSecond }) => tokensPerSecond);
  const cpu = ratiosOf(off, on, ({ cpuMicros }) => cpuMicros);
  const ofPairs = pairs.map((one) => median(ratiosOf(one.off, one.on, ({ tokensPerSecond }) => tokensPerSecond)));
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  print([
    `  ${name}`,
    ...[off, on].map((rounds) => String(Math.round(median(rounds.map((one) => one.tokensPerSecond))))),
    percent(median(ratios)),
    percent(median(cpu)),
    `   of each pair: ${ofPairs.map(percent).join(', ')}`,
  ]);
}

async function loop(call: Call, seconds: number): Promise<void> {
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    await sleep(Math.random() * 2 * STEP_MS);
    await call(COVERAGE_TOKENS, () => {});
  }
}

/** How much of a call's time lies under none of its spans. The engine here is a mock without spans of its own. */
async function benchCoverage(): Promise<void> {
  const undo: (() => unknown)[] = [];
  const collector = await startCollector({ after: (close?: unknown) => void undo.push(close as () => unknown) });
  const mesh = await startProcesses({ env: { QUERN_OTLP_ENDPOINT: collector.url } });
  try {
    const callers = [grpcCall(mesh.grpc), sseCall(mesh.http)];
    for (const { call } of callers) await loop(call, 2); // a path taken a few times is still interpreted
    const warm = new Set(collector.spans.map(({ traceId }) => traceId));
    await Promise.all(callers.flatMap(({ call }) => Array.from({ length: 4 }, () => loop(call, COVERAGE_SECONDS))));
    for (const { close } of callers) close();
    await sleep(2_000); // the last batch
    const byTrace = Map.groupBy(
      collector.spans.filter(({ traceId }) => !warm.has(traceId)),
      ({ traceId }) => traceId,
    );
    const shares = [...byTrace.values()].flatMap((spans) => {
      const root = topsOf(spans)[0];
      return root?.kind === 'SERVER' && spans.length > 5 ? [uncoveredShare(spans, root) * 100] : [];
    });
    const [p50, p95] = [0.5, 0.95].map((share) => percentile(shares, share).toFixed(2));
    process.stdout.write(
      `of a call's time under no child span, ${shares.length} requests of 8 callers: p50 ${p50} %, p95 ${p95} %\n`,
    );
  } finally {
    await mesh.close();
    for (const close of undo) await close();
  }
}

async function startSink(): Promise<{ sink: ChildProcess; url: string }> {
  const sink = fork(new URL('./support/span-sink.ts', import.meta.url), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [{ url }] = (await once(sink, 'message')) as [{ url: string }];
  return { sink, url };
}

async function benchCosts(): Promise<void> {
  const { sink, url } = await startSink();
  const shapes = values.tokens
    .split(',')
    .map(Number)
    .flatMap((tokens) => [
      { name: `gRPC, ${tokens}`, tokens, open: (mesh: Mesh) => grpcCall(mesh.grpc) },
      { name: `SSE, ${tokens}`, tokens, open: (mesh: Mesh) => sseCall(mesh.http) },
    ]);
  const took = shapes.map((): { off: Round[]; on: Round[] }[] => []);
  for (let i = 0; i < PAIRS; i += 1) {
    const meshes: Pair = {
      off: await startProcesses(),
      on: await startProcesses({ env: values.same ? {} : { QUERN_OTLP_ENDPOINT: url } }),
    };
    for (const { mock } of Object.values(meshes)) mock.send({ stepMs: 0 });
    for (const [at, { open, tokens }] of shapes.entries()) took[at]?.push(await pair(open, meshes, tokens));
    for (const mesh of Object.values(meshes)) await mesh.close();
    process.stdout.write(`pair ${i + 1} of ${PAIRS}\n`);
  }
  print([`saturated, ${STREAMS} streams`, 'tok/s off', values.same ? 'tok/s off' : 'tok/s on', 'ratio - 1', 'gw CPU']);
  for (const [at, { name }] of shapes.entries()) printCost(name, took[at] ?? []);
  sink.send('?');
  const [sank] = (await once(sink, 'message')) as [SinkTook];
  process.stdout.write(`the collector took ${sank.requests} posts, ${(sank.bytes / 1e6).toFixed(1)} MB\n`);
  sink.disconnect();
}

process.stdout.write(`${machineLine()}\n`);
await benchCosts();
await benchCoverage();
process.stdout.write(`load at the end ${loadavg()[0]?.toFixed(2)}\n`);
