// From an outbox over a real nats-server into the ledger and its view: each record once, in order, whatever dies.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { newSigningKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { type AuditEvent, placeOf } from '#kit/audit/record.ts';
import { AUDIT_STREAM, auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { verifyLog } from '#kit/audit/verify.ts';
import { createLog } from '#kit/log.ts';
import { AuditConsumer } from '../../../services/audit/consumer.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { CONSUMER_ACK_WAIT_MS } from '../../../services/audit/limits.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { type BatchResult, LedgerWriter } from '../../../services/audit/writer.ts';
import { startNats, type TestNats } from './support/nats.ts';
import { undo } from './support/undo.ts';

const log = createLog({ service: 't', level: 'silent' });
const STREAM_BYTES = { maxBytes: 64 * 1024 * 1024 };
const event = (id: number): AuditEvent => ({
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.accepted',
  outcome: 'ok',
  request_id: `r${id}`,
});

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  undo(t, () => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function startProducer(t: TestContext, nats: TestNats, service: string) {
  const outbox = await Outbox.open({ dir: await folder(t), service });
  const link = new NatsLink({ servers: nats.url, name: service, log });
  link.start();
  const stream = producerStream(
    () => link.get(),
    auditSubject(service, outbox.producer),
    () => ensureAuditStream(link.get(), STREAM_BYTES),
  );
  const publisher = new Publisher({ outbox, stream, log, retryMinMs: 20 });
  publisher.start();
  undo(t, async () => {
    await publisher.close();
    await link.close();
    await outbox.close();
  });
  return { outbox, publisher, link };
}

async function startLedger(nats: TestNats, dir: string) {
  const link = new NatsLink({ servers: nats.url, name: 'audit', log });
  link.start();
  const ledger = await Ledger.open({ dir });
  const projection = Projection.open(join(dir, 'view.sqlite'));
  const writer = await LedgerWriter.open(ledger, projection, log);
  const batches: BatchResult[] = [];
  const onBatch = (result: BatchResult): void => void batches.push(result);
  const consumer = new AuditConsumer({ link, stream: STREAM_BYTES, writer, log, onBatch });
  consumer.start();
  return {
    ledger,
    projection,
    consumer,
    link,
    batches,
    async close() {
      await consumer.close();
      await link.close();
      projection.close();
      await ledger.close();
    },
  };
}

async function reached(projection: Projection, size: number): Promise<void> {
  for (let i = 0; i < 3_000 && projection.nextIndex < size; i += 1) await sleep(20);
  assert.equal(projection.nextIndex, size);
}

/** Seq of each record in the ledger, by producer. */
async function seqsOf(ledger: Ledger): Promise<Record<string, number[]>> {
  const seqs: Record<string, number[]> = {};
  for await (const { bytes } of ledger.read(0)) {
    const { producer, seq } = placeOf(bytes);
    seqs[producer] = [...(seqs[producer] ?? []), seq];
  }
  return seqs;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
const alarmsOf = (batches: readonly BatchResult[]): unknown[] => batches.flatMap(({ alarms }) => alarms);

test('two producers, each record once and in its order; the view shows the requests', async (t) => {
  const nats = await startNats(t);
  const [a, b] = [await startProducer(t, nats, 'gateway'), await startProducer(t, nats, 'tools')];
  const { ledger, projection, batches, close } = await startLedger(nats, await folder(t));
  undo(t, close);
  await Promise.all(Array.from({ length: 500 }, (_, i) => (i % 2 ? a : b).outbox.append(event(i))));
  await reached(projection, 500);
  assert.deepEqual(await seqsOf(ledger), { [a.outbox.producer]: upTo(250), [b.outbox.producer]: upTo(250) });
  assert.deepEqual(alarmsOf(batches), []);
  assert.equal(projection.requests({ tenant: 't', requestId: 'r499', limit: 1 }).length, 1);
});

test('what lay in the stream before the ledger came is read once: nothing of it counts as sent again', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, link } = await startProducer(t, nats, 'gateway');
  for (let i = 0; i < 3; i += 1) await outbox.append(event(i));
  assert.ok(await publisher.flushed(AbortSignal.timeout(30_000)));
  const dir = await folder(t);
  const read = async (size: number): Promise<number> => {
    const { projection, batches, close } = await startLedger(nats, dir);
    await reached(projection, size);
    const consumer = await jetstream(link.get()).consumers.get(AUDIT_STREAM, 'ledger');
    const givenOut = async (): Promise<number> => {
      const { num_pending, num_ack_pending } = await consumer.info();
      return num_pending + num_ack_pending;
    };
    while ((await givenOut()) > 0) await sleep(20); // what it read directly the consumer gives out as well
    await close();
    return batches.reduce((sum, { duplicates }) => sum + duplicates, 0);
  };
  assert.equal(await read(3), 0);
  await outbox.append(event(3));
  assert.ok(await publisher.flushed(AbortSignal.timeout(30_000)));
  assert.equal(await read(4), 0, 'nor after a restart');
});

test('nats-server killed again and again while records are made and read: nothing lost, nothing twice, no alarm', async (t) => {
  const nats = await startNats(t);
  const { outbox } = await startProducer(t, nats, 'gateway');
  const { ledger, projection, batches, close } = await startLedger(nats, await folder(t));
  undo(t, close);
  let isOver = false;
  const killing = (async () => {
    for (let i = 0; i < 4; i += 1) {
      await sleep(200);
      await nats.kill();
      await sleep(100);
      await nats.start();
    }
    isOver = true;
  })();
  let count = 0;
  while (!isOver) {
    await outbox.append(event(count));
    count += 1;
    await sleep(1);
  }
  await killing;
  await reached(projection, count);
  assert.deepEqual(await seqsOf(ledger), { [outbox.producer]: upTo(count) });
  assert.deepEqual(alarmsOf(batches), []);
});

test('the ledger stopped and started again while records are made: each once, also what was stored and not acknowledged', async (t) => {
  const nats = await startNats(t);
  const { outbox } = await startProducer(t, nats, 'gateway');
  const dir = await folder(t);
  let count = 0;
  let stopping = false;
  const making = (async () => {
    while (!stopping) {
      await outbox.append(event(count));
      count += 1;
      await sleep(1);
    }
  })();
  const alarms: unknown[] = [];
  for (let i = 0; i < 3; i += 1) {
    const { batches, close } = await startLedger(nats, dir);
    await sleep(150);
    await close();
    alarms.push(...alarmsOf(batches));
  }
  stopping = true;
  await making;
  const { ledger, projection, batches, close } = await startLedger(nats, dir);
  undo(t, close);
  await reached(projection, count);
  assert.deepEqual(await seqsOf(ledger), { [outbox.producer]: upTo(count) });
  assert.deepEqual([...alarms, ...alarmsOf(batches)], []);
});

test('a stream that was deleted and made again, and one whose consumer was deleted, are read on without loss', async (t) => {
  const nats = await startNats(t);
  const { outbox, publisher, link } = await startProducer(t, nats, 'gateway');
  const { ledger, projection, batches, close } = await startLedger(nats, await folder(t));
  undo(t, close);
  for (let i = 0; i < 10; i += 1) await outbox.append(event(i));
  await reached(projection, 10);
  const admin = await jetstreamManager(link.get());
  await admin.consumers.delete(AUDIT_STREAM, 'ledger');
  await outbox.append(event(10));
  await reached(projection, 11);
  await admin.streams.delete(AUDIT_STREAM);
  await outbox.append(event(11));
  assert.ok(await publisher.flushed(AbortSignal.timeout(30_000)));
  await reached(projection, 12);
  assert.deepEqual(await seqsOf(ledger), { [outbox.producer]: upTo(12) });
  assert.deepEqual(alarmsOf(batches), []);
});

/** What `quern audit verify` says of the ledger, signed as it is. */
async function verdictOf(ledger: Ledger): Promise<string> {
  const signer = signerOf('quern.test/audit', newSigningKey());
  const note = signCheckpoint({ origin: signer.name, size: ledger.size, root: ledger.root() }, signer);
  const records: Buffer[] = [];
  for await (const { bytes } of ledger.read(0)) records.push(bytes);
  const { verdict } = await verifyLog({ records, origin: signer.name, verifiers: [signer], checkpoints: [note] });
  return verdict;
}

/** As a ledger does that is stopped between taking messages and storing them. */
async function fetchOnly(link: NatsLink, count: number): Promise<void> {
  const consumer = await jetstream(link.get()).consumers.get(AUDIT_STREAM, 'ledger');
  let got = 0;
  for await (const _ of await consumer.fetch({ max_messages: count, expires: 5_000 })) got += 1;
  assert.equal(got, count);
}

for (const drop of ['the view', 'the view and the ledger'] as const) {
  test(`${drop} deleted after messages were given out and not stored: each once and in its order`, async (t) => {
    const nats = await startNats(t);
    const { outbox, publisher, link } = await startProducer(t, nats, 'gateway');
    const dir = await folder(t);
    const before = await startLedger(nats, dir);
    let made = 0;
    const make = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        await outbox.append(event(made++));
        assert.ok(await publisher.flushed(AbortSignal.timeout(30_000))); // each a message of its own
      }
    };
    await make(5);
    await reached(before.projection, 5);
    await before.close();
    await make(8);
    await fetchOnly(link, 4);
    const all = await readdir(dir);
    for (const name of all) {
      if (drop !== 'the view' || name.startsWith('view.sqlite')) await rm(join(dir, name), { recursive: true });
    }
    const started = performance.now();
    const { ledger, projection, batches, close } = await startLedger(nats, dir);
    undo(t, close);
    await make(1);
    await reached(projection, 14);
    assert.ok(performance.now() - started < CONSUMER_ACK_WAIT_MS, 'it does not wait until they come again');
    assert.deepEqual(await seqsOf(ledger), { [outbox.producer]: upTo(14) });
    assert.deepEqual(alarmsOf(batches), []);
    assert.equal(await verdictOf(ledger), 'ok');
  });
}
