import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  consistencyProof,
  emptyRoot,
  inclusionProof,
  leafHash,
  MerkleFrontier,
  nodeHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from '../../../../services/kit/audit/merkle.ts';

/** The leaves and roots that certificate-transparency implementations share as test vectors. */
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];

/** MTH by the RFC's own recursion, for comparison. */
function slowRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return emptyRoot();
  if (leaves.length === 1) return leaves[0]!;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(slowRoot(leaves.slice(0, k)), slowRoot(leaves.slice(k)));
}

function grow(count: number) {
  const nodes = new Map<string, Buffer>();
  const roots = [emptyRoot()];
  const leaves: Buffer[] = [];
  const frontier = new MerkleFrontier();
  for (let i = 0; i < count; i += 1) {
    const leaf = leafHash(Buffer.from(`leaf ${i}`));
    leaves.push(leaf);
    frontier.append(leaf, (level, index, hash) => void nodes.set(`${level}/${index}`, hash));
    roots.push(frontier.root());
  }
  const node = (level: number, index: number): Buffer => {
    const hash = nodes.get(`${level}/${index}`);
    assert.ok(hash, `node ${level}/${index} was never complete`);
    return hash;
  };
  return { leaves, roots, node };
}

test('roots equal the shared vectors', () => {
  const frontier = new MerkleFrontier();
  assert.equal(frontier.root().toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  for (const [i, hex] of LEAVES.entries()) {
    frontier.append(leafHash(Buffer.from(hex, 'hex')));
    assert.equal(frontier.root().toString('hex'), ROOTS[i]);
  }
});

test('every size up to 70: frontier, stored nodes and the RFC recursion agree', async () => {
  const { leaves, roots, node } = grow(70);
  for (let size = 0; size <= 70; size += 1) {
    assert.deepEqual(roots[size], slowRoot(leaves.slice(0, size)), `size ${size}`);
    assert.deepEqual(await rootOf(size, node), roots[size], `size ${size}`);
  }
});

test('proofs of trees beyond 2^48 leaves are as long as they must be', async () => {
  const asked: number[] = [];
  const node = (level: number): Buffer => {
    asked.push(level);
    return leafHash(Buffer.of(level));
  };
  for (const power of [40, 48, 52]) {
    const size = 2 ** power + 1;
    assert.equal((await inclusionProof(0, size, node)).length, power + 1);
    assert.equal((await inclusionProof(2 ** power, size, node)).length, 1);
    asked.length = 0;
    await rootOf(size, node);
    assert.deepEqual(asked, [power, 0]);
  }
});

test('every leaf of every size up to 40 is proved, and nothing else is', async () => {
  const { leaves, roots, node } = grow(40);
  for (let size = 1; size <= 40; size += 1) {
    const root = roots[size]!;
    for (let index = 0; index < size; index += 1) {
      const proof = await inclusionProof(index, size, node);
      const leaf = leaves[index]!;
      assert.ok(verifyInclusion({ leaf, index, size, root, proof }), `${index} of ${size}`);
      assert.ok(!verifyInclusion({ leaf: leaves[(index + 1) % 40]!, index, size, root, proof }), 'another leaf');
      assert.ok(
        size === 1 || !verifyInclusion({ leaf, index: (index + 1) % size, size, root, proof }),
        'another place',
      );
      assert.ok(!verifyInclusion({ leaf, index, size, root, proof: [...proof, leaf] }), 'a longer proof');
      assert.ok(
        proof.length === 0 || !verifyInclusion({ leaf, index, size, root, proof: proof.slice(1) }),
        'a shorter one',
      );
      assert.ok(!verifyInclusion({ leaf, index: size, size, root, proof }), 'outside');
    }
  }
});

test('every pair of sizes up to 40 is consistent, and a changed tree is not', async () => {
  const { roots, node } = grow(40);
  for (let second = 0; second <= 40; second += 1) {
    for (let first = 0; first <= second; first += 1) {
      const proof = await consistencyProof(first, second, node);
      const options = { first, firstRoot: roots[first]!, second, secondRoot: roots[second]!, proof };
      assert.ok(verifyConsistency(options), `${first} to ${second}`);
      const other = leafHash(Buffer.from('other'));
      assert.ok(!verifyConsistency({ ...options, firstRoot: other }), `${first} to ${second}: another first root`);
      if (first > 0 || first === second) {
        assert.ok(!verifyConsistency({ ...options, secondRoot: other }), `${first} to ${second}: another second root`);
      }
      assert.ok(!verifyConsistency({ ...options, proof: [...proof, other] }), `${first} to ${second}: a longer proof`);
    }
  }
});
