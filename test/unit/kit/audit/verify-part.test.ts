import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leafHash, MerkleFrontier, subtreesBetween } from '#kit/audit/merkle.ts';
import { placeOf } from '#kit/audit/record.ts';
import { type ChainHead, type LogPart, type VerifyOptions, verifyLog } from '#kit/audit/verify.ts';
import { chainsBefore, makeLog, noteAt, ORIGIN, signer, subtreeHashes } from './support/log.ts';

const OLDER = '; an export from before that checkpoint looks the same: compare their times, or export again';
const log = makeLog(21);

function partOf(first: number, end: number, treeSize: number): LogPart {
  const hash = subtreeHashes(log.slice(0, treeSize));
  const hashes = (from: number, to: number): Buffer[] => subtreesBetween(from, to).map(hash);
  return { first, end, treeSize, before: hashes(0, first), after: hashes(end, treeSize) };
}

function verifyPart(first: number, end: number, over: Partial<VerifyOptions> = {}) {
  return verifyLog({
    records: log.slice(first, end),
    part: partOf(first, end, 21),
    heads: chainsBefore(log, first),
    origin: ORIGIN,
    verifiers: [signer],
    checkpoints: [noteAt(log, 21)],
    ...over,
  });
}

test('the subtrees of a range cover it once, in order, and those of a prefix are a frontier', () => {
  for (let begin = 0; begin <= 21; begin += 1) {
    for (let end = begin; end <= 21; end += 1) {
      let at = begin;
      for (const { level, index } of subtreesBetween(begin, end)) {
        assert.equal(index * 2 ** level, at);
        at += 2 ** level;
      }
      assert.equal(at, end);
    }
  }
  const [hash, frontier] = [subtreeHashes(log), new MerkleFrontier()];
  for (const one of subtreesBetween(0, 21)) frontier.appendSubtree(one.level, hash(one));
  const leaves = new MerkleFrontier();
  for (const bytes of log) leaves.append(leafHash(bytes));
  assert.deepEqual([frontier.size, frontier.root()], [21, leaves.root()]);
});

test('every part of a log verifies against the checkpoint of the whole', async () => {
  for (let first = 0; first <= 21; first += 1) {
    for (let end = first; end <= 21; end += 1) {
      const { verdict, records, covered } = await verifyPart(first, end);
      assert.deepEqual([verdict, records, covered], ['ok', end - first, end - first], `${first}..${end}`);
    }
  }
});

test('any changed, missing, added or exchanged record of a part is found', async () => {
  const [first, end] = [5, 17];
  for (let at = first; at < end; at += 1) {
    const changed = log.slice(first, end);
    changed[at - first] = Buffer.from(log[at]!.toString().replace('"tenant":"t"', '"tenant":"x"'));
    const { verdict, index } = await verifyPart(first, end, { records: changed });
    const named = verdict === 'altered' ? index === at : verdict === 'rechained';
    assert.ok(named, `changed ${at}: ${verdict} ${index}`);
    const missing = log.slice(first, end).filter((_, i) => i !== at - first);
    const without = await verifyPart(first, end, { records: missing });
    assert.ok(['missing', 'truncated'].includes(without.verdict), `missing ${at}: ${without.verdict}`);
  }
  const added = [...log.slice(first, end), log[end]!];
  assert.deepEqual((await verifyPart(first, end, { records: added })).verdict, 'altered');
  const exchanged = log.slice(first, end);
  [exchanged[0], exchanged[1]] = [exchanged[1]!, exchanged[0]!];
  assert.notEqual((await verifyPart(first, end, { records: exchanged })).verdict, 'ok');
});

test('hashes around a part that were changed are found, and so is a part that does not fit', async () => {
  const part = partOf(5, 17, 21);
  for (const name of ['before', 'after'] as const) {
    for (const [i] of part[name].entries()) {
      const hashes = [...part[name]];
      hashes[i] = Buffer.alloc(32);
      assert.notEqual((await verifyPart(5, 17, { part: { ...part, [name]: hashes } })).verdict, 'ok', `${name} ${i}`);
    }
    for (const length of [0, 31, 64]) {
      const odd = [Buffer.alloc(length), ...part[name].slice(1)];
      assert.equal((await verifyPart(5, 17, { part: { ...part, [name]: odd } })).verdict, 'altered', `${length} bytes`);
    }
    const short = { ...part, [name]: part[name].slice(1) };
    const { verdict, message } = await verifyPart(5, 17, { part: short });
    assert.deepEqual(
      [verdict, message],
      ['altered', 'what the log says of its place in the tree does not fit together: it was changed'],
    );
  }
});

test('every record of a part is covered, or the first that is not is named', async () => {
  for (let size = 5; size <= 17; size += 1) {
    const { verdict, index, records, covered } = await verifyPart(5, 17, { checkpoints: [noteAt(log, size)] });
    const expected = size < 17 ? ['bad_signature', size] : ['ok', null];
    assert.deepEqual([verdict, index, records, covered], [...expected, 12, size - 5], `signed up to ${size}`);
  }
  assert.deepEqual((await verifyPart(5, 17, { checkpoints: [] })).index, 5);
});

test('a trusted checkpoint inside or at the end of a part counts; one before it cannot be compared', async () => {
  assert.equal((await verifyPart(5, 17, { trusted: noteAt(log, 9) })).verdict, 'ok');
  assert.equal((await verifyPart(5, 17, { trusted: noteAt(log, 5) })).verdict, 'ok');
  for (const size of [4, 19]) {
    await assert.rejects(verifyPart(5, 17, { trusted: noteAt(log, size) }), {
      code: 'FAILED_PRECONDITION',
      message: new RegExp(`the checkpoint of ${size} records lies outside of this part of the log`),
    });
  }
  const longer = makeLog(30);
  const { verdict, message } = await verifyPart(5, 17, { trusted: noteAt(longer, 30) });
  assert.deepEqual([verdict, message], ['truncated', `the log ends after 21 records, but 30 were signed${OLDER}`]);
});

test('aged records are known by their leaf hashes, against every checkpoint', async () => {
  const checkpoints = [noteAt(log, 4), noteAt(log, 15), noteAt(log, 21)];
  const aged = log.slice(0, 9).map(leafHash);
  const heads: ReadonlyMap<string, ChainHead> = chainsBefore(log, 9);
  const options = { records: log.slice(9), aged, heads, origin: ORIGIN, verifiers: [signer], checkpoints };
  assert.deepEqual(await verifyLog(options), {
    verdict: 'ok',
    index: null,
    message: '21 records, 21 of them signed',
    records: 21,
    covered: 21,
  });
  const forged = aged.with(2, leafHash(Buffer.from('another')));
  assert.deepEqual((await verifyLog({ ...options, aged: forged })).verdict, 'rechained');
  assert.equal(placeOf(log[9]!).producer.length, 1);
});
