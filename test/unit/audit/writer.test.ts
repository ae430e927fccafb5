import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type AuditRecord, NO_RECORD_SHA256, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import { createLog } from '#kit/log.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { LedgerWriter, type StreamMessage } from '../../../services/audit/writer.ts';

const log = createLog({ service: 't', level: 'silent' });

/** When the stream was made. */
const STREAM = 1_000;

/** A producer that writes a true chain. */
function producer(name: string) {
  let seq = 0;
  let prev = NO_RECORD_SHA256;
  const next = (over: Partial<AuditRecord> = {}): Buffer => {
    seq += 1;
    const bytes = recordBytes({
      v: 1,
      id: `${name}-${seq}${over.epoch ?? ''}`,
      ts: new Date(Date.UTC(2026, 0, 1) + seq).toISOString(),
      mono_ns: '1',
      producer: name,
      epoch: 1,
      seq,
      prev,
      tenant: 't',
      actor: { kind: 'user', ref: 'ada' },
      action: 'request.accepted',
      outcome: 'ok',
      ...over,
    });
    prev = sha256Hex(bytes);
    return bytes;
  };
  const skip = (count: number): void => {
    for (let i = 0; i < count; i += 1) next();
  };
  return { next, skip };
}

const message = (streamSeq: number, ...records: Buffer[]): StreamMessage => ({
  streamSeq,
  payload: Buffer.concat(records.flatMap((one, i) => (i === 0 ? [one] : [Buffer.from('\n'), one]))),
});

async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const open = async () => {
    const ledger = await Ledger.open({ dir });
    const projection = Projection.open(join(dir, 'view.sqlite'));
    const writer = await LedgerWriter.open(ledger, projection, log);
    return {
      ledger,
      projection,
      writer,
      async close() {
        projection.close();
        await ledger.close();
      },
    };
  };
  t.after(() => rm(dir, { recursive: true, force: true }));
  return { dir, open };
}

test('messages that come again, in any batch and after a restart, are stored once', async (t) => {
  const { open } = await setUp(t);
  const a = producer('a');
  const first = message(1, a.next(), a.next());
  const second = message(2, a.next());
  const one = await open();
  assert.deepEqual(await one.writer.write(STREAM, [first, first]), { records: 2, duplicates: 0, alarms: [] });
  assert.deepEqual(await one.writer.write(STREAM, [first, second]), { records: 1, duplicates: 0, alarms: [] });
  await one.close();
  const two = await open();
  assert.deepEqual(await two.writer.write(STREAM, [first, second]), { records: 0, duplicates: 0, alarms: [] });
  assert.deepEqual(await two.writer.write(STREAM, [message(3, a.next())]), { records: 1, duplicates: 0, alarms: [] });
  assert.equal(two.ledger.size, 4);
  assert.deepEqual([two.writer.lastSeq(STREAM), two.writer.lastSeq(STREAM + 1)], [3, null]);
  await two.close();
});

test('a stream that has lost its end gives numbers again: what is new under them is stored, what is known is not', async (t) => {
  const { open } = await setUp(t);
  const a = producer('a');
  const { writer, ledger, close } = await open();
  const first = a.next();
  const lost = [a.next(), a.next()];
  await writer.write(STREAM, [message(1, first), message(2, lost[0]!), message(3, lost[1]!)]);
  const later = a.next();
  // The producer sends the lost ones again, in one message with a new one, and then goes on.
  const again = [message(2, ...lost, later), message(3, a.next()), message(4, a.next())];
  assert.equal((await writer.write(STREAM, again)).records, 3);
  assert.deepEqual([ledger.size, writer.lastSeq(STREAM)], [6, 4]);
  // Under a number of its own what is known counts as sent again.
  assert.deepEqual(await writer.write(STREAM, [message(5, later)]), { records: 0, duplicates: 1, alarms: [] });
  await close();
});

test('a view that is behind the ledger, or lost, is brought up to it at the start', async (t) => {
  const { dir, open } = await setUp(t);
  const a = producer('a');
  const one = await open();
  await one.writer.write(STREAM, [message(1, a.next(), a.next())]);
  const digest = one.projection.digest();
  const last = a.next();
  await one.ledger.append([last]); // as after a crash between ledger and view
  await one.close();
  const two = await open();
  assert.equal(two.projection.nextIndex, 3);
  assert.deepEqual(await two.writer.write(STREAM, [message(2, last)]), { records: 0, duplicates: 1, alarms: [] });
  const full = two.projection.digest();
  assert.notEqual(full, digest);
  await two.close();
  await rm(join(dir, 'view.sqlite'));
  const three = await open();
  assert.equal(three.projection.digest(), full);
  await three.close();
});

test('what is wrong is stored at its place and told: gap, fork, a second record in one place, unreadable bytes', async (t) => {
  const { open } = await setUp(t);
  const { writer, ledger, close } = await open();
  t.after(close);
  const a = producer('a');
  await writer.write(STREAM, [message(1, a.next())]);
  a.skip(2);
  const gap = await writer.write(STREAM, [message(2, a.next())]);
  assert.deepEqual(gap, {
    records: 1,
    duplicates: 0,
    alarms: [{ kind: 'gap', producer: 'a', expectedSeq: 2, seq: 4 }],
  });
  const forked = await writer.write(STREAM, [message(3, a.next({ prev: 'f'.repeat(64) }))]);
  assert.deepEqual(forked.alarms, [{ kind: 'forked', producer: 'a', seq: 5, id: 'a-5' }]);
  const again = producer('a').next({ epoch: 9 });
  const second = await writer.write(STREAM, [message(4, again)]);
  assert.deepEqual(second, {
    records: 1,
    duplicates: 0,
    alarms: [{ kind: 'forked', producer: 'a', seq: 1, id: 'a-19' }],
  });
  assert.deepEqual((await writer.write(STREAM, [message(5, a.next())])).alarms, [], 'the chain goes on where it was');
  const odd = Buffer.from('{"not": "a record"}');
  const unreadable = await writer.write(STREAM, [message(6, odd)]);
  assert.deepEqual(unreadable, { records: 1, duplicates: 0, alarms: [{ kind: 'unreadable', sha256: sha256Hex(odd) }] });
  assert.deepEqual(await writer.write(STREAM, [message(6, odd)]), { records: 0, duplicates: 0, alarms: [] });
  assert.equal((await writer.write(STREAM + 1, [message(1, odd)])).records, 1, 'another stream');
  assert.equal(ledger.size, 7);
  const stored: string[] = [];
  for await (const { bytes } of ledger.read(5)) stored.push(bytes.toString());
  assert.deepEqual(stored, [odd.toString(), odd.toString()]);
});

test('producers do not disturb one another', async (t) => {
  const { open } = await setUp(t);
  const { writer, projection, close } = await open();
  t.after(close);
  const [a, b] = [producer('a'), producer('b')];
  const result = await writer.write(STREAM, [
    message(1, a.next(), b.next(), b.next(), a.next()),
    message(2, b.next(), a.next()),
  ]);
  assert.deepEqual(result, { records: 6, duplicates: 0, alarms: [] });
  assert.deepEqual([projection.chainHead('a')?.seq, projection.chainHead('b')?.seq], [3, 3]);
});

test('after a batch that could not be stored nothing more is taken: what was in it would pass for known', async (t) => {
  const { open } = await setUp(t);
  const a = producer('a');
  const one = await open();
  await one.writer.write(STREAM, [message(1, a.next())]);
  const batch = [message(2, a.next(), a.next())];
  await one.ledger.close(); // the disk has gone
  await assert.rejects(one.writer.write(STREAM, batch));
  await assert.rejects(one.writer.write(STREAM, batch), { code: 'UNAVAILABLE', message: /start the service again/ });
  assert.equal(one.writer.lastSeq(STREAM), 1, 'the stream keeps it');
  one.projection.close();
  const two = await open();
  t.after(two.close);
  await two.writer.write(STREAM, batch);
  assert.equal(two.ledger.size, 3);
});
