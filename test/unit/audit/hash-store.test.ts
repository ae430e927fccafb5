import assert from 'node:assert/strict';
import { type FileHandle, mkdtemp, open, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inclusionProof, leafHash, MerkleFrontier, rootOf, verifyInclusion } from '#kit/audit/merkle.ts';
import { HashStore } from '../../../services/audit/hash-store.ts';

const leaf = (i: number): Buffer => leafHash(Buffer.from(String(i)));

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'quern-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function rootAt(size: number): Buffer {
  const frontier = new MerkleFrontier();
  for (let i = 0; i < size; i += 1) frontier.append(leaf(i));
  return frontier.root();
}

test('roots and proofs are those of the tree, flushed or not, and after reopening', async (t) => {
  const dir = await folder(t);
  for (const size of [0, 1, 2, 3, 7, 8, 9, 33]) {
    const store = await HashStore.open(dir);
    for (let i = store.size; i < size; i += 1) store.append(leaf(i));
    for (const flushed of [false, true]) {
      if (flushed) await store.flush();
      assert.equal(store.size, size);
      assert.deepEqual(store.root(), rootAt(size));
      const node = (level: number, index: number) => store.node(level, index);
      assert.deepEqual(await rootOf(size, node), rootAt(size));
      for (let index = 0; index < size; index += 1) {
        const proof = await inclusionProof(index, size, node);
        assert.ok(verifyInclusion({ leaf: leaf(index), index, size, root: rootAt(size), proof }));
      }
    }
    await store.close();
  }
});

test('upper levels that are short, torn or too long are made again from the leaves', async (t) => {
  const dir = await folder(t);
  const store = await HashStore.open(dir);
  for (let i = 0; i < 40; i += 1) store.append(leaf(i));
  await store.flush();
  await store.close();
  const [zero, one, ...upper] = (await readdir(dir)).sort().map((name) => join(dir, name));
  for (const damage of [
    () => truncate(one!, 0),
    () => truncate(one!, 5 * 32 + 7),
    () => Promise.all(upper.map((path) => rm(path))),
    () => truncate(zero!, 21 * 32),
    () => truncate(zero!, 20 * 32 + 31),
  ]) {
    await damage();
    const again = await HashStore.open(dir);
    const size = Math.floor((await stat(zero!)).size / 32);
    assert.equal(again.size, size);
    assert.deepEqual(again.root(), rootAt(size));
    again.append(leaf(size));
    await again.flush();
    assert.deepEqual(again.root(), rootAt(size + 1));
    await again.close();
  }
});

test('a level that was only begun is taken back too', async (t) => {
  const store = await HashStore.open(await folder(t));
  t.after(() => store.close());
  for (let i = 0; i < 31; i += 1) store.append(leaf(i));
  await store.flush();
  store.append(leaf(31));
  await store.truncate(31);
  for (let i = 31; i < 64; i += 1) store.append(leaf(i));
  await store.flush();
  assert.deepEqual(await rootOf(64, (level, index) => store.node(level, index)), rootAt(64));
});

test('truncate takes back the newest leaves, written or not', async (t) => {
  const store = await HashStore.open(await folder(t));
  t.after(() => store.close());
  for (let i = 0; i < 20; i += 1) store.append(leaf(i));
  await store.flush();
  for (let i = 20; i < 23; i += 1) store.append(leaf(i));
  await store.truncate(17);
  assert.equal(store.size, 17);
  assert.deepEqual(store.root(), rootAt(17));
  for (let i = 17; i < 70; i += 1) store.append(leaf(i));
  await store.flush();
  assert.deepEqual(store.root(), rootAt(70));
  await assert.rejects(store.node(0, 70), { code: 'OUT_OF_RANGE' });
});

/** From now on no write takes more than `bytesMax` bytes at once, as on a disk that is nearly full. */
async function shortWrites(t: TestContext, dir: string, bytesMax: number): Promise<() => number> {
  const handle = await open(dir, 'r');
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const write = prototype.write as (this: FileHandle, ...args: unknown[]) => Promise<unknown>;
  type Args = [bytes: Buffer, offset: number, length: number, position: number];
  const short = t.mock.method(prototype, 'write', function (this: FileHandle, ...[bytes, offset, length, at]: Args) {
    return write.call(this, bytes, offset, Math.min(length, bytesMax), at);
  });
  return () => short.mock.callCount();
}

test('a disk that writes less than it was given leaves no hole, neither in the leaves nor in the levels made again', async (t) => {
  const dir = await folder(t);
  const writes = await shortWrites(t, dir, 45);
  const store = await HashStore.open(dir);
  for (let i = 0; i < 40; i += 1) store.append(leaf(i));
  await store.flush();
  await store.close();
  assert.ok(writes() >= (40 * 32) / 45);
  const paths = (await readdir(dir)).sort().map((name) => join(dir, name));
  const whole = await Promise.all(paths.map((path) => readFile(path)));
  assert.deepEqual(whole[0], Buffer.concat(Array.from({ length: 40 }, (_, i) => leaf(i))));
  for (const path of paths.slice(1)) await truncate(path, 0);
  const again = await HashStore.open(dir);
  t.after(() => again.close());
  assert.deepEqual(again.root(), rootAt(40));
  assert.deepEqual(await rootOf(40, (level, index) => again.node(level, index)), rootAt(40));
  assert.deepEqual(await Promise.all(paths.map((path) => readFile(path))), whole);
});

test('reads that give less than was asked for are gone on with, and a file that is too short is said', async (t) => {
  const dir = await folder(t);
  const store = await HashStore.open(dir);
  t.after(() => store.close());
  for (let i = 0; i < 40; i += 1) store.append(leaf(i));
  await store.flush();
  const path = join(dir, 'level-00.bin');
  const before = await readFile(path);
  const probe = await open(path);
  const files = Object.getPrototypeOf(probe) as FileHandle;
  await probe.close();
  type Args = [bytes: Buffer, at: number, length: number, from: number];
  const read = files.read as (this: FileHandle, ...args: Args) => Promise<unknown>;
  t.mock.method(files, 'read', function (this: FileHandle, ...[bytes, at, length, from]: Args) {
    return read.call(this, bytes, at, Math.min(length, 100), from);
  });
  await store.secure(0);
  assert.deepEqual(await readFile(path), before);
  const leaves: Buffer[] = [];
  for await (const hash of store.leaves(40)) leaves.push(hash);
  assert.deepEqual(Buffer.concat(leaves), before);
  await truncate(path, 39 * 32 + 5);
  await assert.rejects(store.node(0, 39), { code: 'DATA_LOSS', details: { reason: 'AUDIT_TREE_SHORT' } });
});
