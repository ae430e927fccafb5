// The folder of a log, verified as it lies there: what was done to it and where it begins.
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { newSigningKey, signerOf } from '#kit/audit/checkpoint.ts';
import { originOf, verifyLedgerFolder } from '#kit/audit/ledger-folder.ts';
import { encodeLedgerFrame, scanLedger } from '#kit/audit/ledger-frame.ts';
import { createLog } from '#kit/log.ts';
import { CheckpointWriter } from '../../../../services/audit/checkpoints.ts';
import { Ledger } from '../../../../services/audit/ledger.ts';
import { chainsBefore, makeLog, noteAt, ORIGIN, signer } from './support/log.ts';

const log = createLog({ service: 't', level: 'silent' });
const SIGNED = 55;
const records = makeLog(60);

type Folder = {
  dir: string;
  segments: string[];
  /** Writes a segment anew, its frames whole, with other records. */
  rewrite(segment: number, change: (records: Buffer[]) => Buffer[]): Promise<void>;
  verdict(trusted?: string): Promise<[string, number | null]>;
};

/** 60 records, five to a frame, in segments of a few frames; the first 55 are signed, the first `aged` have gone. */
async function setUp(t: TestContext, aged = 0): Promise<Folder> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const ledger = await Ledger.open({ dir: join(dir, 'ledger'), segmentBytesMax: 4_000 });
  const path = join(dir, 'checkpoints.jsonl');
  const checkpoints = await CheckpointWriter.open({ tree: ledger, signer, path, witnesses: [], log });
  for (let i = 0; i < records.length; i += 5) {
    await ledger.append(records.slice(i, i + 5));
    if (i + 5 <= SIGNED) await checkpoints.sign({ now: true });
  }
  const start = ledger.segmentStarts.findLast((first) => first <= aged) ?? 0;
  if (aged > 0) assert.ok((await ledger.dropBefore(aged, chainsBefore(records, start))) > 0);
  await checkpoints.close();
  await ledger.close();
  const folder = join(dir, 'ledger', 'records');
  const segments = (await readdir(folder))
    .filter((name) => name.endsWith('.qal'))
    .sort()
    .map((name) => join(folder, name));
  assert.equal(segments.length, aged > 0 ? 4 : 6);
  return {
    dir,
    segments,
    async rewrite(segment, change) {
      const { frames } = scanLedger(await readFile(segments[segment]!));
      const all = change(frames.flatMap(({ records: some }) => some));
      await writeFile(segments[segment]!, encodeLedgerFrame({ firstIndex: frames[0]!.firstIndex, records: all }));
    },
    async verdict(trusted) {
      const { verdict, index, message } = await verifyLedgerFolder(dir, { verifier: signer, trusted });
      assert.ok(message.length > 0);
      return [verdict, index];
    },
  };
}

test('a folder as it was written is ok, with aged records, a torn last write and a trusted checkpoint too', async (t) => {
  for (const aged of [0, 25]) {
    const { dir, segments, verdict } = await setUp(t, aged);
    const { records: read, covered } = await verifyLedgerFolder(dir, { verifier: signer });
    assert.deepEqual([read, covered], [60, SIGNED]);
    assert.deepEqual(await verdict(noteAt(records, 30)), ['ok', null]);
    await appendFile(segments.at(-1)!, Buffer.from('QAL1 torn'));
    assert.deepEqual(await verdict(), ['ok', null]);
    assert.equal(await originOf(dir), ORIGIN);
  }
});

test('what was changed is named, with the first record concerned', async (t) => {
  const swap =
    (at: number) =>
    (all: Buffer[]): Buffer[] => {
      [all[at], all[at + 3]] = [all[at + 3]!, all[at]!];
      return all;
    };
  const other = (bytes: Buffer): Buffer => Buffer.from(bytes.toString().replace('"ada"', '"bob"'));
  const cases: [string, (folder: Folder) => Promise<unknown>, string, number | null][] = [
    [
      'a byte',
      async ({ segments }) => {
        const bytes = await readFile(segments[1]!);
        bytes[40]! ^= 1;
        await writeFile(segments[1]!, bytes);
      },
      'altered',
      10,
    ],
    [
      'a record',
      ({ rewrite }) => rewrite(1, (all) => all.map((one, i) => (i === 3 ? other(one) : one))),
      'altered',
      13,
    ],
    ['two places', ({ rewrite }) => rewrite(1, swap(1)), 'reordered', 11],
    ['a record taken out', ({ rewrite }) => rewrite(1, (all) => all.filter((_, i) => i !== 4)), 'missing', 16],
    ['a segment taken out', ({ segments }) => rm(segments[1]!), 'missing', 10],
    ['the end cut off', ({ segments }) => rm(segments.at(-1)!), 'truncated', 50],
    [
      'a record that is not signed yet',
      ({ rewrite }) => rewrite(5, (all) => [...all.slice(0, -1), other(all.at(-1)!)]),
      'altered',
      59,
    ],
    ['the unsigned end', ({ rewrite }) => rewrite(5, (all) => all.slice(0, 7)), 'truncated', 57],
  ];
  for (const [what, change, verdict, index] of cases) {
    const folder = await setUp(t);
    await change(folder);
    assert.deepEqual(await folder.verdict(), [verdict, index], what);
  }
});

test('a changed last record that nothing vouches for is altered, and a gap once its service has set it aside', async (t) => {
  const { dir, segments, verdict } = await setUp(t);
  const path = segments.at(-1)!;
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
  await truncate(join(dir, 'ledger', 'tree', 'level-00.bin'), 58 * 32);
  const before = await verdict();
  assert.equal(before[0], 'altered');
  const ledger = await Ledger.open({ dir: join(dir, 'ledger'), signedRecords: SIGNED });
  assert.equal(ledger.asides.length, 1);
  await ledger.close();
  assert.deepEqual(await verdict(), ['gap', before[1]]);
});

test('checkpoints that were changed, made by another key, or that are gone', async (t) => {
  const { dir, verdict } = await setUp(t);
  const path = join(dir, 'checkpoints.jsonl');
  const good = await readFile(path, 'utf8');
  await writeFile(path, good.replace('"note"', '"nite"'));
  assert.deepEqual(await verdict(), ['bad_signature', null]);
  await writeFile(path, good);
  const stranger = await verifyLedgerFolder(dir, { verifier: signerOf(ORIGIN, newSigningKey()) });
  assert.equal(stranger.verdict, 'bad_signature');
  await rm(path);
  assert.deepEqual(await verdict(), ['ok', null], 'nothing is signed, the hashes fit');
  assert.deepEqual(await verdict(noteAt(records, 40)), ['ok', null]);
  assert.deepEqual(await verdict(noteAt(makeLog(80), 70)), ['truncated', 60]);
});

test('leaf hashes of aged records that are missing; a folder that is none', async (t) => {
  const { dir, verdict } = await setUp(t, 25);
  await truncate(join(dir, 'ledger', 'tree', 'level-00.bin'), 7 * 32);
  assert.deepEqual(await verdict(), ['missing', 7]);
  await assert.rejects(verifyLedgerFolder(join(dir, 'ledger'), { verifier: signer }), {
    code: 'INVALID_ARGUMENT',
    message: /expected the folder of an audit log \(QUERN_AUDIT_DIR/,
  });
});
