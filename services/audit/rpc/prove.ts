// Prove: RFC 6962 proofs against a tree of the log.
import type { ProveRequest, ProveResponse } from '#gen/quern/audit/v1/audit.ts';
import { consistencyProof, inclusionProof, type NodeReader, rootOf } from '#kit/audit/merkle.ts';
import { QuernError } from '#kit/errors.ts';
import type { AuditContext } from '../context.ts';

function outOfRange(field: string, expected: string, got: bigint): QuernError {
  const description = `expected ${expected}, got ${got}`;
  return new QuernError('INVALID_ARGUMENT', `${field}: ${description}`, { fields: [{ field, description }] });
}

export async function prove({ ledger }: AuditContext, request: ProveRequest): Promise<ProveResponse> {
  const { index, treeSize: asked, oldTreeSize } = request;
  const treeSize = asked === 0n ? BigInt(ledger.size) : asked;
  if (treeSize > BigInt(ledger.size))
    throw outOfRange('tree_size', `at most ${ledger.size}, the records there are`, asked);
  if (index >= treeSize) throw outOfRange('index', `below ${treeSize}, the size of the tree`, index);
  if (oldTreeSize > treeSize) throw outOfRange('old_tree_size', `at most ${treeSize}`, oldTreeSize);
  const size = Number(treeSize);
  const node: NodeReader = (level, at) => ledger.node(level, at);
  return {
    treeSize,
    root: await rootOf(size, node),
    leaf: await ledger.node(0, Number(index)),
    inclusion: await inclusionProof(Number(index), size, node),
    consistency: await consistencyProof(Number(oldTreeSize), size, node),
  };
}
