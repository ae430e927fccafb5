import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { leafHash, MerkleFrontier } from '#kit/audit/merkle.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import { Ledger, type LedgerOptions } from '../../../services/audit/ledger.ts';

const record = (i: number): Buffer => Buffer.from(`{"n":${i}}${'x'.repeat(i % 50)}`);
const records = (from: number, to: number): Buffer[] => Array.from({ length: to - from }, (_, i) => record(from + i));

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function rootAt(size: number): Buffer {
  const frontier = new MerkleFrontier();
  for (let i = 0; i < size; i += 1) frontier.append(leafHash(record(i)));
  return frontier.root();
}

async function check(ledger: Ledger, size: number, from = 0): Promise<void> {
  assert.equal(ledger.size, size);
  assert.deepEqual(ledger.root(), rootAt(size));
  let index = from;
  for await (const entry of ledger.read(from)) {
    assert.equal(entry.index, index);
    assert.deepEqual(entry.bytes, record(index));
    index += 1;
  }
  assert.equal(index, size);
}

const segmentsOf = async (dir: string): Promise<string[]> =>
  (await readdir(join(dir, 'records'))).filter((name) => name.endsWith('.qal')).sort();
const open = (dir: string, over: Partial<LedgerOptions> = {}) => Ledger.open({ dir, segmentBytesMax: 500, ...over });

test('records come back as they were, in order, over segments and restarts', async (t) => {
  const dir = await folder(t);
  let size = 0;
  for (const count of [1, 7, 3, 20]) {
    const ledger = await open(dir);
    assert.equal(await ledger.append(records(size, size + count)), size);
    size += count;
    await check(ledger, size);
    await check(ledger, size, size - 1);
    await ledger.close();
  }
  assert.ok((await segmentsOf(dir)).length > 1);
});

test('bytes that are no record are kept as they are', async (t) => {
  const ledger = await open(await folder(t));
  t.after(() => ledger.close());
  const odd = [Buffer.alloc(0), Buffer.from([0, 10, 13, 255]), Buffer.from('QAL1QAL1')];
  await ledger.append(odd);
  const seen: Buffer[] = [];
  for await (const { bytes } of ledger.read(0)) seen.push(bytes);
  assert.deepEqual(seen, odd);
});

test('a last write torn at any byte is taken back whole, from the tree too', async (t) => {
  const dir = await folder(t);
  const ledger = await open(dir, { segmentBytesMax: 100_000 });
  await ledger.append(records(0, 3));
  const [name] = await segmentsOf(dir);
  const kept = (await readFile(join(dir, 'records', name!))).length;
  await ledger.append(records(3, 6));
  await ledger.close();
  const whole = (await readFile(join(dir, 'records', name!))).length;
  const copies = await folder(t);
  for (let length = kept; length < whole; length += 1) {
    const copy = join(copies, String(length));
    await cp(dir, copy, { recursive: true });
    await truncate(join(copy, 'records', name!), length);
    const again = await open(copy, { segmentBytesMax: 100_000 });
    await check(again, 3);
    await again.append(records(3, 4));
    await check(again, 4);
    await again.close();
  }
});

const asidesOf = async (dir: string): Promise<string[]> =>
  (await readdir(join(dir, 'records'))).filter((name) => name.endsWith('.aside.json'));

/** Six records in two frames, the second of which is `length` bytes from `at` on; and a copy whose tree has the first three only. */
async function twoFrames(t: TestContext) {
  const dir = await folder(t);
  const ledger = await open(dir, { segmentBytesMax: 100_000 });
  await ledger.append(records(0, 3));
  const [name] = await segmentsOf(dir);
  const path = join(dir, 'records', name!);
  const at = (await readFile(path)).length;
  await ledger.append(records(3, 6));
  await ledger.close();
  const whole = await readFile(path);
  const forget = () => truncate(join(dir, 'tree', 'level-00.bin'), 3 * 32);
  return { dir, path, at, whole, forget };
}

test('what a crash can leave of a last write is cut without a word: any length, any sector still zeros', async (t) => {
  const { dir, path, at, whole, forget } = await twoFrames(t);
  const torn = (length: number): Buffer => whole.subarray(0, length);
  const zeros = Buffer.concat([torn(at), Buffer.alloc(whole.length - at)]);
  for (const bytes of [...Array.from({ length: whole.length - at }, (_, i) => torn(at + i)), zeros]) {
    await writeFile(path, bytes);
    await forget();
    const again = await open(dir, { segmentBytesMax: 100_000 });
    await check(again, 3);
    assert.deepEqual([again.asides, await asidesOf(dir)], [[], []], `${bytes.length} bytes`);
    await again.close();
  }
});

test('a last frame with any byte changed is no torn write: it is set aside, and told of once', async (t) => {
  const { dir, path, at, whole, forget } = await twoFrames(t);
  for (let changed = at; changed < whole.length; changed += 1) {
    const bytes = Buffer.from(whole);
    bytes[changed]! ^= 1;
    await writeFile(path, bytes);
    await forget();
    const again = await open(dir, { segmentBytesMax: 100_000 });
    await check(again, 3);
    const [aside] = again.asides;
    assert.deepEqual([aside?.firstIndex, aside?.offset, aside?.told], [3, at, false], `byte ${changed}`);
    assert.deepEqual(Buffer.from(aside!.bytes, 'base64'), bytes.subarray(at));
    await again.tell(aside!);
    await again.close();
    const third = await open(dir);
    assert.deepEqual(
      third.asides.map(({ told }) => told),
      [true],
    );
    await third.close();
    for (const name of await asidesOf(dir)) await rm(join(dir, 'records', name));
  }
});

test('records whose hashes are there were safe: none of them is cut without a word, however their end looks', async (t) => {
  const { dir, path, at, whole } = await twoFrames(t);
  const leaves = await readFile(join(dir, 'tree', 'level-00.bin'));
  for (const length of [at, at + 1, at + 12, whole.length - 1]) {
    await writeFile(path, whole.subarray(0, length));
    await writeFile(join(dir, 'tree', 'level-00.bin'), leaves);
    const again = await open(dir, { segmentBytesMax: 100_000 });
    await check(again, 3);
    assert.deepEqual(
      again.asides.map(({ firstIndex, leaves: hashes }) => [firstIndex, hashes]),
      [[3, [3, 4, 5].map((i) => leafHash(record(i)).toString('hex'))]],
    );
    await again.close();
    for (const name of await asidesOf(dir)) await rm(join(dir, 'records', name));
  }
  await writeFile(path, whole.subarray(0, at));
  await writeFile(join(dir, 'tree', 'level-00.bin'), leaves);
  await assert.rejects(open(dir, { signedRecords: 4 }), { code: 'DATA_LOSS', message: /expected records up to 3/ });
  assert.deepEqual([(await readFile(path)).length, await asidesOf(dir)], [at, []], 'what is signed is not set aside');
});

test('hashes that a crash left as zeros are made again; of signed records they were there', async (t) => {
  const { dir } = await twoFrames(t);
  const path = join(dir, 'tree', 'level-00.bin');
  const leaves = await readFile(path);
  await writeFile(path, Buffer.concat([leaves.subarray(0, 4 * 32), Buffer.alloc(2 * 32)]));
  await assert.rejects(open(dir, { signedRecords: 6 }), /record 4: expected the one whose hash was stored/);
  const again = await open(dir, { signedRecords: 4, segmentBytesMax: 100_000 });
  await check(again, 6);
  await again.close();
});

test('a tree that is behind, or lost, is made again from the records', async (t) => {
  const dir = await folder(t);
  const ledger = await open(dir);
  for (let i = 0; i < 30; i += 3) await ledger.append(records(i, i + 3));
  await ledger.close();
  for (const damage of [
    () => truncate(join(dir, 'tree', 'level-00.bin'), 29 * 32),
    () => truncate(join(dir, 'tree', 'level-00.bin'), 4 * 32 + 5),
    () => rm(join(dir, 'tree'), { recursive: true }),
  ]) {
    await damage();
    const again = await open(dir);
    await check(again, 30);
    await again.close();
  }
});

test('a changed byte in the newest segment, a missing segment and a changed hash are alarms; nothing is touched', async (t) => {
  const dir = await folder(t);
  const ledger = await open(dir);
  for (let i = 0; i < 40; i += 2) await ledger.append(records(i, i + 2));
  await ledger.close();
  const names = await segmentsOf(dir);
  const last = join(dir, 'records', names.at(-1)!);
  const good = await readFile(last);
  const refuses = (message: RegExp) => assert.rejects(open(dir), { code: 'DATA_LOSS', message });
  const bad = Buffer.from(good);
  bad[20]! ^= 1;
  await writeFile(last, bad);
  await refuses(
    /qal at byte 0: expected a frame of records, found changed bytes. It is not opened, and left as it is; "quern audit verify /,
  );
  assert.deepEqual(await readFile(last), bad);
  await writeFile(last, good);
  const hashes = join(dir, 'tree', 'level-00.bin');
  const leaves = await readFile(hashes);
  await writeFile(hashes, Buffer.concat([leaves.subarray(0, 39 * 32), leafHash(record(7))]));
  await refuses(/record 39: expected the one whose hash was stored, found another/);
  await truncate(hashes, 0);
  await rm(join(dir, 'records', names[1]!));
  await refuses(/expected a segment that begins with record \d+/);
  await rm(join(dir, 'records', names[0]!));
  await refuses(/expected hashes of at least \d+ aged records, found 0/);
});

test('a failed disk ends the ledger until the next start, which takes what it can read', async (t) => {
  const dir = await folder(t);
  const files = await openSegmentFiles(join(dir, 'records'));
  const fault = { on: false };
  const ledger = await open(dir, {
    files: {
      ...files,
      async open(name) {
        const file = await files.open(name);
        const failing = async (): Promise<void> => {
          if (fault.on) throw Object.assign(new Error('injected'), { code: 'EIO' });
          await file.datasync();
        };
        return { ...file, datasync: failing };
      },
    },
  });
  await ledger.append(records(0, 2));
  fault.on = true;
  await assert.rejects(ledger.append(records(2, 3)), /injected/);
  fault.on = false;
  await assert.rejects(ledger.append(records(2, 3)), {
    code: 'UNAVAILABLE',
    message: /disk of the audit ledger failed/,
  });
  assert.equal(ledger.size, 2, 'a checkpoint never speaks of what failed');
  await ledger.close();
  const again = await open(dir);
  assert.ok(again.size >= 2);
  await check(again, again.size);
  await again.close();
});

test('aged segments go, their leaf hashes stay, and records before them say so', async (t) => {
  const dir = await folder(t);
  const ledger = await open(dir);
  for (let i = 0; i < 40; i += 2) await ledger.append(records(i, i + 2));
  const before = (await segmentsOf(dir)).length;
  assert.ok((await ledger.dropBefore(25, new Map())) > 0);
  assert.ok((await segmentsOf(dir)).length < before);
  assert.ok(ledger.firstIndex > 0 && ledger.firstIndex <= 25);
  await check(ledger, 40, ledger.firstIndex);
  await assert.rejects(ledger.read(0).next(), { code: 'OUT_OF_RANGE', message: /records begin at \d+/ });
  const first = ledger.firstIndex;
  await ledger.close();
  const again = await open(dir);
  assert.equal(again.firstIndex, first);
  await again.append(records(40, 41));
  await check(again, 41, first);
  await again.close();
});

test('no segment goes while somebody keeps them, nor when a read begins while the ageing is written down', async (t) => {
  const files = await openSegmentFiles(join(await folder(t), 'records'));
  let meanwhile: (() => Promise<unknown>) | null = null;
  const ledger = await open(await folder(t), {
    files: {
      ...files,
      async replace(name, bytes) {
        await files.replace(name, bytes);
        await meanwhile?.();
      },
    },
  });
  t.after(() => ledger.close());
  for (let i = 0; i < 40; i += 2) await ledger.append(records(i, i + 2));
  const heads = new Map([['a', { seq: 1, sha256: 'x' }]]);
  const kept = await ledger.keeping(async () => {
    assert.equal(await ledger.dropBefore(25, heads), 0);
    return ledger.firstIndex;
  });
  assert.equal(kept, 0);
  await assert.rejects(
    ledger.keeping(() => Promise.reject(new Error('failed'))),
    /failed/,
  );
  const reader = ledger.read(0);
  meanwhile = () => reader.next();
  assert.equal(await ledger.dropBefore(25, heads), 0, 'the read was there first');
  assert.deepEqual([ledger.firstIndex, ledger.agedHeads.size], [0, 0]);
  let rest = 0;
  for await (const _ of reader) rest += 1;
  assert.equal(rest, 39, 'it reads to the end');
  meanwhile = null;
  assert.ok((await ledger.dropBefore(25, heads)) > 0, 'nobody reads any more');
  assert.equal(ledger.agedHeads, heads);
  await check(ledger, 40, ledger.firstIndex);
});

test('a ledger that lacks signed records is left as it is, its hashes too', async (t) => {
  const dir = await folder(t);
  const ledger = await open(dir);
  for (let i = 0; i < 40; i += 2) await ledger.append(records(i, i + 2));
  await ledger.close();
  const names = await segmentsOf(dir);
  await rm(join(dir, 'records', names.at(-1)!));
  const leaves = await readFile(join(dir, 'tree', 'level-00.bin'));
  const message = /expected records up to 39, as were signed, found them up to \d+\. It is not opened/;
  await assert.rejects(open(dir, { signedRecords: 40 }), { code: 'DATA_LOSS', message });
  assert.deepEqual(await readFile(join(dir, 'tree', 'level-00.bin')), leaves);
  for (const name of names.slice(0, -1)) await rm(join(dir, 'records', name));
  const none = /expected the segments of 40 records, whose hashes or checkpoint are there, found none/;
  await assert.rejects(open(dir, { signedRecords: 40 }), { code: 'DATA_LOSS', message: none });
});

test('who reads too long, or lies behind what goes, keeps no segment; it hears of it when its records have gone', async (t) => {
  const ledger = await open(await folder(t), { holdMs: 0 });
  t.after(() => ledger.close());
  for (let i = 0; i < 40; i += 2) await ledger.append(records(i, i + 2));
  const slow = ledger.read(0);
  await slow.next();
  const late = ledger.read(30);
  await late.next();
  const kept = ledger.keeping(async () => {
    assert.ok((await ledger.dropBefore(25, new Map())) > 0, 'a reader does not hold up the retention for ever');
  });
  await kept;
  await assert.rejects(
    (async () => {
      for await (const _ of slow);
    })(),
    { code: 'ABORTED', message: /past their retention and let go of while they were read/ },
  );
  let rest = 0;
  for await (const _ of late) rest += 1;
  assert.equal(rest, 9);
  const patient = await open(await folder(t));
  t.after(() => patient.close());
  for (let i = 0; i < 40; i += 2) await patient.append(records(i, i + 2));
  const behind = patient.read(30);
  await behind.next();
  assert.ok((await patient.dropBefore(25, new Map())) > 0, 'it reads what stays');
  await behind.return();
});
