// Outbox, publisher and the stream AUDIT on a real nats-server: killed, replaced, full, rewritten by somebody else.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstreamManager } from '@nats-io/jetstream';
import { recordsOf } from '#kit/audit/frame.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { checkServerVersion } from '#kit/audit/nats-version.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { type AuditEvent, placeOf } from '#kit/audit/record.ts';
import { AUDIT_STREAM, auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { createLog } from '#kit/log.ts';
import { startNats, type TestNats } from './support/nats.ts';
import { undo } from './support/undo.ts';

const log = createLog({ service: 't', level: 'silent' });
const event: AuditEvent = { tenant: 't', actor: { kind: 'user', ref: 'p' }, action: 'request.accepted', outcome: 'ok' };
const MIB = 1024 * 1024;

async function setUp(t: TestContext, nats: TestNats, options: { maxBytes?: number } = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const outbox = await Outbox.open({ dir, service: 'gateway' });
  const link = new NatsLink({ servers: nats.url, name: 'test', log });
  link.start();
  const subject = auditSubject('gateway', outbox.producer);
  const prepare = () => ensureAuditStream(link.get(), { maxBytes: options.maxBytes ?? 64 * MIB });
  const stream = producerStream(() => link.get(), subject, prepare);
  const publisher = new Publisher({ outbox, stream, log, retryMinMs: 20 });
  publisher.start();
  undo(t, async () => {
    await publisher.close();
    await link.close();
    await outbox.close();
    await rm(dir, { recursive: true, force: true });
  });
  /** Sequence numbers of all records on the stream, in stream order. */
  async function stored(): Promise<number[]> {
    const admin = await jetstreamManager(link.get());
    const { state } = await admin.streams.info(AUDIT_STREAM);
    const seqs: number[] = [];
    for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
      const message = await admin.direct.getMessage(AUDIT_STREAM, { seq });
      if (message) for (const record of recordsOf(Buffer.from(message.data))) seqs.push(placeOf(record).seq);
    }
    return seqs;
  }
  return { outbox, link, publisher, stored, subject };
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
const flushed = (publisher: Publisher) => publisher.flushed(AbortSignal.timeout(60_000));

test('records reach the stream in order, one message per group commit', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, stored, link } = await setUp(t, nats);
  await Promise.all(Array.from({ length: 1000 }, () => outbox.append(event)));
  assert.ok(await flushed(publisher));
  assert.deepEqual(await stored(), upTo(1000));
  const { state, config } = await (await jetstreamManager(link.get())).streams.info(AUDIT_STREAM);
  assert.ok(state.messages < 40, `${state.messages} messages`);
  assert.deepEqual([config.deny_delete, config.deny_purge, config.discard], [true, true, 'new']);
});

test('nats-server killed and restarted again and again under load: nothing lost, nothing twice, order kept', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, stored } = await setUp(t, nats);
  const killing = (async () => {
    for (let i = 0; i < 4; i += 1) {
      await sleep(150);
      await nats.kill();
      await sleep(100);
      await nats.start();
    }
  })();
  let count = 0;
  let isOver = false;
  void killing.then(() => {
    isOver = true;
  });
  while (!isOver) {
    await outbox.append(event);
    count += 1;
    await sleep(1);
  }
  await killing;
  assert.ok(await flushed(publisher));
  assert.deepEqual(await stored(), upTo(count));
});

test('without a server records stay in the outbox, it says so, and all arrive when it is there', async (t) => {
  const nats = await startNats(t);
  await nats.kill();
  const { outbox, publisher, stored, link } = await setUp(t, nats);
  for (let i = 0; i < 20; i += 1) await outbox.append(event);
  while (publisher.stats.state !== 'waiting') await sleep(5);
  assert.match(publisher.stats.reason, /NATS at nats:\/\/127\.0\.0\.1:\d+: /);
  assert.notEqual(link.problem, null);
  assert.equal(publisher.stats.unsentRecords, 20);
  await nats.start();
  assert.ok(await flushed(publisher));
  assert.deepEqual(await stored(), upTo(20));
  assert.equal(link.problem, null);
});

test('a full stream refuses, the outbox keeps, and room again lets all through', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, stored, link } = await setUp(t, nats, { maxBytes: 200_000 }); // three messages of 60 KiB
  await Promise.all(Array.from({ length: 1000 }, () => outbox.append(event)));
  while (!publisher.stats.reason.includes('maximum bytes exceeded')) await sleep(5); // before that it may not be connected
  assert.equal(publisher.stats.state, 'waiting');
  const admin = await jetstreamManager(link.get());
  await admin.streams.update(AUDIT_STREAM, { max_bytes: 64 * MIB });
  assert.ok(await flushed(publisher));
  assert.deepEqual(await stored(), upTo(1000));
});

test('a stream that was deleted is made again and sent all that the outbox has', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, stored, link } = await setUp(t, nats);
  for (let i = 0; i < 10; i += 1) await outbox.append(event);
  await flushed(publisher);
  await (await jetstreamManager(link.get())).streams.delete(AUDIT_STREAM);
  await outbox.append(event);
  assert.ok(await flushed(publisher));
  assert.deepEqual(await stored(), upTo(11));
});

test('limits of the stream are left to the operator, a stream that may drop records is refused', async (t) => {
  const nats = await startNats(t);
  const link = new NatsLink({ servers: nats.url, name: 'test', log });
  link.start();
  undo(t, () => link.close());
  while (link.problem !== null) await sleep(5);
  const admin = await jetstreamManager(link.get());
  await admin.streams.add({ name: AUDIT_STREAM, subjects: ['audit.v1.*.*'], discard: 'old', max_bytes: 1 * MIB });
  await assert.rejects(ensureAuditStream(link.get(), { maxBytes: 64 * MIB }), {
    code: 'FAILED_PRECONDITION',
    message:
      /not fit for the audit log: discard must be new: it may not drop what it holds; deploy\/nats\/nats.conf lists/,
  });
  await admin.streams.delete(AUDIT_STREAM);
  await ensureAuditStream(link.get(), { maxBytes: 64 * MIB });
  await admin.streams.update(AUDIT_STREAM, { max_bytes: 2 * MIB });
  await ensureAuditStream(link.get(), { maxBytes: 64 * MIB });
  assert.equal((await admin.streams.info(AUDIT_STREAM)).config.max_bytes, 2 * MIB);
});

test("somebody else's frame on the producer's subject stops the publisher with an alarm", async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, link, subject } = await setUp(t, nats);
  await outbox.append(event);
  await flushed(publisher);
  link.get().publish(subject, 'forged');
  await link.get().flush();
  await outbox.append(event);
  while (publisher.stats.state !== 'stopped') await sleep(5);
  assert.match(publisher.stats.reason, /which this outbox \(up to record 2\) did not write/);
});

test('servers that are too old are refused with the reason', () => {
  for (const version of ['2.14.0', '2.15.2', '3.0.0', '2.14.1-beta.1']) checkServerVersion(version);
  for (const version of ['2.13.9', '2.9.10', '1.4.1', '0']) {
    assert.throws(() => checkServerVersion(version), {
      code: 'FAILED_PRECONDITION',
      message: /expected 2\.14\.0 or newer/,
    });
  }
});

test('subjects name no tenant and hold no structure of their own', () => {
  assert.equal(auditSubject('gateway', 'gateway-01'), 'audit.v1.gateway.gateway-01');
  for (const bad of ['a.b', 'a b', '*', '>', ''])
    assert.throws(() => auditSubject('gateway', bad), { code: 'INVALID_ARGUMENT' });
});
