// The Merkle tree on disk: level L is a file of the hashes of its complete perfect subtrees, 32 bytes each. Level 0, the
// leaf hashes, outlives the records and is what counts; the levels above are made from it whenever they are short.
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { LEDGER_HASHES_PER_READ } from '#kit/audit/limits.ts';
import { HASH_BYTES, MerkleFrontier, nodeHash } from '#kit/audit/merkle.ts';
import { notOnDisk } from '#kit/audit/segment-end.ts';
import { syncPath, writeAll } from '#kit/audit/segment-files.ts';
import { QuernError } from '#kit/errors.ts';

const LEVELS_MAX = 48;

type Level = { file: FileHandle; count: number; unwritten: Buffer[] };

/** The hashes [from, from + count) of a level. A read may give less than was asked for: before a damaged block, for one. */
async function readHashes({ file }: Level, from: number, count: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(count * HASH_BYTES);
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, from * HASH_BYTES + at);
    if (bytesRead === 0) throw shortTree(from + count, from + Math.floor(at / HASH_BYTES));
    at += bytesRead;
  }
  return bytes;
}

function shortTree(expected: number, found: number): QuernError {
  const message = `audit tree: expected ${expected} hashes in the file of a level, found ${found}: it was cut`;
  return new QuernError('DATA_LOSS', message, { reason: 'AUDIT_TREE_SHORT' });
}

/** Invariant: level L has floor(size / 2^L) hashes, counting those not written yet. */
export class HashStore {
  readonly #dir: string;
  readonly #levels: Level[] = [];
  readonly #opening: Promise<Level>[] = [];
  /** Unwritten hashes of levels whose files are not open yet. */
  readonly #unopened: Buffer[][] = [];
  #frontier = new MerkleFrontier();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<HashStore> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const store = new HashStore(dir);
    await store.#level(0);
    await store.#restore();
    return store;
  }

  /** Leaves. */
  get size(): number {
    return this.#frontier.size;
  }

  root(): Buffer {
    return this.#frontier.root();
  }

  append(leaf: Buffer): void {
    this.#frontier.append(leaf, (level, _index, hash) => {
      this.#pending(level).push(hash);
    });
  }

  #pending(level: number): Buffer[] {
    this.#unopened[level] ??= [];
    return this.#levels[level]?.unwritten ?? this.#unopened[level];
  }

  /** Opened once, whoever asks first. */
  #level(level: number): Promise<Level> {
    this.#opening[level] ??= this.#openLevel(level);
    return this.#opening[level];
  }

  async #openLevel(level: number): Promise<Level> {
    const path = join(this.#dir, `level-${String(level).padStart(2, '0')}.bin`);
    await (await open(path, 'a', 0o600)).close();
    const file = await open(path, 'r+');
    const { size } = await file.stat();
    const opened = { file, count: Math.floor(size / HASH_BYTES), unwritten: this.#unopened[level] ?? [] };
    this.#levels[level] = opened;
    return opened;
  }

  /** Writes what append() added and makes the leaf hashes durable. */
  async flush(): Promise<void> {
    for (let level = 0; level < Math.max(this.#levels.length, this.#unopened.length); level += 1) {
      const { file, unwritten, count } = await this.#level(level);
      if (unwritten.length === 0) continue;
      await writeAll(file, Buffer.concat(unwritten), count * HASH_BYTES);
      this.#levels[level]!.count += unwritten.length;
      unwritten.length = 0;
    }
    await this.#levels[0]!.file.datasync();
  }

  /**
   * As flush(); also writes the leaf hashes from `safe` on again, since a start reads from memory what the disk may not have after an
   * fdatasync that failed. They and the file's name are on the disk when it returns; throws UNAVAILABLE.
   */
  async secure(safe: number): Promise<void> {
    const leaves = await this.#level(0);
    try {
      for (let at = safe; at < leaves.count; at += LEDGER_HASHES_PER_READ) {
        const bytes = await readHashes(leaves, at, Math.min(LEDGER_HASHES_PER_READ, leaves.count - at));
        await writeAll(leaves.file, bytes, at * HASH_BYTES);
      }
      await this.flush();
      await syncPath(this.#dir);
    } catch (error) {
      throw notOnDisk(this.#dir, `hashes from record ${safe} on could not be written to the disk again`, error);
    }
  }

  /** The hash of a complete subtree. */
  async node(level: number, index: number): Promise<Buffer> {
    const own = await this.#level(level);
    if (index >= own.count) {
      const waiting = own.unwritten[index - own.count];
      if (waiting) return waiting;
      throw new QuernError('OUT_OF_RANGE', `tree node ${level}/${index} is not complete yet`, {
        reason: 'NO_SUCH_NODE',
      });
    }
    return readHashes(own, index, 1);
  }

  /** The leaf hashes [0, end), in order. */
  async *leaves(end: number): AsyncGenerator<Buffer, void, undefined> {
    const level = await this.#level(0);
    for (let at = 0; at < end; ) {
      const count = Math.min(LEDGER_HASHES_PER_READ, end - at, level.count - at);
      if (count <= 0) return; // not written yet
      const bytes = await readHashes(level, at, count);
      for (let i = 0; i < count; i += 1) yield bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES);
      at += count;
    }
  }

  /** Forgets the leaves from `size` on, as after a write whose records did not become durable. */
  async truncate(size: number): Promise<void> {
    for (const unwritten of this.#unopened) unwritten.length = 0;
    for (let level = 0; level < LEVELS_MAX; level += 1) {
      const keep = Math.floor(size / 2 ** level);
      const { file, count, unwritten } = await this.#level(level);
      unwritten.length = 0;
      if (count === 0 && keep === 0) break;
      if (count > keep) {
        await file.truncate(keep * HASH_BYTES);
        this.#levels[level]!.count = keep;
      }
    }
    await this.#restore();
  }

  /** Makes the upper levels what level 0 says, and the right edge from them. */
  async #restore(): Promise<void> {
    const size = (await this.#level(0)).count;
    for (let level = 1; 2 ** level <= size; level += 1) await this.#completeLevel(level, Math.floor(size / 2 ** level));
    const frontier = new MerkleFrontier();
    let at = 0;
    for (let level = LEVELS_MAX; level >= 0; level -= 1) {
      if (Math.floor(size / 2 ** level) % 2 === 0) continue;
      frontier.adopt(level, await this.node(level, at / 2 ** level));
      at += 2 ** level;
    }
    this.#frontier = frontier;
  }

  async #completeLevel(level: number, wanted: number): Promise<void> {
    const own = await this.#level(level);
    if (own.count > wanted) {
      await own.file.truncate(wanted * HASH_BYTES);
      own.count = wanted;
    }
    while (own.count < wanted) {
      const count = Math.min(LEDGER_HASHES_PER_READ, wanted - own.count);
      const below = await readHashes(this.#levels[level - 1]!, own.count * 2, count * 2);
      const made: Buffer[] = [];
      for (let at = 0; at < below.length; at += 2 * HASH_BYTES) {
        const middle = at + HASH_BYTES;
        made.push(nodeHash(below.subarray(at, middle), below.subarray(middle, middle + HASH_BYTES)));
      }
      await writeAll(own.file, Buffer.concat(made), own.count * HASH_BYTES);
      own.count += made.length;
    }
  }

  async close(): Promise<void> {
    for (const level of this.#levels) await level?.file.close();
  }
}
