// The Merkle tree of RFC 6962 (§2.1) and RFC 9162 (§2.1.3, §2.1.4): roots, inclusion and consistency proofs, SHA-256.
// A tree is named by its size; node(level, index) is the root of the perfect subtree over leaves
// [index * 2^level, (index + 1) * 2^level). Sizes and indexes are whole numbers below 2^53.
import { hash as digest } from 'node:crypto';
import { assert } from '#kit/assert.ts';

export const HASH_BYTES = 32;

const LEAF = 0x00;
const NODE = 0x01;

const sha256 = (bytes: Buffer): Buffer => digest('sha256', bytes, 'buffer');

export function leafHash(bytes: Buffer): Buffer {
  const leaf = Buffer.allocUnsafe(1 + bytes.length);
  leaf[0] = LEAF;
  bytes.copy(leaf, 1);
  return sha256(leaf);
}

export function nodeHash(left: Buffer, right: Buffer): Buffer {
  const node = Buffer.allocUnsafe(1 + 2 * HASH_BYTES);
  node[0] = NODE;
  left.copy(node, 1);
  right.copy(node, 1 + HASH_BYTES);
  return sha256(node);
}

export function emptyRoot(): Buffer {
  return sha256(Buffer.alloc(0));
}

/** Gives complete perfect subtrees of a tree at least as large as the one asked about. */
export type NodeReader = (level: number, index: number) => Promise<Buffer> | Buffer;

/** The largest power of two smaller than n, n > 1. */
function splitOf(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2; // Math.log2 rounds near 2^48
  return k;
}

/** log2 of a power of two, else null. */
function levelOf(size: number): number | null {
  let level = 0;
  for (let rest = size; rest > 1; rest /= 2, level += 1) if (rest % 2 !== 0) return null;
  return level;
}

/** MTH(D[begin:end]) for a range that occurs in a tree: begin is a multiple of the power of two at or above its length. */
async function rangeRoot(begin: number, end: number, node: NodeReader): Promise<Buffer> {
  const size = end - begin;
  const level = levelOf(size);
  if (level !== null) return node(level, begin / size);
  const middle = begin + splitOf(size);
  return nodeHash(await rangeRoot(begin, middle, node), await rangeRoot(middle, end, node));
}

/** The perfect subtrees that make up the leaves [begin, end), in order; those of [0, size) are a frontier's edge. */
export function subtreesBetween(begin: number, end: number): { level: number; index: number }[] {
  assert(Number.isSafeInteger(begin) && begin >= 0 && begin <= end, `no leaves from ${begin} to ${end}`);
  const subtrees: { level: number; index: number }[] = [];
  for (let at = begin; at < end; ) {
    let [level, size] = [0, 1];
    while (at % (size * 2) === 0 && at + size * 2 <= end) [level, size] = [level + 1, size * 2];
    subtrees.push({ level, index: at / size });
    at += size;
  }
  return subtrees;
}

/** Root of the first `size` leaves. */
export async function rootOf(size: number, node: NodeReader): Promise<Buffer> {
  return size === 0 ? emptyRoot() : rangeRoot(0, size, node);
}

/** PATH(index, D[0:size]), nearest first. */
export async function inclusionProof(index: number, size: number, node: NodeReader): Promise<Buffer[]> {
  assert(Number.isSafeInteger(index) && index >= 0 && index < size, `leaf ${index} is not in a tree of ${size}`);
  const proof: Buffer[] = [];
  let [begin, end] = [0, size];
  const outer: [number, number][] = [];
  while (end - begin > 1) {
    const middle = begin + splitOf(end - begin);
    if (index < middle) {
      outer.push([middle, end]);
      end = middle;
    } else {
      outer.push([begin, middle]);
      begin = middle;
    }
  }
  for (const [from, to] of outer.reverse()) proof.push(await rangeRoot(from, to, node));
  return proof;
}

/** PROOF(first, D[0:second]); empty when first is 0 or equals second. */
export async function consistencyProof(first: number, second: number, node: NodeReader): Promise<Buffer[]> {
  assert(Number.isSafeInteger(first) && first >= 0 && first <= second, `a tree of ${first} is no start of ${second}`);
  if (first === 0 || first === second) return [];
  const proof: Buffer[] = [];
  const subproof = async (m: number, begin: number, end: number, isWhole: boolean): Promise<void> => {
    if (m === end - begin) {
      if (!isWhole) proof.push(await rangeRoot(begin, end, node));
      return;
    }
    const k = splitOf(end - begin);
    if (m <= k) {
      await subproof(m, begin, begin + k, isWhole);
      proof.push(await rangeRoot(begin + k, end, node));
    } else {
      await subproof(m - k, begin + k, end, false);
      proof.push(await rangeRoot(begin, begin + k, node));
    }
  };
  await subproof(first, 0, second, true);
  return proof;
}

/** RFC 9162 §2.1.3.2. False: the leaf is not at `index` of the tree with this root. */
export function verifyInclusion(options: {
  leaf: Buffer;
  index: number;
  size: number;
  root: Buffer;
  proof: readonly Buffer[];
}): boolean {
  const { leaf, index, size, root, proof } = options;
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  let [fn, sn, hash] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (sn === 0 || sibling.length !== HASH_BYTES) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else {
      hash = nodeHash(hash, sibling);
    }
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && hash.equals(root);
}

/** RFC 9162 §2.1.4.2. False: the second tree does not begin with the first one. */
export function verifyConsistency(options: {
  first: number;
  firstRoot: Buffer;
  second: number;
  secondRoot: Buffer;
  proof: readonly Buffer[];
}): boolean {
  const { first, firstRoot, second, secondRoot, proof } = options;
  if (first < 0 || first > second) return false;
  if (first === second) return proof.length === 0 && firstRoot.equals(secondRoot);
  if (first === 0) return proof.length === 0 && firstRoot.equals(emptyRoot());
  const path = levelOf(first) !== null ? [firstRoot, ...proof] : [...proof];
  const start = path.shift();
  if (start === undefined || proof.some((hash) => hash.length !== HASH_BYTES)) return false;
  let [fn, sn] = [first - 1, second - 1];
  while (fn % 2 === 1) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  let [fr, sr] = [start, start];
  for (const sibling of path) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      fr = nodeHash(sibling, fr);
      sr = nodeHash(sibling, sr);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else {
      sr = nodeHash(sr, sibling);
    }
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && fr.equals(firstRoot) && sr.equals(secondRoot);
}

/** A tree that only grows: its right edge, O(log size) hashes. */
export class MerkleFrontier {
  #size = 0;
  /** Roots of the perfect subtrees that make up the tree, largest first. */
  readonly #edge: { level: number; hash: Buffer }[] = [];

  get size(): number {
    return this.#size;
  }

  /** `onNode` hears of every perfect subtree that this leaf completes, leaf first. */
  append(leaf: Buffer, onNode?: (level: number, index: number, hash: Buffer) => void): void {
    this.appendSubtree(0, leaf, onNode);
  }

  /** As 2^subtreeLevel leaves at once, of which only the root of their perfect subtree is known; they begin at a multiple of it. */
  appendSubtree(
    subtreeLevel: number,
    root: Buffer,
    onNode?: (level: number, index: number, hash: Buffer) => void,
  ): void {
    const leaves = 2 ** subtreeLevel;
    assert(this.#size % leaves === 0, `no perfect subtree of ${leaves} leaves begins at ${this.#size}`);
    let [level, hash] = [subtreeLevel, root];
    let index = this.#size / leaves;
    onNode?.(level, index, hash);
    while (this.#edge.at(-1)?.level === level) {
      hash = nodeHash(this.#edge.pop()!.hash, hash);
      level += 1;
      index = Math.floor(index / 2);
      onNode?.(level, index, hash);
    }
    this.#edge.push({ level, hash });
    this.#size += leaves;
  }

  /** Takes over the next perfect subtree of a stored tree; levels must fall. */
  adopt(level: number, hash: Buffer): void {
    assert((this.#edge.at(-1)?.level ?? Number.POSITIVE_INFINITY) > level, 'subtrees of an edge get smaller');
    this.#edge.push({ level, hash });
    this.#size += 2 ** level;
  }

  root(): Buffer {
    let root: Buffer | null = null;
    for (const { hash } of [...this.#edge].reverse()) root = root === null ? hash : nodeHash(hash, root);
    return root ?? emptyRoot();
  }
}
