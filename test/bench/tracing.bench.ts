// What tracing every request costs, and how much of a call's time its spans leave unexplained.
//   npm run bench:tracing [-- --gateways 3 --rounds 8 --tokens 6000,256]
// A gateway over a mock engine exports its spans to a collector in a process of its own. Rounds of calls whose traceparent says
// "recorded" and rounds of calls whose traceparent says "not recorded" take turns at the same load, in one process: two processes
// of one program, one exporting and one not, differed by up to a quarter in either direction (what was compiled when, and how many
// tokens come to go in one message), far more than what is measured. Medians and quartiles over neighbouring rounds of all gateways.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { randomHex } from '#kit/ids.ts';
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
    gateways: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '6000,256' },
  },
});
const ROUNDS = Number(values.rounds);
const GATEWAYS = Number(values.gateways);

type Round = { tokensPerSecond: number; cpuMicros: number };
/** Neighbouring rounds: without spans, with them. */
type Turn = { off: Round; on: Round };
type Open = (headers: () => Record<string, string>) => Caller;

/** All streams busy until ROUND_TOKENS have come, `tokens` per request. */
async function round(gateway: ChildProcess, { call }: Caller, tokens: number): Promise<Round> {
  const pid = gateway.pid ?? 0;
  const perStream = Math.max(1, Math.round(ROUND_TOKENS / STREAMS / tokens));
  const [cpu, startedAt] = [cpuSeconds(pid), performance.now()];
  const stream = async (): Promise<void> => {
    for (let i = 0; i < perStream; i += 1) await call(tokens, () => {});
  };
  await Promise.all(Array.from({ length: STREAMS }, stream));
  const made = STREAMS * perStream * tokens;
  const seconds = (performance.now() - startedAt) / 1000;
  return { tokensPerSecond: made / seconds, cpuMicros: ((cpuSeconds(pid) - cpu) / made) * 1e6 };
}

/** Rounds in turns; which of two comes first changes each time. */
async function turns(gateway: ChildProcess, open: Open, tokens: number): Promise<Turn[]> {
  const caller = (flags: string): Caller =>
    open(() => ({ traceparent: `00-${randomHex(16)}-${randomHex(8)}-${flags}` }));
  const [off, on] = [caller('00'), caller('01')];
  const took: Turn[] = [];
  for (let i = 0; i < WARM_UP_ROUNDS + ROUNDS; i += 1) {
    const turn: Partial<Turn> = {};
    for (const which of i % 2 === 0 ? (['off', 'on'] as const) : (['on', 'off'] as const))
      turn[which] = await round(gateway, which === 'on' ? on : off, tokens);
    if (i >= WARM_UP_ROUNDS) took.push(turn as Turn);
  }
  for (const { close } of [off, on]) close();
  return took;
}

function printCost(name: string, took: readonly Turn[]): void {
  const median = (read: (turn: Turn) => number): number => percentile(took.map(read), 0.5);
  const ratios = took.map(({ off, on }) => on.tokensPerSecond / off.tokensPerSecond - 1);
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  print([
    `  ${name}`,
    String(Math.round(median(({ off }) => off.tokensPerSecond))),
    String(Math.round(median(({ on }) => on.tokensPerSecond))),
    percent(percentile(ratios, 0.5)),
    [0.25, 0.75].map((share) => percent(percentile(ratios, share))).join('..'),
    percent(median(({ off, on }) => on.cpuMicros / off.cpuMicros - 1)),
    String(took.length),
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
      {
        name: `gRPC, ${tokens}`,
        tokens,
        open:
          ({ grpc }: Mesh) =>
          (headers: () => Record<string, string>) =>
            grpcCall(grpc, headers),
      },
      {
        name: `SSE, ${tokens}`,
        tokens,
        open:
          ({ http }: Mesh) =>
          (headers: () => Record<string, string>) =>
            sseCall(http, headers),
      },
    ]);
  const took = shapes.map((): Turn[] => []);
  for (let i = 0; i < GATEWAYS; i += 1) {
    const mesh = await startProcesses({ env: { QUERN_OTLP_ENDPOINT: url } });
    mesh.mock.send({ stepMs: 0 });
    for (const [at, { open, tokens }] of shapes.entries())
      took[at]?.push(...(await turns(mesh.gateway, open(mesh), tokens)));
    await mesh.close();
    process.stdout.write(`gateway ${i + 1} of ${GATEWAYS}\n`);
  }
  print([`saturated, ${STREAMS} streams`, 'tok/s off', 'tok/s on', 'ratio - 1', 'quartiles', 'gw CPU', 'turns']);
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
