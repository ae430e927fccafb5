// The audit log at size: how long a verification takes, how fast records come in through a real NATS, how long a question takes.
//   npm run bench:audit -- [--verify RECORDS] [--ingest RECORDS] [--query ROWS] [--dir FOLDER]
// Without options all three at the sizes of their bars; with some, only those. The audit service is a process of its own; what
// it is asked goes through its socket. 10 M rows need about 6 GB in FOLDER (default: the system's folder for temporary files).
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { AuditServiceClient, QueryRequest } from '#gen/quern/audit/v1/audit.ts';
import { newSigningKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { type AuditEvent, type AuditRecord, NO_RECORD_SHA256, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import { auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { Vault } from '#kit/audit/vault.ts';
import { verifyLog } from '#kit/audit/verify.ts';
import { createLog } from '#kit/log.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { auditKeys } from '../../services/audit/key-files.ts';
import { Ledger } from '../../services/audit/ledger.ts';
import { Projection } from '../../services/audit/projection.ts';
import { startNats } from '../contract/audit/support/nats.ts';

const ROOT = join(import.meta.dirname, '../..');
const BARS = { verify: 1_000_000, ingest: 100_000, query: 10_000_000 };
const USERS = 1_000;
const DAYS = 90;
const DAY_MS = 24 * 3_600_000;
const CHECKPOINT_EVERY = 1_000;
const IN_FLIGHT_MAX = 4_096;
const log = createLog({ service: 'bench', level: 'silent' });

type Undo = (() => Promise<unknown> | unknown)[];

/** What a test context is to the fixtures of the tests. */
function cleanUp() {
  const undo: Undo = [];
  return {
    after: (action?: unknown) => void undo.push(action as Undo[number]),
    run: async () => {
      for (const action of undo.reverse()) await action();
    },
  };
}

function say(name: string, what: string, bar: string): void {
  console.log(`${name.padEnd(8)}${what}; bar ${bar}`);
}

const seconds = (sinceMs: number): number => (performance.now() - sinceMs) / 1000;

/** Records of one gateway: requests of many users, accepted and finished, as long as real ones. */
function* records(count: number): Generator<Buffer> {
  let prev = NO_RECORD_SHA256;
  const sealed = 'x'.repeat(120);
  for (let i = 0; i < count; i += 1) {
    const request = i >> 1;
    const shared = {
      v: 1,
      id: `0198f3c2-7a10-7000-8000-${String(i).padStart(12, '0')}`,
      ts: new Date(1.77e12 + i).toISOString(),
      mono_ns: String(i),
      producer: 'gateway-0badcafe',
      epoch: 1,
      seq: i + 1,
      prev,
      tenant: 'local',
      actor: { kind: 'user', ref: sha256Hex(Buffer.from(String(request % USERS))).slice(0, 32) },
      request_id: `0198f3c2-7a10-7000-9000-${String(request).padStart(12, '0')}`,
      trace_id: sha256Hex(Buffer.from(`t${request}`)).slice(0, 32),
      outcome: 'ok',
    } as const;
    const rest: Pick<AuditRecord, 'action'> & Partial<AuditRecord> =
      i % 2 === 0
        ? { action: 'request.accepted', target: 'quern-mini', args_mac: prev, sealed }
        : {
            action: 'request.finished',
            reason: 'STOP',
            usage: { prompt_tokens: 120, completion_tokens: 40, latency_ms: 812 },
          };
    const bytes = recordBytes({ ...shared, ...rest });
    prev = sha256Hex(bytes);
    yield bytes;
  }
}

async function benchVerify(count: number, dir: string): Promise<void> {
  const origin = 'quern.bench/audit';
  const signer = signerOf(origin, newSigningKey());
  const ledger = await Ledger.open({ dir: join(dir, 'verify') });
  const checkpoints: string[] = [];
  let batch: Buffer[] = [];
  for (const bytes of records(count)) {
    batch.push(bytes);
    if (batch.length < CHECKPOINT_EVERY && ledger.size + batch.length < count) continue;
    await ledger.append(batch);
    batch = [];
    checkpoints.push(signCheckpoint({ origin, size: ledger.size, root: ledger.root() }, signer));
  }
  const [cpu, begun] = [process.cpuUsage(), performance.now()];
  const stored = async function* () {
    for await (const { bytes } of ledger.read(0)) yield bytes;
  };
  const { verdict, covered } = await verifyLog({ records: stored(), origin, verifiers: [signer], checkpoints });
  const took = seconds(begun);
  const { user, system } = process.cpuUsage(cpu);
  await ledger.close();
  if (verdict !== 'ok' || covered !== count) throw new Error(`expected ok of ${count}, got ${verdict} of ${covered}`);
  const rate = Math.round(count / took);
  say(
    'verify',
    `${count} records, ${checkpoints.length} checkpoints in ${took.toFixed(2)} s (${rate}/s; ${((user + system) / 1e6).toFixed(2)} CPU s)`,
    '1,000,000 in < 30 s',
  );
}

/** The audit service as a process; resolves when it answers. */
async function startService(dir: string, nats: string, undo: ReturnType<typeof cleanUp>) {
  const address = `unix://${dir}/run/audit.sock`;
  const env = {
    ...process.env,
    QUERN_AUDIT_LISTEN: address,
    QUERN_AUDIT_DIR: join(dir, 'audit'),
    QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
    QUERN_NATS_URL: nats,
    QUERN_LOG_LEVEL: 'error',
  };
  const child: ChildProcess = spawn(process.execPath, [join(ROOT, 'services/audit/main.ts')], {
    env,
    stdio: 'inherit',
  });
  undo.after(async () => {
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  const client = openChannel(AuditServiceClient, { address });
  undo.after(() => client.close());
  const head = () => unary(client, 'getHead', {}, { timeoutMs: 5_000 });
  for (let i = 0; ; i += 1) {
    const answers = await head().then(
      () => true,
      () => false,
    );
    if (answers) return { client, head };
    if (i > 600 || child.exitCode !== null) throw new Error('the audit service does not answer');
    await sleep(100);
  }
}

async function benchIngest(count: number, dir: string): Promise<void> {
  const undo = cleanUp();
  try {
    const nats = await startNats(undo);
    const { head } = await startService(join(dir, 'ingest'), nats.url, undo);
    const outbox = await Outbox.open({ dir: join(dir, 'ingest', 'outbox'), service: 'gateway' });
    undo.after(() => outbox.close());
    const link = new NatsLink({ servers: nats.url, name: 'bench', log });
    link.start();
    undo.after(() => link.close());
    while (link.problem !== null) await sleep(10);
    const stream = producerStream(
      () => link.get(),
      auditSubject('gateway', outbox.producer),
      () => ensureAuditStream(link.get(), { maxBytes: 4 * 2 ** 30 }),
    );
    const publisher = new Publisher({ outbox, stream, log });
    publisher.start();
    undo.after(() => publisher.close());
    const all = events(count);
    const before = Number((await head()).records);
    const cpu = process.cpuUsage();
    const begun = performance.now();
    await appendAll(outbox, all);
    const appended = seconds(begun);
    while (Number((await head()).records) < before + count) await sleep(20);
    const took = seconds(begun);
    const { user, system } = process.cpuUsage(cpu);
    const rate = Math.round(count / took);
    const own = `on disk after ${appended.toFixed(2)} s, ${((user + system) / 1e6).toFixed(2)} CPU s of the producer`;
    say(
      'ingest',
      `${count} records from append to ledger and view in ${took.toFixed(2)} s (${rate}/s; ${own})`,
      '>= 5,000/s',
    );
  } finally {
    await undo.run();
  }
}

/** What a gateway says of the records; made before the clock runs. */
function events(count: number): AuditEvent[] {
  return Array.from(records(count), (bytes) => {
    const {
      v: _v,
      id: _i,
      ts: _t,
      mono_ns: _m,
      producer: _p,
      epoch: _e,
      seq: _s,
      prev: _h,
      ...event
    } = JSON.parse(bytes.toString()) as AuditRecord;
    return event;
  });
}

async function appendAll(outbox: Outbox, all: readonly AuditEvent[]): Promise<void> {
  let inFlight = 0;
  let wake: (() => void) | null = null;
  let failed: unknown = null;
  const done = (): void => {
    inFlight -= 1;
    wake?.();
  };
  const below = async (most: number): Promise<void> => {
    while (inFlight > most && failed === null) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  for (const event of all) {
    inFlight += 1;
    outbox.append(event).then(done, (error: unknown) => {
      failed = error;
      done();
    });
    await below(IN_FLIGHT_MAX);
  }
  await below(0);
  if (failed !== null) throw failed;
}

/** Rows as the records of DAYS days would have made them, written by SQLite itself. */
function fillView(path: string, rows: number, users: readonly { ref: string; sealed: string }[]): void {
  Projection.open(path).close();
  const database = new DatabaseSync(path);
  database.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000;');
  database.exec('CREATE TEMP TABLE users (n INTEGER PRIMARY KEY, ref TEXT, sealed TEXT)');
  const insert = database.prepare('INSERT INTO users VALUES (?, ?, ?)');
  for (const [n, { ref, sealed }] of users.entries()) insert.run(n, ref, sealed);
  const begin = Date.now() - DAYS * DAY_MS;
  database.exec('BEGIN');
  database
    .prepare(
      `INSERT INTO requests (id, request_id, tenant, actor_kind, actor_ref, accepted_ts, finished_ts, model, outcome, code,
         reason, trace_id, sealed, usage, accepted_idx, finished_idx)
       WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
       SELECT printf('0198f3c2-7a10-7000-8000-%012d', i), printf('0198f3c2-7a10-7000-9000-%012d', i), 'local', 'user', u.ref,
         strftime('%Y-%m-%dT%H:%M:%fZ', (? + i * ?) / 1000.0, 'unixepoch'), strftime('%Y-%m-%dT%H:%M:%fZ',
         (? + i * ? + 812) / 1000.0, 'unixepoch'), 'quern-mini', 'ok', 'OK', 'STOP', printf('%032x', i), u.sealed,
         '{"completion_tokens":40,"latency_ms":812,"prompt_tokens":120}', i * 2, i * 2 + 1
       FROM n JOIN users u ON u.n = (i * 7919) % ?`,
    )
    .run(rows, begin, (DAYS * DAY_MS) / rows, begin, (DAYS * DAY_MS) / rows, users.length);
  database.exec('COMMIT');
  database.close();
}

async function benchQuery(rows: number, dir: string): Promise<void> {
  const undo = cleanUp();
  const place = join(dir, 'query');
  try {
    const keys = await auditKeys({ keyDir: join(place, 'keys'), signingKeyDir: null });
    const vault = Vault.open(keys.vaultPath, keys.vault);
    const users = Array.from({ length: USERS }, (_, n) => {
      const subject = vault.subject({ tenant: 'local', kind: 'user', id: `user-${n}` });
      return { ref: subject.ref, sealed: subject.seal({ client_ip: '192.0.2.7', key_id: 'k1' }) };
    });
    vault.close();
    const ledger = await Ledger.open({ dir: join(place, 'audit', 'ledger') }); // makes the folders
    await ledger.close();
    const filling = performance.now();
    fillView(join(place, 'audit', 'view.sqlite'), rows, users);
    console.log(`        view of ${rows} requests filled in ${seconds(filling).toFixed(0)} s`);
    const { client } = await startService(place, 'nats://127.0.0.1:1', undo); // nothing listens there: it only answers
    const since = new Date(Date.now() - DAY_MS).toISOString();
    const filters = { ...QueryRequest.decode(new Uint8Array(0)), tenant: 'local', since, limit: 10_000 };
    const times: number[] = [];
    let found = 0;
    for (let n = 0; n < 20; n += 1) {
      const begun = performance.now();
      const asked = { ...filters, user: `user-${(n * 37) % USERS}` };
      for await (const row of serverStream(client, 'query', asked, { timeoutMs: 60_000 })) if (row.clientIp) found += 1;
      times.push(performance.now() - begun);
    }
    const sorted = times.toSorted((a, b) => a - b);
    const ms = (time: number | undefined): string => `${(time ?? Number.NaN).toFixed(1)} ms`;
    const figures = `first ${ms(times[0])}, median ${ms(sorted[10])}, slowest ${ms(sorted.at(-1))}`;
    say(
      'query',
      `one user's last day among ${rows} rows (${Math.round(found / 20)} rows each): ${figures}`,
      '< 200 ms',
    );
  } finally {
    await undo.run();
  }
}

const { values } = parseArgs({
  options: {
    verify: { type: 'string' },
    ingest: { type: 'string' },
    query: { type: 'string' },
    dir: { type: 'string' },
  },
});
const chosen = (['verify', 'ingest', 'query'] as const).filter((name) => values[name] !== undefined);
const sizeOf = (name: keyof typeof BARS): number =>
  chosen.length === 0 ? BARS[name] : Number(values[name] ?? Number.NaN);
const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
const load = (): string => loadavg()[0]!.toFixed(2);
console.log(
  `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, load ${load()}, commit ${commit}`,
);
const dir = await mkdtemp(join(values.dir ?? tmpdir(), 'quern-bench-'));
try {
  for (const [name, run] of Object.entries({ verify: benchVerify, ingest: benchIngest, query: benchQuery })) {
    const size = sizeOf(name as keyof typeof BARS);
    if (size > 0) await run(size, dir);
  }
} finally {
  await rm(dir, { recursive: true, force: true });
}
console.log(`load at the end ${load()}`);
