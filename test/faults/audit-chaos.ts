// Chaos on the way of audit records: gateway, audit service and nats-server as processes that are killed, stopped and started
// again while clients make requests. The client's own list of answered requests is what the log must hold, each exactly once.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AuditServiceClient, type QueryResponse } from '#gen/quern/audit/v1/audit.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { freePort, startNats, type TestNats } from '../contract/audit/support/nats.ts';
import { eventually } from '../contract/gateway/fakes/mesh.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ROWS_MAX = 100_000;
const SETTLE_MS = 90_000;
const START_MS = 30_000;

/** `seconds`: at least so long, and each fault at least once. */
export type AuditChaosOptions = { seconds: number; seed: number; concurrency: number; say?: (line: string) => void };

export type AuditChaosReport = {
  requests: number;
  /** A first byte of an answer reached the client: the log must hold these. */
  answered: number;
  /** The connection broke before a first byte: the log may hold these. */
  unanswered: number;
  refused: number;
  faults: Record<string, number>;
  rows: number;
  outcomes: Record<string, number>;
  records: number;
  /** That the gateway's outbox still held at the end. */
  outboxSegments: number;
  verdict: string;
  verdictOfTrusted: string;
  settleMs: number;
  wrong: string[];
};

/** Mulberry32: a small generator that gives one run again. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A process of ours that is killed and started again with the same settings. */
class Part {
  readonly name: string;
  readonly #script: string;
  readonly #args: string[];
  readonly #env: Record<string, string>;
  #child: ChildProcess | null = null;
  #output = '';

  constructor(name: string, script: string, from: { args?: string[]; env?: Record<string, string> }) {
    this.name = name;
    this.#script = join(ROOT, script);
    this.#args = from.args ?? [];
    this.#env = from.env ?? {};
  }

  /** Resolves with what it says when it is ready. */
  async start(): Promise<unknown> {
    const child = fork(this.#script, this.#args, {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, QUERN_LOG_LEVEL: 'warn', ...this.#env },
    });
    this.#child = child;
    const keep = (piece: Buffer): void => {
      this.#output = `${this.#output}${piece.toString()}`.slice(-4_000);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    const ready = new Promise((resolve) => {
      // A service says many things on its way; the mocks say one.
      child.on('message', (message: { addresses?: unknown; tokenizer?: unknown }) => {
        if (message.addresses !== undefined || message.tokenizer !== undefined) resolve(message);
      });
    });
    const gone = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`${this.name} ended with ${code ?? signal} before it was ready:\n${this.#output}`);
    });
    gone.catch(() => {});
    const late = sleep(START_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${this.name} was not ready after ${START_MS} ms:\n${this.#output}`);
    });
    return Promise.race([ready, gone, late]);
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  get output(): string {
    return this.#output;
  }
}

type Seen = 'answered' | 'unanswered' | 'refused';

/** One request; what of it reached the client. */
async function oneRequest(url: string, id: string, next: () => number): Promise<Seen> {
  const leaves = next() < 0.15;
  const isBad = next() < 0.05;
  const gone = new AbortController();
  const body = {
    prompt: `def f${id}():`,
    max_tokens: isBad ? -1 : 1 + Math.floor(next() * 60),
    ignore_eos: true,
    stream: next() < 0.7,
  };
  let seen: Seen = 'unanswered';
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': id },
      body: JSON.stringify(body),
      signal: AbortSignal.any([gone.signal, AbortSignal.timeout(20_000)]),
    });
    seen = response.status === 200 ? 'answered' : 'refused';
    if (leaves) gone.abort();
    await response.text();
  } catch {
    // Its gateway was killed, is not there, or we left: `seen` says how far it came.
  }
  return seen;
}

/** Callers in a loop until told to stop. The answer grows while they run. */
function load(url: string, concurrency: number, next: () => number) {
  const seen = new Map<string, Seen>();
  let stopped = false;
  let number = 0;
  const caller = async (): Promise<void> => {
    while (!stopped) {
      number += 1;
      const id = `chaos-${number}`;
      seen.set(id, 'unanswered');
      const result = await oneRequest(url, id, next);
      seen.set(id, result);
      await sleep(result === 'answered' ? 20 * next() : 100);
    }
  };
  const callers = Array.from({ length: concurrency }, caller);
  return {
    seen,
    async stop(): Promise<void> {
      stopped = true;
      await Promise.all(callers);
    },
  };
}

type Client = InstanceType<typeof AuditServiceClient>;

async function rowsOf(client: Client): Promise<QueryResponse[]> {
  const request = {
    tenant: 'local',
    user: '',
    requestId: '',
    traceId: '',
    since: '',
    until: '',
    limit: ROWS_MAX,
    exports: false,
    withPrompts: false,
    withAnswers: false,
    kinds: [],
  };
  const rows: QueryResponse[] = [];
  for await (const row of serverStream(client, 'query', request, {})) rows.push(row);
  return rows;
}

async function verdictOf(client: Client, trustedCheckpoint: string): Promise<string> {
  let verdict = '';
  let message = '';
  for await (const answer of serverStream(client, 'verify', { trustedCheckpoint }, {})) {
    ({ verdict, message } = answer);
  }
  return verdict === 'ok' ? verdict : `${verdict}: ${message}`;
}

/** What the rows say that the client knows to be otherwise. */
function findWrong(seen: ReadonlyMap<string, Seen>, rows: readonly QueryResponse[]): string[] {
  const wrong: string[] = [];
  const times = new Map<string, number>();
  for (const { requestId, outcome } of rows) {
    times.set(requestId, (times.get(requestId) ?? 0) + 1);
    if (!seen.has(requestId)) wrong.push(`${requestId} is in the log and was never sent`);
    if (outcome === '') wrong.push(`${requestId} has no end`);
  }
  for (const [id, count] of times) if (count > 1) wrong.push(`${id} is there ${count} times`);
  for (const [id, how] of seen) {
    if (how === 'answered' && !times.has(id)) wrong.push(`${id} was answered and is not in the log`);
  }
  return wrong;
}

type ChaosMesh = {
  nats: TestNats;
  audit: Part;
  gateway: Part;
  /** Tokenizer and engine without a model. */
  mocks: Part;
  url: string;
  outboxDir: string;
  client: Client;
};

async function startChaosMesh(t: Pick<TestContext, 'after'>): Promise<ChaosMesh> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-audit-chaos-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const nats = await startNats(t);
  const http = `127.0.0.1:${await freePort()}`;
  const auditAddress = `unix://${dir}/audit.sock`;
  const outboxDir = join(dir, 'outbox');
  const mocks = new Part('mocks', 'test/contract/gateway/fakes/mock-main.ts', {
    args: [JSON.stringify({ folder: dir, stepMs: 3, contextLength: 4096 })],
  });
  const shared = { QUERN_NATS_URL: nats.url, QUERN_AUDIT_KEY_DIR: join(dir, 'keys') };
  const audit = new Part('audit', 'services/audit/main.ts', {
    env: { ...shared, QUERN_AUDIT_LISTEN: auditAddress, QUERN_AUDIT_DIR: join(dir, 'audit') },
  });
  const gateway = new Part('gateway', 'services/gateway/main.ts', {
    env: {
      ...shared,
      QUERN_GATEWAY_HTTP_LISTEN: http,
      QUERN_GATEWAY_GRPC_LISTEN: '127.0.0.1:0',
      QUERN_GATEWAY_TOKENIZER: `unix://${dir}/tokenizer.sock`,
      QUERN_GATEWAY_ENGINES: `mock=unix://${dir}/engine.sock`,
      QUERN_AUDIT_OUTBOX_DIR: outboxDir,
      QUERN_AUDIT_ADDRESS: auditAddress,
    },
  });
  t.after(() => Promise.all([gateway, audit, mocks].map((part) => part.kill())));
  for (const part of [mocks, audit, gateway]) await part.start();
  const url = `http://${http}`;
  const isHealthy = async (): Promise<boolean> => (await fetch(`${url}/health`).catch(() => null))?.status === 200;
  await eventually(isHealthy, 'the mesh serves', START_MS);
  const client = openChannel(AuditServiceClient, { address: auditAddress });
  t.after(() => client.close());
  return { nats, audit, gateway, mocks, url, outboxDir, client };
}

type Fault = { name: string; run(): Promise<void> };

function faultsOf({ nats, audit, gateway, mocks }: ChaosMesh, next: () => number): Fault[] {
  const restart = async (part: Part, waitMs = 0, signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> => {
    await part.kill(signal);
    await sleep(waitMs);
    await part.start();
  };
  const killNats = async (): Promise<void> => {
    await nats.kill();
    await sleep(2_000 * next());
    await nats.start();
  };
  const pauseNats = async (): Promise<void> => {
    nats.pause();
    await sleep(3_000 * next());
    nats.resume();
  };
  const killAll = async (): Promise<void> => {
    await Promise.all([gateway.kill(), audit.kill(), nats.kill()]);
    await nats.start();
    await Promise.all([audit.start(), gateway.start()]);
  };
  return [
    { name: 'gateway killed', run: () => restart(gateway) },
    { name: 'audit killed', run: () => restart(audit, 1_000 * next()) },
    { name: 'nats killed', run: killNats },
    { name: 'nats stopped for a while', run: pauseNats },
    { name: 'engine and tokenizer killed', run: () => restart(mocks) },
    { name: 'gateway and audit and nats killed at once', run: killAll },
    { name: 'gateway drained', run: () => restart(gateway, 0, 'SIGTERM') },
  ];
}

/** Endless rounds, each with every fault once, in an order of its own. */
function* rounds(faults: readonly Fault[], next: () => number): Generator<Fault, never> {
  while (true) {
    const left = [...faults];
    while (left.length > 0) yield left.splice(Math.floor(next() * left.length), 1)[0] as Fault;
  }
}

/** Waits until the log holds what the clients saw, or too long. */
async function settle(client: Client, seen: ReadonlyMap<string, Seen>) {
  const began = performance.now();
  let rows: QueryResponse[] = [];
  let wrong = ['the audit service was never asked'];
  while (wrong.length > 0 && performance.now() - began < SETTLE_MS) {
    rows = await rowsOf(client).catch(() => rows);
    wrong = findWrong(seen, rows);
    await sleep(250);
  }
  return { rows, wrong, settleMs: Math.round(performance.now() - began) };
}

function tally<T extends string>(names: Iterable<T>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

export async function auditChaos(t: Pick<TestContext, 'after'>, options: AuditChaosOptions): Promise<AuditChaosReport> {
  const { seconds, seed, concurrency, say = () => {} } = options;
  const next = random(seed);
  const mesh = await startChaosMesh(t);
  const { client } = mesh;
  const faults = faultsOf(mesh, next);
  const order = rounds(faults, next);
  const done: string[] = [];
  const began = performance.now();
  const callers = load(mesh.url, concurrency, next);
  let trusted = '';
  while (performance.now() - began < seconds * 1_000 || done.length < faults.length) {
    await sleep(300 + 2_000 * next());
    const fault = order.next().value;
    say(`${((performance.now() - began) / 1_000).toFixed(1)} s: ${fault.name}, ${callers.seen.size} requests`);
    done.push(fault.name);
    await fault.run();
    const head = await unary(client, 'getHead', {}, { timeoutMs: 2_000 }).catch(() => null);
    if (trusted === '' && head) trusted = head.checkpoint;
  }
  await callers.stop();
  const { seen } = callers;
  const { rows, wrong, settleMs } = await settle(client, seen);
  const head = await unary(client, 'getHead', {}, {});
  const { answered = 0, unanswered = 0, refused = 0 } = tally(seen.values());
  return {
    requests: seen.size,
    answered,
    unanswered,
    refused,
    faults: tally(done),
    rows: rows.length,
    outcomes: tally(rows.map(({ outcome }) => outcome)),
    records: Number(head.records),
    outboxSegments: (await readdir(mesh.outboxDir)).filter((name) => name.endsWith('.log')).length,
    verdict: await verdictOf(client, ''),
    verdictOfTrusted: await verdictOf(client, trusted),
    settleMs,
    wrong: wrong.slice(0, 20),
  };
}
