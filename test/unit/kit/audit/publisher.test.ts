import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '#kit/log.ts';
import { recordsOf } from '../../../../services/kit/audit/frame.ts';
import { AUDIT_FRAME_BYTES_MAX } from '../../../../services/kit/audit/limits.ts';
import { Outbox } from '../../../../services/kit/audit/outbox.ts';
import {
  type ProducerStream,
  Publisher,
  type PublishVerdict,
  type StreamMessage,
} from '../../../../services/kit/audit/publisher.ts';
import { type AuditEvent, placeOf } from '../../../../services/kit/audit/record.ts';

const log = createLog({ service: 't', level: 'silent' });
const event: AuditEvent = { tenant: 't', actor: { kind: 'user', ref: 'p' }, action: 'request.accepted', outcome: 'ok' };

/** One subject of a stream, with the order of checks that nats-server has: expectation first, then duplicates. */
class FakeStream implements ProducerStream {
  stored: (StreamMessage & { streamSeq: number })[] = [];
  nextSeq = 1;
  publishes = 0;
  /** Called before each publish; what it answers is given instead of, or after, the real verdict. */
  fault: (n: number) => 'lose' | 'lose_answer' | 'full' | 'down' | null = () => null;
  down = false;

  async publish(message: StreamMessage, { expectedSeq }: { expectedSeq: number }): Promise<PublishVerdict> {
    this.publishes += 1;
    const fault = this.down ? 'down' : this.fault(this.publishes);
    if (fault === 'down') throw new Error('not connected');
    if (fault === 'full') return { ok: false, reason: 'full', message: 'maximum bytes exceeded' };
    if (fault === 'lose') return { ok: false, reason: 'failed', message: 'timeout' };
    const last = this.stored.at(-1)?.streamSeq ?? 0;
    if (expectedSeq !== last) return { ok: false, reason: 'wrong_last', message: `wrong last sequence: ${last}` };
    const streamSeq = this.nextSeq;
    this.nextSeq += 1;
    this.stored.push({ ...message, streamSeq });
    if (fault === 'lose_answer') return { ok: false, reason: 'failed', message: 'timeout' };
    return { ok: true, streamSeq, duplicate: false };
  }

  async last(): Promise<{ id: string; sha256: string; streamSeq: number } | null> {
    if (this.down) throw new Error('not connected');
    return this.stored.at(-1) ?? null;
  }

  get seqs(): number[] {
    return this.stored.flatMap(({ bytes }) => recordsOf(bytes).map((record) => placeOf(record).seq));
  }
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

async function setUp(t: TestContext, stream = new FakeStream()) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const outbox = await Outbox.open({ dir, service: 'gateway', segmentBytesMax: 2000 });
  const publisher = new Publisher({ outbox, stream, log, retryMinMs: 1, retryMaxMs: 20 });
  t.after(async () => {
    await publisher.close();
    await outbox.close();
    await rm(dir, { recursive: true, force: true });
  });
  const append = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += 1) await outbox.append(event);
  };
  return { dir, outbox, publisher, stream, append };
}

/** Only a failure waits that long. */
const WAIT_MS_MAX = 60_000;

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + WAIT_MS_MAX;
  while (!condition()) {
    assert.ok(performance.now() < endMs, `waited for ${what}`);
    await sleep(1);
  }
}

const flushed = (publisher: Publisher) => publisher.flushed(AbortSignal.timeout(WAIT_MS_MAX));

test('frames arrive in order, each once, also those of before the start', async (t) => {
  const { publisher, stream, append } = await setUp(t);
  await append(5);
  publisher.start();
  await append(30);
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, upTo(35));
  assert.equal(new Set(stream.stored.map(({ id }) => id)).size, stream.stored.length);
  const stats = { state: 'sending', reason: '', publishedSeq: 35, unsentRecords: 0, oldestUnsentMs: 0 };
  assert.deepEqual(publisher.stats, stats);
});

test('lost messages, lost answers and a full stream: in the end every frame once, in order', async (t) => {
  const stream = new FakeStream();
  stream.fault = (n) => (['lose', null, 'lose_answer', 'full', null, 'down'] as const)[n % 6]!;
  const { publisher, append } = await setUp(t, stream);
  publisher.start();
  for (let i = 0; i < 40 || stream.publishes < 12; i += 1) await append(1); // every fault twice
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, upTo(stream.seqs.length));
  assert.equal(publisher.stats.unsentRecords, 0);
});

test('frames that wait go together, up to the size of a message; it is named for the last of them', async (t) => {
  const { outbox, publisher, stream, append } = await setUp(t);
  await append(300);
  publisher.start();
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, upTo(300));
  const sizes = stream.stored.map(({ bytes }) => bytes.length);
  assert.ok(sizes.length > 1 && sizes.every((size) => size <= AUDIT_FRAME_BYTES_MAX), `${sizes}`);
  const frameBytes = recordsOf(stream.stored[0]!.bytes)[0]!.length;
  assert.ok(
    sizes.slice(0, -1).every((size) => size > AUDIT_FRAME_BYTES_MAX - 2 * frameBytes),
    `full but the last: ${sizes}`,
  );
  for (const { id, bytes } of stream.stored) {
    const last = placeOf(recordsOf(bytes).at(-1)!); // every frame of this outbox has one record
    assert.equal(id, `${outbox.producer}/${last.epoch}/${last.seq}`);
  }
});

test('while the stream is away it waits and says since when; then it catches up', async (t) => {
  const { publisher, stream, append } = await setUp(t);
  stream.down = true;
  await append(3);
  publisher.start();
  await until(() => publisher.stats.state === 'waiting', 'the first failed attempt');
  assert.match(publisher.stats.reason, /not connected/);
  assert.equal(publisher.stats.unsentRecords, 3);
  const first = publisher.stats.oldestUnsentMs;
  await until(() => publisher.stats.oldestUnsentMs >= first + 20, 'the age to grow');
  assert.deepEqual(stream.seqs, []);
  stream.down = false;
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, [1, 2, 3]);
});

test('a stream that lost its tail, or everything, is sent it again from the outbox', async (t) => {
  const { publisher, stream, append } = await setUp(t);
  publisher.start();
  await append(10);
  await flushed(publisher);
  stream.stored.pop();
  await append(1);
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, upTo(11));
  stream.stored = [];
  stream.nextSeq = 1;
  await append(1);
  assert.ok(await flushed(publisher));
  assert.deepEqual(stream.seqs, upTo(12));
});

test('a restart goes on after what the stream has; what was released is not sent again', async (t) => {
  const { dir, outbox, publisher, stream, append } = await setUp(t);
  publisher.start();
  await append(20);
  await flushed(publisher);
  await publisher.close();
  await append(2);
  await outbox.release(15);
  assert.ok(outbox.firstPosition.segment > 1);
  await outbox.close();
  const again = await Outbox.open({ dir, service: 'gateway', segmentBytesMax: 2000 });
  const second = new Publisher({ outbox: again, stream, log, retryMinMs: 1 });
  second.start();
  await again.append(event);
  assert.ok(await flushed(second));
  assert.deepEqual(stream.seqs, upTo(23));
  await second.close();
  await again.close();
});

test('frames that this outbox did not write stop it with an alarm', async (t) => {
  for (const id of ['gateway-other/1/1', 'PRODUCER/1/99', 'PRODUCER/1/x']) {
    const stream = new FakeStream();
    const { outbox, publisher, append } = await setUp(t, stream);
    const frame = { id: id.replace('PRODUCER', outbox.producer), bytes: Buffer.from('{}'), sha256: '' };
    stream.stored.push({ ...frame, streamSeq: 1 });
    publisher.start();
    await append(1);
    while (publisher.stats.state !== 'stopped') await sleep(1);
    assert.match(publisher.stats.reason, /did not write; two writers share a producer, or the folder is an old copy/);
    assert.equal(stream.stored.length, 1);
    assert.equal(await flushed(publisher), false);
  }
});
