// GetCoverage on a running service: what a producer can check of it, and what it refuses. The service's own outbox uses it too.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditServiceClient } from '#gen/quern/audit/v1/audit.ts';
import { checkCoverage } from '#kit/audit/coverage.ts';
import { Producer } from '#kit/audit/producer.ts';
import { createLog } from '#kit/log.ts';
import { createMetrics } from '#kit/metrics.ts';
import { openChannel, unary } from '#kit/rpc/client.ts';
import { readConfig } from '../../../services/audit/config.ts';
import { startAudit } from '../../../services/audit/service.ts';
import { eventually } from '../gateway/fakes/mesh.ts';
import { startNats } from './support/nats.ts';
import { undo } from './support/undo.ts';

const log = createLog({ service: 't', level: 'silent' });

async function setUp(t: TestContext) {
  const nats = await startNats(t);
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  const config = readConfig({
    QUERN_AUDIT_LISTEN: `unix://${dir}/run/audit.sock`,
    QUERN_NATS_URL: nats.url,
    QUERN_AUDIT_DIR: join(dir, 'audit'),
    QUERN_AUDIT_KEY_DIR: join(dir, 'keys'),
  });
  const start = () => startAudit({ config, log, metrics: createMetrics('audit') });
  let service = await start();
  undo(t, () => service.close());
  const client = openChannel(AuditServiceClient, { address: service.address });
  undo(t, () => client.close());
  const producer = await Producer.open({
    service: 'gateway',
    dir: join(dir, 'outbox'),
    servers: nats.url,
    coverage: null,
    log,
    metrics: createMetrics('gateway'),
  });
  undo(t, () => producer.close());
  producer.start();
  const common = { tenant: 'acme', actor: { kind: 'user', ref: 'p' }, outcome: 'ok' } as const;
  return {
    dir,
    producer,
    write: async (count: number) => {
      for (let i = 0; i < count; i += 1)
        await producer.append({ ...common, action: 'request.accepted', target: `${i}` });
    },
    /** Everything written so far lies under a checkpoint. */
    async signed(): Promise<void> {
      const covered = async (): Promise<bigint> => {
        const request = { producer: producer.outbox.producer, oldTreeSize: 0n };
        return (await unary(client, 'getCoverage', request, { timeoutMs: 5_000 })).seq;
      };
      const all = async () => Number((await unary(client, 'getHead', {}, { timeoutMs: 5_000 })).records);
      await eventually(async () => (await all()) >= producer.outbox.durableSeq, 'all is in the ledger', 20_000);
      const isSigned = async (): Promise<boolean> => {
        // The service's own records count too: ours may still be on their way, and come late to one that is closed under them.
        await sleep(700);
        await service.close(); // signs what is new
        service = await start();
        return (await covered()) >= BigInt(producer.outbox.durableSeq);
      };
      await eventually(isSigned, 'all is signed', 90_000);
    },
    ask: (oldTreeSize = 0, name = producer.outbox.producer) =>
      unary(client, 'getCoverage', { producer: name, oldTreeSize: BigInt(oldTreeSize) }, { timeoutMs: 5_000 }),
  };
}

test('what it answers can be checked from nothing, and from the checkpoint before', async (t) => {
  const { dir, producer, write, signed, ask } = await setUp(t);
  assert.deepEqual([(await ask()).checkpoint, (await ask()).seq], ['', 0n], 'nothing is signed yet');
  await write(5);
  await signed();
  const known = { pinned: null, seen: null, own: producer.outbox };
  const first = await checkCoverage(await ask(), known);
  assert.ok(first.ok && first.seen);
  assert.equal(first.coveredSeq, 5);
  await write(20);
  await signed();
  const second = await checkCoverage(await ask(first.size), { ...known, seen: first.seen });
  assert.ok(second.ok, JSON.stringify(second));
  assert.equal(second.coveredSeq, 25);
  assert.ok(second.size > first.size);
  const unproved = await checkCoverage(await ask(0), { ...known, seen: first.seen });
  assert.deepEqual(unproved.ok || unproved.alarm, 'forked', 'without the proof it is no continuation');
  // Somebody else's records say nothing about ours, and a tree that is larger than there is has no proof.
  const stranger = await ask(0, 'gateway-00000000');
  assert.deepEqual([stranger.seq, stranger.inclusion.length], [0n, 0]);
  assert.deepEqual((await ask(1_000_000)).consistency, []);
  for (const name of ['', 'x'.repeat(129)]) {
    await assert.rejects(ask(0, name), { code: 'INVALID_ARGUMENT', message: /producer: expected 1\.\.128 characters/ });
  }
  const own = join(dir, 'audit', 'outbox', 'coverage.json');
  await eventually(
    () => readFile(own).then(Boolean, () => false),
    'the service keeps what it saw of its own log',
    15_000,
  );
});
