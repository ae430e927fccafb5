// What tracing every request costs, and how much of a call's time its spans leave unexplained.
//   npm run bench:tracing [-- --gateways 1 --turns 24 --tokens 1000,256 --round-seconds 1 --only gRPC]
// A gateway over a mock engine exports its spans to a collector in a process of its own. Rounds of calls whose traceparent says
// "not recorded", rounds of calls whose traceparent says "recorded", and again "not recorded" (what the method itself makes up) take
// turns at the same load, in one process: two processes of one program differ by up to a quarter. A round's CPU time holds the export
// of its last spans. Medians of the differences within a turn, of "recorded" from the mean of both others, with their 95 % intervals.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { randomHex } from '#kit/ids.ts';
import { TRACE_FLUSH_MS } from '#kit/otlp/limits.ts';
import { startCollector } from '../support/otlp-collector.ts';
import { topsOf, uncoveredShare } from '../support/span-tree.ts';
import { type CpuTime, cpuTime } from './support/cpu-time.ts';
import { medianInterval } from './support/median.ts';
import {
  type Call,
  type Caller,
  grpcCall,
  type Mesh,
  machineLine,
  percentile,
  STEP_MS,
  sseCall,
  startProcesses,
} from './support/mesh-processes.ts';
import type { SinkTook } from './support/span-sink.ts';

const STREAMS = 64;
/** About a second of a gateway at its limit, on a slow machine. */
const ROUND_TOKENS = { gRPC: 192_000, SSE: 64_000 };
const WARM_UP_TURNS = 4;
/** Until the last spans of a round have left. */
const SETTLE_MS = TRACE_FLUSH_MS + 200;
const COVERAGE_SECONDS = 10;
const COVERAGE_TOKENS = 24;

const { values } = parseArgs({
  options: {
    gateways: { type: 'string', default: '1' },
    turns: { type: 'string', default: '24' },
    tokens: { type: 'string', default: '1000,256' },
    'round-seconds': { type: 'string', default: '1' },
    only: { type: 'string', default: 'gRPC,SSE' },
    'skip-coverage': { type: 'boolean', default: false },
  },
});
const TURNS = Number(values.turns);
const GATEWAYS = Number(values.gateways);
const ROUND_SECONDS = Number(values['round-seconds']);

type Round = { tokensPerSecond: number; cpu: CpuTime; requests: number; tokens: number };
/** Neighbouring rounds: without spans, with them, and without them again. */
type Turn = { off: Round; on: Round; again: Round };
type Transport = 'gRPC' | 'SSE';
type Shape = { transport: Transport; tokens: number; took: Turn[] };

/** The order of a turn changes each time, so that none always comes first. */
const ORDERS: readonly (readonly (keyof Turn)[])[] = [
  ['off', 'on', 'again'],
  ['on', 'again', 'off'],
  ['again', 'off', 'on'],
  ['on', 'off', 'again'],
  ['off', 'again', 'on'],
  ['again', 'on', 'off'],
];

/** All streams busy, one request after the other, until the round's tokens have come. */
async function round(gateway: ChildProcess, { call }: Caller, { transport, tokens }: Shape): Promise<Round> {
  const pid = gateway.pid ?? 0;
  const perStream = Math.max(1, Math.round((ROUND_TOKENS[transport] * ROUND_SECONDS) / STREAMS / tokens));
  const [before, startedAt] = [cpuTime(pid), performance.now()];
  const stream = async (): Promise<void> => {
    for (let i = 0; i < perStream; i += 1) await call(tokens, () => {});
  };
  await Promise.all(Array.from({ length: STREAMS }, stream));
  const seconds = (performance.now() - startedAt) / 1000;
  await sleep(SETTLE_MS);
  const after = cpuTime(pid);
  const requests = STREAMS * perStream;
  const cpu = { all: after.all - before.all, main: after.main - before.main };
  return { tokensPerSecond: (requests * tokens) / seconds, cpu, requests, tokens: requests * tokens };
}

async function takeTurns({ gateway, grpc, http }: Mesh, shape: Shape): Promise<void> {
  const caller = (flags: string): Caller => {
    const headers = () => ({ traceparent: `00-${randomHex(16)}-${randomHex(8)}-${flags}` });
    return shape.transport === 'gRPC' ? grpcCall(grpc, headers) : sseCall(http, headers);
  };
  const callers = { off: caller('00'), on: caller('01'), again: caller('00') };
  for (let i = 0; i < WARM_UP_TURNS + TURNS; i += 1) {
    const turn: Partial<Turn> = {};
    for (const which of ORDERS[i % ORDERS.length]!) turn[which] = await round(gateway, callers[which], shape);
    if (i >= WARM_UP_TURNS) shape.took.push(turn as Turn);
  }
  for (const { close } of Object.values(callers)) close();
}

const percent = (share: number): string => `${share > 0 ? '+' : ''}${(share * 100).toFixed(1)} %`;

/** "+1.2 % (-0.3..+2.7)" of the differences between two rounds of each turn. */
function differenceText(took: readonly Turn[], of: (turn: Turn) => number, text = percent): string {
  const { median, low, high } = medianInterval(took.map(of));
  return `${text(median)} (${text(low)}..${text(high)})`;
}

function costLines({ transport, tokens, took }: Shape): string {
  const middle = (read: (turn: Turn) => number): number => medianInterval(took.map(read)).median;
  const micros = (nanos: number): string => `${nanos > 0 ? '+' : ''}${(nanos / 1000).toFixed(0)} us`;
  const perRequest = ({ cpu, requests }: Round): number => cpu.all / requests;
  const against = (of: (round: Round) => number) => ({
    recorded: (turn: Turn): number => (2 * of(turn.on)) / (of(turn.off) + of(turn.again)) - 1,
    again: (turn: Turn): number => of(turn.again) / of(turn.off) - 1,
  });
  const [all, main, rate] = [
    against(({ cpu }) => cpu.all),
    against(({ cpu }) => cpu.main),
    against(({ tokensPerSecond }) => tokensPerSecond),
  ];
  const [off, on] = [middle((turn) => turn.off.tokensPerSecond), middle((turn) => turn.on.tokensPerSecond)];
  const cpu = middle((turn) => perRequest(turn.off));
  const adds = (turn: Turn): number => perRequest(turn.on) - (perRequest(turn.off) + perRequest(turn.again)) / 2;
  const rows: [string, string][] = [
    [
      'CPU per request, not recorded',
      `${(cpu / 1000).toFixed(0)} us, ${(cpu / tokens / 1000).toFixed(2)} us per token`,
    ],
    ['  recorded adds', differenceText(took, adds, micros)],
    ['  that is', differenceText(took, all.recorded)],
    ['  of its main thread', differenceText(took, main.recorded)],
    ['  not recorded again', differenceText(took, all.again)],
    ['tokens/s, not recorded, recorded', `${off.toFixed(0)}, ${on.toFixed(0)}`],
    ['  ratio - 1', differenceText(took, rate.recorded)],
    ['  not recorded again', differenceText(took, rate.again)],
  ];
  const head = `${transport}, ${STREAMS} streams of ${tokens} tokens, ${took.length} turns of ${took[0]?.on.requests} requests`;
  return `${head}\n${rows.map(([name, text]) => `  ${name.padEnd(36)}${text}\n`).join('')}`;
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
  const transports = (['gRPC', 'SSE'] as const).filter((one) => values.only.split(',').includes(one));
  if (transports.length === 0) throw new Error(`--only: expected gRPC, SSE or both with a comma, got "${values.only}"`);
  const shapes: Shape[] = values.tokens
    .split(',')
    .flatMap((tokens) => transports.map((transport) => ({ transport, tokens: Number(tokens), took: [] })));
  for (let i = 0; i < GATEWAYS; i += 1) {
    const mesh = await startProcesses({ env: { QUERN_OTLP_ENDPOINT: url } });
    mesh.mock.send({ stepMs: 0 });
    for (const shape of shapes) {
      await takeTurns(mesh, shape);
      if (i + 1 === GATEWAYS) process.stdout.write(`${costLines(shape)}  load ${loadavg()[0]?.toFixed(2)}\n`);
    }
    await mesh.close();
  }
  sink.send('?');
  const [sank] = (await once(sink, 'message')) as [SinkTook];
  process.stdout.write(`the collector took ${sank.requests} posts, ${(sank.bytes / 1e6).toFixed(1)} MB\n`);
  sink.disconnect();
}

process.stdout.write(`${machineLine()}\n`);
await benchCosts();
if (!values['skip-coverage']) await benchCoverage();
process.stdout.write(`load at the end ${loadavg()[0]?.toFixed(2)}\n`);
