// What the gateway does when the disk of its outbox is slow, full or broken: no answer without a record, or, where that was
// chosen, an answer and a count.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '#gen/grpc/health/v1/health.ts';
import { CompleteRequest } from '#gen/quern/gateway/v1/gateway.ts';
import { QuernError } from '#kit/errors.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, serverStream, unary } from '#kit/rpc/client.ts';
import { noSpans } from '#kit/trace.ts';
import { openGatewayAudit } from '../../services/gateway/audit/gateway-audit.ts';
import { emptySampling } from '../../services/gateway/typed-request.ts';
import { assertPaired, named, recordsIn } from '../contract/gateway/fakes/audit-records.ts';
import { type FaultyDisk, faultyDisk } from '../contract/gateway/fakes/faulty-disk.ts';
import { eventually, startMesh, type TestMesh } from '../contract/gateway/fakes/mesh.ts';

type Options = { required?: boolean; hardBytes?: number; stepMs?: number };

async function setUp(t: TestContext, { required = true, hardBytes, stepMs = 0 }: Options = {}) {
  let disk: FaultyDisk | null = null;
  const mesh = await startMesh(t, {
    engine: { stepMs },
    env: { QUERN_AUDIT_REQUIRED: required ? '1' : '0' },
    audit: async (dir) => {
      disk = await faultyDisk(dir);
      return { files: disk.files, ...(hardBytes !== undefined && { hardBytes }) };
    },
  });
  const health = openChannel(HealthClient, { address: mesh.gateway.grpcAddress });
  t.after(() => health.close());
  const serving = async (service: string): Promise<boolean> =>
    (await unary(health, 'check', { service }, { timeoutMs: 5_000 })).status === Status.SERVING;
  const records = () => recordsIn(join(mesh.folder, 'outbox'));
  return { mesh, disk: disk as unknown as FaultyDisk, serving, records };
}

const request = (maxTokens = 8): CompleteRequest => ({
  ...CompleteRequest.decode(new Uint8Array(0)),
  prompt: { $case: 'text', value: 'x' },
  sampling: { ...emptySampling(), maxTokens },
});

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'OK';
  } catch (error) {
    assert.ok(error instanceof QuernError);
    return `${error.code} ${error.details.reason}`;
  }
}

const ask = (mesh: TestMesh, maxTokens?: number) =>
  unary(mesh.completion, 'complete', request(maxTokens), { timeoutMs: 60_000 });

const UNAVAILABLE = 'UNAVAILABLE AUDIT_UNAVAILABLE';

async function stream(mesh: TestMesh, maxTokens: number): Promise<number> {
  let events = 0;
  try {
    for await (const _ of serverStream(mesh.completion, 'streamComplete', { request: request(maxTokens) })) events += 1;
  } catch (error) {
    assert.equal((error as QuernError).details.reason, 'AUDIT_UNAVAILABLE');
  }
  return events;
}

test('a broken disk: nothing of an answer goes out, health drops, what ran goes on', async (t) => {
  const { mesh, disk, serving, records } = await setUp(t, { stepMs: 5 });
  assert.equal(await refusal(ask(mesh)), 'OK');
  const running = ask(mesh, 400); // two seconds
  await eventually(async () => named(await records(), 'request.accepted').length === 2, 'accepted');
  await eventually(() => mesh.engine.live === 1, 'running');
  disk.failSync = 'EIO';
  assert.equal(await stream(mesh, 8), 0);
  await eventually(async () => !(await serving('')), 'not serving');
  assert.equal(await serving('audit.outbox'), false);
  assert.equal(await refusal(ask(mesh)), UNAVAILABLE);
  const http = await fetch(`${mesh.url}/v1/completions`, { method: 'POST', body: JSON.stringify({ prompt: 'x' }) });
  assert.equal(http.status, 503);
  assert.equal(((await http.json()) as { error: { code: string } }).error.code, 'audit_unavailable');
  assert.ok(http.headers.get('retry-after'));
  const health = await fetch(`${mesh.url}/health`);
  assert.deepEqual([health.status, ((await health.json()) as { status: string }).status], [503, 'audit unavailable']);
  assert.equal((await running).end?.usage?.completionTokens, 400, 'an accepted request goes on');
  // An error of fdatasync may have lost pages: success later proves nothing. Only a restart, which reads them again, helps.
  disk.failSync = null;
  await sleep(700);
  assert.equal(await refusal(ask(mesh)), UNAVAILABLE);
  assert.equal(mesh.engine.live, 0);
});

test('a full disk: refused while it is full, served when there is room again, ends are written then', async (t) => {
  const { mesh, disk, serving, records } = await setUp(t, { stepMs: 5 });
  const running = ask(mesh, 400); // two seconds
  await eventually(async () => named(await records(), 'request.accepted').length === 1, 'accepted');
  disk.failWrite = 'ENOSPC';
  assert.equal(await refusal(ask(mesh)), UNAVAILABLE);
  await running;
  assert.equal(named(await records(), 'request.finished').length, 0, 'its end is owed');
  await eventually(async () => !(await serving('')), 'not serving');
  assert.equal(await refusal(ask(mesh)), UNAVAILABLE);
  disk.failWrite = null;
  await eventually(() => serving(''), 'serving again without anybody asking');
  assert.equal(await refusal(ask(mesh)), 'OK');
  await eventually(async () => named(await records(), 'request.finished').length === 2, 'both ends');
  assertPaired(await records());
});

test('an outbox at its bound refuses', async (t) => {
  const { mesh, serving, records } = await setUp(t, { hardBytes: 6_000 });
  let served = 0;
  while ((await refusal(ask(mesh))) === 'OK') served += 1;
  assert.ok(served >= 2 && served < 10, `${served} requests served`);
  assert.equal(await refusal(ask(mesh)), UNAVAILABLE);
  await eventually(async () => !(await serving('')), 'not serving');
  const { size } = new Set(named(await records(), 'request.accepted').map(({ id }) => id));
  assert.ok(size >= served);
});

test('where records are not required a broken disk costs none, and each request without one is counted', async (t) => {
  const { mesh, disk, serving, records } = await setUp(t, { required: false });
  assert.equal(await refusal(ask(mesh)), 'OK');
  disk.failSync = 'EIO';
  for (let i = 0; i < 3; i += 1) assert.equal((await ask(mesh)).choices[0]?.text.length, 8);
  assert.ok((await stream(mesh, 8)) > 2);
  assert.equal(await serving(''), true);
  await eventually(async () => !(await serving('audit.outbox')), 'the outbox is told');
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  assert.match(metrics, /quern_gateway_unrecorded_requests_total(\{[^}]*\})? 4/);
  assert.equal((await fetch(`${mesh.url}/health`)).status, 200);
  // The record whose fdatasync failed may be there or not; if it is, the next start ends it.
  await mesh.gateway.close();
  const [dir, keyDir] = [join(mesh.folder, 'outbox'), join(mesh.folder, 'keys')];
  const common = { log: createLog({ service: 't', level: 'silent' }), metrics: createMetrics('t'), spans: noSpans };
  const servers = 'nats://127.0.0.1:1';
  const again = await openGatewayAudit({ dir, keyDir, servers, required: true, coverage: null, ...common });
  await again.close();
  assertPaired(await records());
  const ends = named(await records(), 'request.finished').map(({ outcome, reason }) => `${outcome} ${reason}`);
  // The disk may have failed under the first request's end already (it is synced after the answer): then no later record was written.
  assert.ok(ends.length === 1 || ends.length === 2, `${ends.length} ends`);
  assert.equal(ends.filter((end) => end === 'unknown RECOVERED').length, ends.length - 1);
  assert.equal(ends.filter((end) => end === 'ok LENGTH').length, 1);
});

test('a disk that hangs: a deadline ends the wait, and the accepted record that comes late gets its end', async (t) => {
  const { mesh, disk, records } = await setUp(t);
  const release = disk.hold();
  const hasty = unary(mesh.completion, 'complete', request(), { timeoutMs: 1_500 }); // it must get to the disk
  assert.equal(await refusal(hasty), 'DEADLINE_EXCEEDED DEADLINE_EXCEEDED');
  const patient = await refusal(ask(mesh));
  assert.equal(patient, UNAVAILABLE, 'a sick disk is refused before clients are thought slow');
  release();
  await eventually(async () => named(await records(), 'request.finished').length === 2, 'two ends');
  assertPaired(await records());
  assert.deepEqual(
    named(await records(), 'request.finished').map(({ outcome, reason }) => [outcome, reason]),
    [
      ['error', 'DEADLINE_EXCEEDED'],
      ['error', 'AUDIT_UNAVAILABLE'],
    ],
  );
});
