import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newSigningKey, signCheckpoint, signerOf } from '#kit/audit/checkpoint.ts';
import { leafHash, MerkleFrontier } from '#kit/audit/merkle.ts';
import { type AuditRecord, NO_RECORD_SHA256, recordBytes, sha256Hex } from '#kit/audit/record.ts';
import { type VerifyOptions, verifyLog } from '#kit/audit/verify.ts';

const signer = signerOf('quern.test/audit', newSigningKey());
const heads = new Map<string, { seq: number; sha256: string }>();

function record(producer: string, over: Partial<AuditRecord> = {}): Buffer {
  const head = heads.get(producer) ?? { seq: 0, sha256: NO_RECORD_SHA256 };
  const bytes = recordBytes({
    v: 1,
    id: `${producer}-${head.seq + 1}`,
    ts: '2026-01-01T00:00:00.000Z',
    mono_ns: '1',
    producer,
    epoch: 1,
    seq: head.seq + 1,
    prev: head.sha256,
    tenant: 't',
    actor: { kind: 'user', ref: 'ada' },
    action: 'request.accepted',
    outcome: 'ok',
    ...over,
  });
  heads.set(producer, { seq: head.seq + 1, sha256: sha256Hex(bytes) });
  return bytes;
}

function makeLog(count: number): Buffer[] {
  heads.clear();
  return Array.from({ length: count }, (_, i) => record(i % 3 === 2 ? 'b' : 'a'));
}

function noteAt(log: readonly Buffer[], size: number, by = signer): string {
  const frontier = new MerkleFrontier();
  for (const bytes of log.slice(0, size)) frontier.append(leafHash(bytes));
  return signCheckpoint({ origin: 'quern.test/audit', size, root: frontier.root() }, by);
}

const log = makeLog(30);
const checkpoints = [noteAt(log, 10), noteAt(log, 20), noteAt(log, 30)];
const verify = (records: readonly Buffer[], over: Partial<VerifyOptions> = {}) =>
  verifyLog({ records, origin: 'quern.test/audit', verifiers: [signer], checkpoints, ...over });

/** The same log with record `at` changed and every later record of its producer chained anew. */
function rechained(at: number): Buffer[] {
  heads.clear();
  return Array.from({ length: 30 }, (_, i) => record(i % 3 === 2 ? 'b' : 'a', i === at ? { tenant: 'changed' } : {}));
}

test('a log that is whole is ok, with and without a trusted checkpoint, in any order of checkpoints', async () => {
  for (const over of [{}, { trusted: checkpoints[1] }, { checkpoints: [...checkpoints].reverse() }]) {
    assert.deepEqual(await verify(log, over), {
      verdict: 'ok',
      index: null,
      message: '30 records, 30 of them signed',
      records: 30,
      covered: 30,
    });
  }
  assert.equal((await verify([], { checkpoints: [] })).verdict, 'ok');
  assert.equal((await verify(log, { checkpoints: checkpoints.slice(0, 2) })).covered, 20);
});

test('every single changed record is found, at its place or where its signed part begins', async () => {
  for (let at = 0; at < 30; at += 1) {
    const changed = [...log];
    changed[at] = Buffer.from(log[at]!.toString().replace('"tenant":"t"', '"tenant":"x"'));
    const { verdict, index } = await verify(changed);
    // The last record of a producer has none behind it that names it: only the root tells.
    const expected = at < 28 ? ['altered', at] : ['rechained', 20];
    assert.deepEqual([verdict, index], expected, `record ${at}`);
  }
});

test('every single missing record is found', async () => {
  for (let at = 0; at < 30; at += 1) {
    const { verdict } = await verify(log.filter((_, i) => i !== at));
    assert.equal(verdict, at < 28 ? 'missing' : 'truncated', `record ${at}`);
  }
});

test('two neighbours of one producer that changed places are found', async () => {
  const changed = [...log];
  [changed[3], changed[4]] = [log[4]!, log[3]!];
  const { verdict, index } = await verify(changed);
  assert.equal(verdict, 'reordered');
  assert.equal(index, 3);
});

test('a log cut at any place is found by a checkpoint that was kept elsewhere', async () => {
  for (let size = 0; size < 30; size += 1) {
    const own = checkpoints.filter((_, i) => (i + 1) * 10 <= size); // the cutter took the later checkpoints away too
    assert.equal((await verify(log.slice(0, size), { checkpoints: own })).verdict, 'ok', 'that is why');
    const { verdict, index } = await verify(log.slice(0, size), { checkpoints: own, trusted: checkpoints[2] });
    assert.deepEqual([verdict, index], ['truncated', size]);
  }
});

test('a log changed and chained anew from any place is found by the checkpoints', async () => {
  for (let at = 0; at < 30; at += 1) {
    const { verdict, index } = await verify(rechained(at));
    assert.deepEqual([verdict, index], ['rechained', Math.floor(at / 10) * 10], `from ${at}`);
  }
});

test('two signed checkpoints that contradict each other mean a fork', async () => {
  const other = noteAt(rechained(5), 20);
  const { verdict, message } = await verify(log, { trusted: other });
  assert.equal(verdict, 'forked');
  assert.match(message, /two checkpoints of 20 records are both signed and differ/);
});

test('with a trusted checkpoint only the keys that signed it count, whatever other keys are known', async () => {
  const stranger = signerOf('quern.test/audit', newSigningKey());
  const verifiers = [stranger, signer];
  const mixed = [checkpoints[0]!, noteAt(log, 30, stranger)];
  assert.equal((await verify(log, { verifiers, checkpoints: mixed })).verdict, 'ok', 'both are trusted then');
  const { verdict, message } = await verify(log, { verifiers, checkpoints: mixed, trusted: checkpoints[1] });
  assert.equal(verdict, 'bad_signature');
  assert.match(message, /^checkpoint 2 of 2 does not open with quern\.test\/audit\+[0-9a-f]{8}: /);
  assert.equal((await verify(log, { verifiers, trusted: checkpoints[1] })).verdict, 'ok');
  const unknown = signerOf('quern.test/audit', newSigningKey());
  const refused = await verify(log, { verifiers, checkpoints: mixed, trusted: noteAt(log, 30, unknown) });
  assert.match(refused.message, /^the trusted checkpoint does not open with one of 2 keys: /);
});

test('a checkpoint by another key is a bad signature, a record that never came a gap', async () => {
  const stranger = signerOf('quern.test/audit', newSigningKey());
  assert.equal((await verify(log, { trusted: noteAt(log, 30, stranger) })).verdict, 'bad_signature');
  const gap = log.filter((_, i) => i !== 4);
  const { verdict, index, message } = await verify(gap, { checkpoints: [noteAt(gap, 29)] });
  assert.deepEqual([verdict, index], ['gap', 5]);
  assert.equal(message, 'record 4 of a is not there');
});

test('bytes that were no record when they came are vouched for like all others', async () => {
  const odd = [...log.slice(0, 5), Buffer.from('junk'), ...log.slice(5)];
  assert.equal((await verify(odd, { checkpoints: [noteAt(odd, 31)] })).verdict, 'ok');
  assert.equal((await verify(log, { checkpoints: [noteAt(odd, 31)] })).verdict, 'truncated');
});

test('a log that is whole says how much of it is signed, in words that fit none, one and many', async () => {
  const says = async (size: number, own: string[]): Promise<string> =>
    (await verify(log.slice(0, size), { checkpoints: own })).message;
  assert.equal(await says(0, []), 'there are no records');
  const unsigned = 'nothing is signed yet: a running service signs within 10 s';
  assert.equal(await says(1, []), `1 record that is whole; ${unsigned}`);
  assert.equal(await says(3, []), `3 records that follow one another; ${unsigned}`);
  assert.equal(await says(1, [noteAt(log, 1)]), '1 record, and it is signed');
  assert.equal(await says(12, [checkpoints[0]!]), '12 records, 10 of them signed');
});
