// The whole way on a real nats-server: a gateway answers, its records become rows, and its outbox lets go of what is covered.
import assert from 'node:assert/strict';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '#gen/grpc/health/v1/health.ts';
import { AuditServiceClient, QueryRequest } from '#gen/quern/audit/v1/audit.ts';
import type { AuditRecord } from '#kit/audit/record.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { type AuditConfig, readConfig } from '../../../services/audit/config.ts';
import { startAudit } from '../../../services/audit/service.ts';
import { assertPaired, named, recordsIn } from '../gateway/fakes/audit-records.ts';
import { eventually, startMesh, type TestMesh } from '../gateway/fakes/mesh.ts';
import { startNats } from './support/nats.ts';
import { undo } from './support/undo.ts';

const log = createLog({ service: 't', level: 'silent' });

/** A gateway with an outbox of small segments and the audit service, on one nats-server. */
async function setUp(t: TestContext) {
  const nats = await startNats(t);
  let config: AuditConfig | null = null;
  const socket = (mesh: Pick<TestMesh, 'folder'>): string => `unix://${mesh.folder}/audit.sock`;
  const env = (folder: string): Record<string, string> => ({
    QUERN_NATS_URL: nats.url,
    QUERN_AUDIT_ADDRESS: socket({ folder }),
  });
  const afters: (() => unknown)[] = [];
  undo(t, async () => {
    for (const after of afters) await after();
  });
  const mesh = await startMesh(
    { after: (run) => void afters.push(run as () => unknown) },
    {
      env,
      audit: () => ({ segmentBytesMax: 4_000, coverageEveryMs: 50 }),
    },
  );
  config = readConfig({
    QUERN_AUDIT_LISTEN: socket(mesh),
    QUERN_NATS_URL: nats.url,
    QUERN_AUDIT_DIR: join(mesh.folder, 'audit'),
    QUERN_AUDIT_KEY_DIR: join(mesh.folder, 'keys'),
    QUERN_AUDIT_ORIGIN: 'quern.test/audit',
    QUERN_LOG_LEVEL: 'silent',
  });
  const start = (over: Partial<AuditConfig> = {}) =>
    startAudit({ config: { ...(config as AuditConfig), ...over }, log, metrics: createMetrics('audit') });
  let audit: Awaited<ReturnType<typeof startAudit>> | null = await start();
  undo(t, () => audit?.close());
  const client = openChannel(AuditServiceClient, { address: audit.address });
  undo(t, () => client.close());
  const query = async (over: Partial<QueryRequest> = {}) => {
    const rows = [];
    const asked = { ...QueryRequest.decode(new Uint8Array(0)), tenant: 'local', limit: 1_000, ...over };
    for await (const row of serverStream(client, 'query', asked, { timeoutMs: 10_000 })) rows.push(row);
    return rows;
  };
  const outbox = join(mesh.folder, 'outbox');
  const segments = async () => (await readdir(outbox)).filter((name) => name.endsWith('.log')).sort();
  async function ask(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const body = JSON.stringify({ prompt: `prompt ${i}`, max_length: 2 });
      const answer = await fetch(`${mesh.url}/generate`, { method: 'POST', body });
      assert.equal(answer.status, 200, await answer.text());
    }
  }
  async function stop(): Promise<void> {
    await audit?.close();
    audit = null;
  }
  async function restart(over: Partial<AuditConfig> = {}): Promise<void> {
    await stop();
    audit = await start(over);
  }
  const head = () => unary(client, 'getHead', {}, { timeoutMs: 10_000 });
  return { nats, mesh, outbox, segments, ask, query, head, stop, restart, client };
}

/** Keeps what segments held before they went. */
async function follow(outbox: string, seen: Map<string, AuditRecord>): Promise<void> {
  for (const record of await recordsIn(outbox)) seen.set(record.id, record);
}

test('each request becomes one finished row; covered segments go, and nothing is lost with them', async (t) => {
  const { mesh, outbox, segments, ask, query, restart, head } = await setUp(t);
  const seen = new Map<string, AuditRecord>();
  for (let i = 0; i < 4; i += 1) {
    await ask(5);
    await follow(outbox, seen);
  }
  assert.ok((await segments()).length > 2, 'several segments');
  await eventually(
    async () => (await query()).filter(({ outcome }) => outcome === 'ok').length === 20,
    '20 rows',
    20_000,
  );
  const rows = await query();
  assert.equal(rows.length, 20);
  for (const row of rows) {
    assert.deepEqual(
      [row.user, row.model, row.code, row.reason, row.clientIp],
      ['local', 'mock', 'OK', 'LENGTH', '127.0.0.1'],
    );
    assert.equal(row.usage.get('completion_tokens'), 2n);
  }
  await follow(outbox, seen);
  await restart(); // signs what is new when it closes
  await eventually(async () => (await segments()).length === 1, 'covered segments are gone', 20_000);
  assert.ok(await readFile(join(outbox, 'open-requests.json'), 'utf8').then((text) => JSON.parse(text)));
  const { records } = await head();
  assert.ok(Number(records) >= 41);
  const { report } = mesh.gateway.context.audit;
  assert.deepEqual([report?.outbox, report?.problem], ['open', '']);
  await eventually(() => mesh.gateway.context.audit.report?.unsentRecords === 0, 'all is sent');
  await follow(outbox, seen);
  assertPaired([...seen.values()]);
});

test('without NATS requests are served and recorded; when it is back, all arrives', async (t) => {
  const { nats, mesh, ask, query } = await setUp(t);
  await ask(1);
  await nats.kill();
  await ask(10);
  const health = await fetch(`${mesh.url}/health`);
  assert.equal(health.status, 200, 'readiness stays');
  await eventually(() => (mesh.gateway.context.audit.report?.unsentRecords ?? 0) >= 20, 'records wait', 10_000);
  await nats.start();
  await eventually(
    async () => (await query()).filter(({ finished }) => finished !== '').length === 11,
    '11 rows',
    30_000,
  );
});

test('an audit service that is gone shows as such, and the gateway is well', async (t) => {
  const { mesh, ask, stop, restart } = await setUp(t);
  const health = openChannel(HealthClient, { address: mesh.gateway.grpcAddress });
  undo(t, () => health.close());
  const serving = async (service: string): Promise<boolean> =>
    (await unary(health, 'check', { service }, { timeoutMs: 5_000 })).status === Status.SERVING;
  const shown = async (): Promise<string> => {
    const answer = await fetch(`${mesh.url}/health`);
    const { status, audit } = (await answer.json()) as { status: string; audit: { service: string } };
    assert.deepEqual([answer.status, status, await serving('')], [200, 'ok', true]);
    return audit.service;
  };
  const becomes = (state: string): Promise<void> =>
    eventually(
      async () => (await shown()) === state && (await serving('audit.service')) === (state === 'ok'),
      `the audit service is ${state}`,
      20_000,
    );
  await becomes('ok');
  await stop();
  await becomes('unreachable');
  await ask(2);
  assert.equal(await serving('audit.outbox'), true);
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  assert.match(metrics, /quern_audit_coverage_state\{[^}]*state="unreachable"[^}]*\} 1/);
  await restart();
  await becomes('ok');
});

test('a log that was rewritten is found out, and the outbox keeps all it has', async (t) => {
  const { mesh, outbox, segments, ask, query, stop, restart } = await setUp(t);
  await ask(10);
  await eventually(async () => (await query()).length === 10, '10 rows', 20_000);
  await restart();
  await eventually(async () => (await segments()).length === 1, 'covered segments are gone', 20_000);
  const kept = JSON.parse(await readFile(join(outbox, 'coverage.json'), 'utf8')) as { note: string };
  await stop();
  // The ledger is lost, and somebody starts a new one with the same key: smaller, and another.
  await rm(join(mesh.folder, 'audit'), { recursive: true });
  await ask(10);
  const before = (await segments()).length;
  assert.ok(before > 1);
  await restart({ nats: 'nats://127.0.0.1:1' });
  await eventually(
    async () => {
      const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
      return /quern_audit_coverage_alarms\{[^}]*alarm="shrunk"[^}]*\} [1-9]/.test(metrics);
    },
    'the alarm',
    20_000,
  );
  assert.ok((await segments()).length >= before);
  assert.equal((JSON.parse(await readFile(join(outbox, 'coverage.json'), 'utf8')) as { note: string }).note, kept.note);
  await sleep(200);
  await ask(1); // inference goes on
  assert.ok(named(await recordsIn(outbox), 'request.finished').length >= 10);
});

test('a gateway that stops sends what it still has, its goodbye included', async (t) => {
  const { mesh, outbox, ask, head } = await setUp(t);
  await ask(5);
  await mesh.gateway.close();
  const own = (await recordsIn(outbox)).length;
  assert.equal(own, 13); // started, model loaded, five accepted, five finished, drained
  await eventually(async () => Number((await head()).records) >= own, 'all of it is in the ledger', 20_000);
});
