// After an fdatasync that failed a start reads from memory what the disk does not have. What it takes for stored must outlast the power.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { newSigningKey, signerOf } from '#kit/audit/checkpoint.ts';
import { sizeOf } from '#kit/audit/checkpoint-file.ts';
import { leafHash } from '#kit/audit/merkle.ts';
import { createLog } from '#kit/log.ts';
import { CheckpointWriter } from '../../../services/audit/checkpoints.ts';
import { Ledger, type LedgerOptions } from '../../../services/audit/ledger.ts';
import { lossyDisk } from '../kit/audit/support/lossy-disk.ts';

const record = (i: number): Buffer => Buffer.from(`{"n":${i}}${'x'.repeat(40)}`);
const records = (from: number, to: number): Buffer[] => Array.from({ length: to - from }, (_, i) => record(from + i));
const leaves = (from: number, to: number): Buffer => Buffer.concat(records(from, to).map(leafHash));
const SEGMENT = 'records/0000000000000000.qal';
const LEAVES = 'tree/level-00.bin';

async function setUp(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const dir = await mkdtemp(join(root, 'ledger-'));
  const disk = await lossyDisk(t, dir);
  const open = (over: Partial<LedgerOptions> = {}) => Ledger.open({ dir, ...over });
  /** What a start finds when the power has failed. */
  const afterPower = async (size: number, over: Partial<LedgerOptions> = {}): Promise<void> => {
    const copy = await mkdtemp(join(root, 'power-'));
    await disk.powerFailure(copy);
    const ledger = await open({ dir: copy, ...over });
    const found: Buffer[] = [];
    for await (const { bytes } of ledger.read(0)) found.push(bytes);
    const asides = [...ledger.asides];
    await ledger.close();
    assert.deepEqual([found, asides], [records(0, size), []]);
  };
  return { root, dir, disk, open, afterPower };
}

/** Three records are safe; three more were written, and their sync failed. `at`: where those begin. */
async function failedSync(t: TestContext, fails: RegExp) {
  const all = await setUp(t);
  const ledger = await all.open();
  await ledger.append(records(0, 3));
  const at = (await readFile(join(all.dir, SEGMENT))).length;
  all.disk.fails = fails;
  await assert.rejects(ledger.append(records(3, 6)), /EIO/);
  await ledger.close();
  all.disk.fails = null;
  all.disk.steps.length = 0;
  const whole = await readFile(join(all.dir, SEGMENT));
  return { ...all, at, whole };
}

test('records whose sync failed are written again where they are, and synced, before a start takes them for stored', async (t) => {
  const { disk, open, afterPower, at, whole } = await failedSync(t, /\.qal$/);
  const ledger = await open();
  assert.equal(ledger.size, 6);
  const name = SEGMENT;
  assert.deepEqual(
    disk.steps.filter(({ path }) => path.startsWith('records')),
    [
      { step: 'write', path: name, at, bytes: whole.subarray(at) },
      { step: 'sync', path: name },
      { step: 'sync', path: 'records' },
    ],
    'what has its hash is not written again',
  );
  const synced = disk.steps.findIndex(({ step, path }) => step === 'sync' && path === 'records');
  const hashed = disk.steps.findIndex(({ path }) => path.startsWith('tree'));
  assert.ok(synced < hashed, 'a hash says that its record is on the disk');
  await afterPower(6);
  await ledger.append(records(6, 8));
  await ledger.close();
  await afterPower(8);
});

test('a new segment whose name was not synced has its name after the next start', async (t) => {
  const { disk, open, afterPower } = await setUp(t);
  const ledger = await open();
  disk.fails = /records$/;
  await assert.rejects(ledger.append(records(0, 3)), /EIO/);
  await ledger.close();
  disk.fails = null;
  const again = await open();
  await again.append(records(again.size, 5));
  await again.close();
  await afterPower(5);
});

test('hashes whose sync failed are written again: a checkpoint over them is true after a power failure', async (t) => {
  const { disk, open, afterPower, at, whole, dir } = await failedSync(t, /level-00/);
  const ledger = await open({ signedRecords: 2 });
  assert.deepEqual([ledger.size, whole.length > at], [6, true]);
  assert.deepEqual(
    disk.steps.filter(({ step, path }) => step === 'write' && path !== 'tree/level-01.bin'),
    [{ step: 'write', path: LEAVES, at: 2 * 32, bytes: leaves(2, 6) }],
    'signed hashes are safe, and so are records with a hash',
  );
  assert.deepEqual(disk.steps.slice(-2), [
    { step: 'sync', path: LEAVES },
    { step: 'sync', path: 'tree' },
  ]);
  await ledger.close();
  assert.deepEqual(await readFile(join(dir, LEAVES)), leaves(0, 6));
  await afterPower(6, { signedRecords: 6 });
});

test('a start whose own sync fails does not open, and loses nothing; the next one may', async (t) => {
  for (const [first, second, said] of [
    [/\.qal$/, /\.qal$/, /0\.qal: bytes \d+ to \d+ could not be written to the disk again \(EIO: made by the test\)/],
    [/\.qal$/, /records$/, /0\.qal: bytes \d+ to \d+ could not be written to the disk again/],
    [/level-00/, /level-00/, /tree: hashes from record 2 on could not be written to the disk again \(EIO/],
  ] as const) {
    const { dir, disk, open, afterPower, whole } = await failedSync(t, first);
    const hashes = await readFile(join(dir, LEAVES));
    disk.fails = second;
    for (let i = 0; i < 2; i += 1) {
      const refused = { code: 'UNAVAILABLE', message: said, details: { reason: 'DISK_FAILED' } };
      await assert.rejects(open({ signedRecords: 2 }), refused);
      assert.deepEqual(await readFile(join(dir, SEGMENT)), whole);
      assert.deepEqual(await readFile(join(dir, LEAVES)), hashes, 'no hash of a record that may not be on the disk');
    }
    disk.fails = null;
    const ledger = await open({ signedRecords: 2 });
    assert.equal(ledger.size, 6);
    await ledger.close();
    await afterPower(6, { signedRecords: 6 });
  }
});

test('a torn write behind records whose sync failed is cut, and they are kept', async (t) => {
  const { dir, disk, open, afterPower, at, whole } = await failedSync(t, /\.qal$/);
  await writeFile(join(dir, SEGMENT), Buffer.concat([whole, whole.subarray(at, at + 20)]));
  disk.fails = /\.qal$/;
  await assert.rejects(open(), { details: { reason: 'DISK_FAILED' } });
  assert.equal(
    (await readFile(join(dir, SEGMENT))).length,
    whole.length + 20,
    'nothing is cut before what counts is safe',
  );
  disk.fails = null;
  disk.steps.length = 0;
  const ledger = await open();
  assert.equal(ledger.size, 6);
  await ledger.close();
  const [again] = disk.steps;
  assert.deepEqual(again, { step: 'write', path: SEGMENT, at, bytes: whole.subarray(at) });
  assert.deepEqual(await readFile(join(dir, SEGMENT)), whole);
  await afterPower(6);
});

test('a start writes nothing of records again that are safe, and nothing of older segments ever', async (t) => {
  const { dir, disk, open } = await setUp(t);
  const ledger = await open({ segmentBytesMax: 300 });
  for (let i = 0; i < 12; i += 2) await ledger.append(records(i, i + 2));
  await ledger.close();
  const names = (await readdir(join(dir, 'records'))).filter((name) => name.endsWith('.qal')).sort();
  assert.ok(names.length > 2);
  const written = async (): Promise<string[]> => {
    disk.steps.length = 0;
    await (await open()).close();
    return disk.steps.filter(({ path }) => path.startsWith('records')).map(({ step, path }) => `${step} ${path}`);
  };
  assert.deepEqual(await written(), []);
  await truncate(join(dir, LEAVES), 0); // nothing vouches any more
  const newest = `records/${names.at(-1)}`;
  assert.deepEqual(await written(), [`write ${newest}`, `sync ${newest}`, 'sync records']);
});

test('hashes that are zeros are made again in older segments too, as long as they are not signed', async (t) => {
  const { dir, open } = await setUp(t);
  const ledger = await open({ segmentBytesMax: 300 });
  for (let i = 0; i < 12; i += 2) await ledger.append(records(i, i + 2));
  await ledger.close();
  const zeros = Buffer.concat([leaves(0, 1), Buffer.alloc(11 * 32)]);
  await writeFile(join(dir, LEAVES), zeros);
  const again = await open({ signedRecords: 1 });
  await again.close();
  assert.deepEqual(await readFile(join(dir, LEAVES)), leaves(0, 12));
});

test('the newest checkpoint is on the disk when a start goes by it', async (t) => {
  const { root } = await setUp(t);
  const dir = await mkdtemp(join(root, 'log-'));
  const disk = await lossyDisk(t, dir);
  const ledger = await Ledger.open({ dir: join(dir, 'ledger') });
  t.after(() => ledger.close());
  const path = join(dir, 'checkpoints.jsonl');
  const signer = signerOf('quern.test/audit', newSigningKey());
  const log = createLog({ service: 't', level: 'silent' });
  const open = () => CheckpointWriter.open({ tree: ledger, signer, path, witnesses: [], log });
  const writer = await open();
  await ledger.append(records(0, 3));
  await writer.sign({ now: true });
  const kept = await readFile(path, 'utf8');
  await rm(path);
  await writeFile(path, `${kept}{"ts"`); // written by a process that ended before the disk had it
  disk.fails = /checkpoints/;
  await assert.rejects(open(), { code: 'UNAVAILABLE', message: /checkpoints\.jsonl: bytes 0 to \d+ could not/ });
  disk.fails = null;
  await open();
  assert.equal(await readFile(path, 'utf8'), kept);
  const copy = await mkdtemp(join(root, 'power-'));
  await disk.powerFailure(copy);
  assert.equal(await readFile(join(copy, 'checkpoints.jsonl'), 'utf8'), kept);
  const changed = kept + 'x'.repeat(5 << 20);
  await writeFile(path, changed);
  const message = /expected a checkpoint at its end, found \d+ bytes without one: the file has been changed/;
  await assert.rejects(open(), { code: 'DATA_LOSS', message });
  assert.equal(await readFile(path, 'utf8'), changed, 'nothing is cut');
});

test('a head whose hashes the disk may lack is not signed, and what was stored before it is', async (t) => {
  const { root, dir, disk, open } = await setUp(t);
  const ledger = await open();
  t.after(() => ledger.close());
  await ledger.append(records(0, 3));
  const options = { signer: signerOf('quern.test/audit', newSigningKey()), path: join(root, 'checkpoints.jsonl') };
  const log = createLog({ service: 't', level: 'silent' });
  const writer = await CheckpointWriter.open({ tree: ledger, ...options, witnesses: [], log });
  disk.fails = /level-00/;
  const failed = assert.rejects(ledger.append(records(3, 6)), /EIO/);
  while (ledger.size === 3) await setImmediate();
  assert.equal(ledger.stored.size, 3, 'while the disk is asked');
  await failed;
  assert.deepEqual([ledger.size, ledger.stored.size], [6, 3]);
  await writer.sign({ now: true });
  assert.equal(sizeOf(writer.latest!.note), 3);
  assert.equal(await writer.sign({ now: true }), false);
  disk.fails = null;
  const again = await open({ dir, signedRecords: 3 });
  assert.deepEqual([again.size, again.stored], [6, { size: 6, root: again.root() }]);
  await again.close();
});
