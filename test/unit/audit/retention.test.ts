// Records past their time go from the ledger and the view; what they prove does not.
import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { newSigningKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { inclusionProof, verifyInclusion } from '#kit/audit/merkle.ts';
import { type AuditRecord, NO_RECORD_SHA256, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import { verifyLog } from '#kit/audit/verify.ts';
import { createLog } from '#kit/log.ts';
import { Ledger } from '../../../services/audit/ledger.ts';
import { Projection } from '../../../services/audit/projection.ts';
import { ageOut } from '../../../services/audit/retention.ts';
import { LedgerWriter } from '../../../services/audit/writer.ts';

const log = createLog({ service: 't', level: 'silent' });
const ORIGIN = 'quern.test/audit';
const signer = signerOf(ORIGIN, newSigningKey());
const DAY_MS = 24 * 3_600_000;
const day = (n: number): Date => new Date(Date.UTC(2026, 0, 1) + n * DAY_MS);

/** What is before day `n` is old. */
const by = (n: number) => ({ before: day(n), now: day(n + 90) });

/** A producer that writes a true chain: a request per day, accepted and finished. */
function producer(name: string) {
  let [seq, prev] = [0, NO_RECORD_SHA256];
  const next = (over: Partial<AuditRecord>): Buffer => {
    seq += 1;
    const shared = {
      v: 1,
      id: `${name}-${seq}`,
      mono_ns: '1',
      producer: name,
      epoch: 1,
      seq,
      prev,
      tenant: 't',
    } as const;
    const actor = { kind: 'user', ref: 'ada' } as const;
    const bytes = recordBytes({ ...shared, ts: '', actor, action: 'request.accepted', outcome: 'ok', ...over });
    prev = sha256Hex(bytes);
    return bytes;
  };
  return (on: number): Buffer[] => {
    const request_id = `${name}-day-${on}`;
    const ts = day(on).toISOString();
    return [next({ ts, request_id }), next({ ts, request_id, action: 'request.finished', reason: 'STOP' })];
  };
}

/** A ledger with a segment per day, for days 0..9. */
async function setUp(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const open = async () => {
    const ledger = await Ledger.open({ dir, segmentBytesMax: 900 });
    const projection = Projection.open(join(dir, 'view.sqlite'));
    return { ledger, projection, writer: await LedgerWriter.open(ledger, projection, log) };
  };
  let now = await open();
  const close = async (): Promise<void> => {
    now.projection.close();
    await now.ledger.close();
  };
  t.after(async () => {
    await close();
    await rm(dir, { recursive: true, force: true });
  });
  const of = producer('a');
  const early = producer('early')(0);
  const written: Buffer[] = [];
  const write = async (records: Buffer[], seq: number) => {
    const payload = Buffer.concat(records.flatMap((one, i) => (i === 0 ? [one] : [Buffer.from('\n'), one])));
    written.push(...records);
    return now.writer.write(1, [{ streamSeq: seq, payload }]);
  };
  await write(early, 1);
  for (let n = 0; n < 10; n += 1) await write(of(n), n + 2);
  const checkpoint = (): string => {
    const { size } = now.ledger;
    return signCheckpoint({ origin: ORIGIN, size, root: now.ledger.root() }, signer);
  };
  const verify = (notes: string[]) => {
    const { ledger } = now;
    return verifyLog({
      records: (async function* () {
        for await (const { bytes } of ledger.read(ledger.firstIndex)) yield bytes;
      })(),
      aged: ledger.leaves(ledger.firstIndex),
      heads: ledger.agedHeads,
      origin: ORIGIN,
      verifiers: [signer],
      checkpoints: notes,
    });
  };
  return {
    dir,
    of,
    write,
    written,
    checkpoint,
    verify,
    now: () => now,
    async restart(options: { withoutView?: boolean } = {}) {
      await close();
      if (options.withoutView) {
        for (const name of await readdir(dir)) if (name.startsWith('view')) await rm(join(dir, name));
      }
      now = await open();
    },
  };
}

const requestsOf = (projection: Projection): string[] =>
  projection.requests({ tenant: 't', limit: 100 }).map(({ request_id }) => request_id);

test('old segments and their rows go, newer ones stay; proofs and verification work as before', async (t) => {
  const { now, checkpoint, verify, written, restart } = await setUp(t);
  const note = checkpoint();
  const { ledger, projection } = now();
  const { size } = ledger;
  assert.ok((await ageOut(ledger, projection, by(5))) > 0);
  const { firstIndex } = ledger;
  assert.ok(firstIndex > 5 && firstIndex <= 12, `${firstIndex}`);
  assert.equal(ledger.size, size);
  const left = requestsOf(projection);
  assert.ok(left.includes('a-day-9') && left.includes('a-day-5') && !left.includes('a-day-0'), left.join());
  assert.equal(projection.records({ tenant: 't', from: 0, limit: 100 })[0]?.idx, firstIndex);
  assert.equal((await verify([note])).message, '22 records, 22 of them signed');
  for (const index of [0, 3, firstIndex, 21]) {
    const leaf = await ledger.node(0, index);
    const proof = await inclusionProof(index, size, (level, at) => ledger.node(level, at));
    assert.ok(verifyInclusion({ leaf, index, size, root: ledger.root(), proof }));
  }
  await restart();
  assert.equal(now().ledger.firstIndex, firstIndex);
  assert.equal((await verify([note])).verdict, 'ok');
  assert.equal(written.length, 22);
});

test('nothing goes before its time, and never the newest segment', async (t) => {
  const { now } = await setUp(t);
  const { ledger, projection } = now();
  assert.equal(await ageOut(ledger, projection, by(-1)), 0);
  assert.equal(ledger.firstIndex, 0);
  await ageOut(ledger, projection, by(1_000));
  assert.equal(ledger.segmentStarts.length, 1);
  assert.ok(requestsOf(projection).includes('a-day-9'));
});

test('chains go on without an alarm after ageing, also with a view made anew', async (t) => {
  const { now, of, write, restart, checkpoint, verify } = await setUp(t);
  await ageOut(now().ledger, now().projection, by(5));
  for (const withoutView of [false, true]) {
    await restart({ withoutView });
    const { records, alarms } = await write(of(withoutView ? 11 : 10), withoutView ? 21 : 20);
    assert.deepEqual([records, alarms], [2, []]);
  }
  assert.equal(now().projection.chainHead('early')?.seq, 2, 'a producer of which nothing is left');
  assert.equal((await verify([checkpoint()])).verdict, 'ok');
});

test('aged records that come again, as from a new stream, are no news', async (t) => {
  const { now, written, restart } = await setUp(t);
  await ageOut(now().ledger, now().projection, by(5));
  for (const withoutView of [false, true]) {
    await restart({ withoutView });
    const again = written.map((payload, i) => ({ streamSeq: i + 1, payload }));
    const { records, duplicates, alarms } = await now().writer.write(withoutView ? 3 : 2, again);
    assert.deepEqual([records, duplicates, alarms], [0, 22, []]);
  }
});

test('a deletion that a crash interrupted is brought to its end at the next start', async (t) => {
  const { dir, now, restart, checkpoint, verify } = await setUp(t);
  const records = join(dir, 'records');
  const [oldest = ''] = (await readdir(records)).filter((name) => name.endsWith('.qal')).sort();
  await cp(join(records, oldest), join(dir, 'kept'));
  await ageOut(now().ledger, now().projection, by(5));
  const { firstIndex } = now().ledger;
  await cp(join(dir, 'kept'), join(records, oldest));
  await restart();
  assert.equal(now().ledger.firstIndex, firstIndex);
  assert.equal((await verify([checkpoint()])).verdict, 'ok');
});

test('a segment is closed after a day, however small', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const ledger = await Ledger.open({ dir, segmentAgeMs: 0 });
  t.after(() => ledger.close());
  for (let i = 0; i < 3; i += 1) await ledger.append([Buffer.from(`record ${i}`)]);
  assert.deepEqual(ledger.segmentStarts, [0, 1, 2]);
});
