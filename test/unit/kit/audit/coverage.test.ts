import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { GetCoverageResponse } from '../../../../services/gen/quern/audit/v1/audit.ts';
import { newSigningKey, signCheckpoint, signerOf, verifierKey } from '../../../../services/kit/audit/checkpoint.ts';
import {
  type AskCoverage,
  Coverage,
  checkCoverage,
  type SeenCheckpoint,
} from '../../../../services/kit/audit/coverage.ts';
import {
  consistencyProof,
  inclusionProof,
  leafHash,
  type NodeReader,
  nodeHash,
  rootOf,
} from '../../../../services/kit/audit/merkle.ts';
import { Outbox } from '../../../../services/kit/audit/outbox.ts';
import type { AuditEvent } from '../../../../services/kit/audit/record.ts';
import { openSegmentFiles } from '../../../../services/kit/audit/segment-files.ts';
import { createLog } from '../../../../services/kit/log.ts';

const ORIGIN = 'quern.test/audit';
const log = createLog({ service: 't', level: 'silent' });
const signer = signerOf(ORIGIN, newSigningKey());

const event = (target: string): AuditEvent => ({
  tenant: 't',
  actor: { kind: 'user', ref: 'p' },
  action: 'request.accepted',
  outcome: 'ok',
  target,
});

/** A log in memory: records of one producer among others. */
class FakeLog {
  readonly leaves: Buffer[] = [];
  readonly places = new Map<number, number>();
  signer = signer;

  add(bytes: Buffer, seq?: number): void {
    if (seq !== undefined) this.places.set(seq, this.leaves.length);
    this.leaves.push(leafHash(bytes));
  }

  async answer(oldTreeSize = 0, over: { size?: number; seq?: number } = {}): Promise<GetCoverageResponse> {
    const { size = this.leaves.length, seq = Math.max(0, ...this.places.keys()) } = over;
    const node: NodeReader = (level, index) => this.#node(level, index);
    const index = this.places.get(seq) ?? 0;
    return {
      checkpoint: signCheckpoint({ origin: this.signer.name, size, root: await rootOf(size, node) }, this.signer),
      verifierKey: verifierKey(this.signer),
      seq: BigInt(seq),
      index: BigInt(index),
      leaf: seq === 0 ? Buffer.alloc(0) : this.leaves[index]!,
      inclusion: seq === 0 ? [] : await inclusionProof(index, size, node),
      consistency: oldTreeSize <= size ? await consistencyProof(oldTreeSize, size, node) : [],
    };
  }

  #node(level: number, index: number): Buffer {
    if (level === 0) return this.leaves[index]!;
    return nodeHash(this.#node(level - 1, index * 2), this.#node(level - 1, index * 2 + 1));
  }
}

const records = (count: number, name = 'r'): Buffer[] =>
  Array.from({ length: count }, (_, i) => Buffer.from(`${name}${i + 1}`));

function ownRecords(own: readonly Buffer[]) {
  return { durableSeq: own.length, recordAt: async (seq: number) => own[seq - 1] ?? null };
}

function logOf(own: readonly Buffer[]): FakeLog {
  const made = new FakeLog();
  for (const [i, bytes] of own.entries()) {
    made.add(Buffer.from(`another producer's ${i}`));
    made.add(bytes, i + 1);
  }
  return made;
}

async function alarmOf(
  answer: GetCoverageResponse,
  own: readonly Buffer[],
  known: { pinned?: string; seen?: SeenCheckpoint | null } = {},
): Promise<string> {
  const { pinned = null, seen = null } = known;
  const verdict = await checkCoverage(answer, { pinned, seen, own: ownRecords(own) });
  return verdict.ok ? `ok ${verdict.coveredSeq}` : verdict.alarm;
}

test('a record under a signed checkpoint is covered; so is what comes later, from the checkpoint that was kept', async () => {
  const own = records(5);
  const theLog = logOf(own);
  const first = await checkCoverage(await theLog.answer(0, { size: 6, seq: 3 }), {
    pinned: null,
    seen: null,
    own: ownRecords(own),
  });
  assert.ok(first.ok && first.seen);
  assert.deepEqual([first.coveredSeq, first.size, first.seen.verifierKey], [3, 6, verifierKey(signer)]);
  assert.equal(await alarmOf(await theLog.answer(6), own, { seen: first.seen }), 'ok 5');
  // The same checkpoint again needs no proof.
  assert.equal(await alarmOf(await theLog.answer(0, { size: 6, seq: 3 }), own, { seen: first.seen }), 'ok 3');
  // No record of ours is there yet, or it was let go here already.
  assert.equal(await alarmOf(await theLog.answer(6, { seq: 0 }), own, { seen: first.seen }), 'ok 0');
  const gone = { durableSeq: 5, recordAt: async () => null };
  const verdict = await checkCoverage(await theLog.answer(6), { pinned: null, seen: first.seen, own: gone });
  assert.ok(verdict.ok && verdict.coveredSeq === 0);
  // Nothing was signed yet.
  assert.equal(await alarmOf({ ...(await theLog.answer()), checkpoint: '' }, own), 'ok 0');
});

test('a forged note, a wrong key, a fork and a log that shrank are told apart and cover nothing', async () => {
  const own = records(5);
  const theLog = logOf(own);
  const honest = await theLog.answer();
  const seen = { verifierKey: verifierKey(signer), note: honest.checkpoint };
  // Forged: another size under the old signature.
  const forged = { ...honest, checkpoint: honest.checkpoint.replace('\n10\n', '\n11\n') };
  assert.notEqual(forged.checkpoint, honest.checkpoint);
  assert.equal(await alarmOf(forged, own), 'bad_signature');
  // Signed by another key: refused by a pin, and by the key of the checkpoint that is kept.
  const stranger = logOf(own);
  stranger.signer = signerOf(ORIGIN, newSigningKey());
  assert.equal(await alarmOf(await stranger.answer(), own, { pinned: verifierKey(signer) }), 'bad_signature');
  assert.equal(await alarmOf(await stranger.answer(10), own, { seen }), 'bad_signature');
  assert.equal(await alarmOf(await stranger.answer(), own), 'ok 5', 'the first key that is seen is trusted');
  // A new key that is pinned takes over, if the log is the same one.
  assert.equal(await alarmOf(await stranger.answer(10), own, { seen, pinned: verifierKey(stranger.signer) }), 'ok 5');
  const forkedStranger = logOf(records(5, 'x'));
  forkedStranger.signer = stranger.signer;
  assert.equal(
    await alarmOf(await forkedStranger.answer(10), own, { seen, pinned: verifierKey(stranger.signer) }),
    'forked',
  );
  // Rewritten: same size and longer.
  assert.equal(await alarmOf(await logOf(records(5, 'x')).answer(10), own, { seen }), 'forked');
  assert.equal(await alarmOf(await logOf(records(9, 'x')).answer(10), own, { seen }), 'forked');
  assert.equal(
    await alarmOf({ ...(await logOf(own).answer(10)), consistency: [leafHash(own[0]!)] }, own, { seen }),
    'forked',
  );
  // Cut, and emptied.
  assert.equal(await alarmOf(await logOf(own.slice(0, 3)).answer(10), own, { seen }), 'shrunk');
  assert.equal(await alarmOf({ ...honest, checkpoint: '' }, own, { seen }), 'shrunk');
});

test('a record that is not there as it was written is told', async () => {
  const own = records(5);
  const altered = [...own.slice(0, 4), Buffer.from('altered')];
  assert.equal(await alarmOf(await logOf(altered).answer(), own), 'not_included');
  const honest = await logOf(own).answer();
  assert.equal(await alarmOf({ ...honest, index: honest.index - 2n }, own), 'not_included');
  assert.equal(await alarmOf({ ...honest, index: 999n }, own), 'not_included');
  assert.equal(await alarmOf({ ...honest, inclusion: honest.inclusion.slice(1) }, own), 'not_included');
  assert.equal(await alarmOf({ ...honest, leaf: leafHash(Buffer.from('x')) }, own), 'not_included');
  // The log has what this outbox never wrote: two writers, or an old copy of the folder.
  assert.equal(await alarmOf(await logOf(records(6)).answer(), own), 'foreign');
});

/** An outbox of several segments, one record each frame, and a log of all of it. */
async function setUp(t: TestContext, count: number) {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  const outbox = await Outbox.open({ dir, service: 'gateway', segmentBytesMax: 1_200 });
  t.after(async () => {
    await outbox.close();
    await rm(dir, { recursive: true, force: true });
  });
  for (let i = 0; i < count; i += 1) await outbox.append(event(`${i}`));
  const theLog = new FakeLog();
  for (let seq = 1; seq <= count; seq += 1) theLog.add((await outbox.recordAt(seq))!, seq);
  const files = await openSegmentFiles(dir);
  const open = (ask: AskCoverage, more: Partial<Parameters<typeof Coverage.open>[0]> = {}) =>
    Coverage.open({ outbox, files, ask, pinned: null, log, ...more });
  const segments = async () => (await readdir(dir)).filter((name) => name.endsWith('.log')).length;
  return { dir, outbox, theLog, open, segments };
}

test('covered segments go, the rest stays; what was seen outlives a restart', async (t) => {
  const { dir, outbox, theLog, open, segments } = await setUp(t, 20);
  const all = await segments();
  assert.ok(all >= 5, `${all} segments`);
  const asked: bigint[] = [];
  const told: number[] = [];
  const coverage = await open(
    ({ producer, oldTreeSize }) => {
      assert.equal(producer, outbox.producer);
      asked.push(oldTreeSize);
      const size = asked.length === 1 ? 10 : 20;
      return theLog.answer(Number(oldTreeSize), { size, seq: size });
    },
    { beforeRelease: async (lastSeq) => void told.push(lastSeq) },
  );
  await coverage.look();
  const some = await segments();
  assert.ok(some < all && some > 1);
  assert.ok(outbox.firstSeq <= 11 && outbox.firstSeq > 1);
  assert.deepEqual(told, [outbox.firstSeq - 1]);
  assert.equal(await outbox.recordAt(outbox.firstSeq - 1), null);
  await coverage.look();
  assert.deepEqual(asked, [0n, 10n]);
  assert.equal(await segments(), 1, 'the newest stays');
  const { state, size, coveredSeq } = coverage.stats;
  assert.deepEqual([state, size, coveredSeq], ['ok', 20, 20]);
  await coverage.close();
  // Another process goes on from the checkpoint that was kept, and finds the fork.
  const forked = new FakeLog();
  for (let i = 0; i < 30; i += 1) forked.add(Buffer.from(`forged ${i}`));
  const again = await open(({ oldTreeSize }) => {
    assert.equal(oldTreeSize, 20n);
    return forked.answer(20, { seq: 0 });
  });
  assert.deepEqual(await again.look().then((verdict) => verdict.ok || verdict.alarm), 'forked');
  assert.deepEqual([again.stats.state, again.stats.alarms.get('forked')], ['alarm', 1]);
  const kept = JSON.parse(await readFile(join(dir, 'coverage.json'), 'utf8')) as { note: string };
  assert.match(kept.note, /\n20\n/);
  await again.close();
});

test('a wrong answer lets nothing go, whatever it claims to cover', async (t) => {
  const { theLog, open, segments } = await setUp(t, 20);
  const all = await segments();
  let answer: () => Promise<GetCoverageResponse> = () => theLog.answer(0, { size: 2, seq: 0 });
  const coverage = await open(() => answer());
  await coverage.look();
  const honest = await theLog.answer(2);
  answer = async () => ({ ...honest, checkpoint: honest.checkpoint.replace('\n20\n', '\n21\n') });
  await coverage.look();
  answer = async () => ({ ...honest, inclusion: [] });
  await coverage.look();
  answer = async () => ({ ...honest, consistency: [] });
  await coverage.look();
  assert.equal(await segments(), all);
  assert.deepEqual([...coverage.stats.alarms.keys()], ['bad_signature', 'not_included', 'forked']);
  answer = () => theLog.answer(2);
  await coverage.look();
  assert.equal(coverage.stats.state, 'ok');
  assert.equal(await segments(), 1);
  await coverage.close();
});

test('without an answer it waits; a file of what was seen that is not readable is no reason to start anew', async (t) => {
  const { dir, open } = await setUp(t, 1);
  const coverage = await open(() => Promise.reject(new Error('away')), { everyMs: 5 });
  coverage.start();
  assert.equal(coverage.stats.state, 'waiting');
  while (coverage.stats.state === 'waiting') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([coverage.stats.state, coverage.stats.size], ['unreachable', 0]);
  await coverage.close();
  await writeFile(join(dir, 'coverage.json'), '{}\n');
  await assert.rejects(
    open(() => Promise.reject(new Error('away'))),
    { code: 'DATA_LOSS' },
  );
  await assert.rejects(
    open(() => Promise.reject(new Error('away')), { pinned: 'none' }),
    { code: 'INVALID_ARGUMENT' },
  );
});
