// GetCoverage: how far the newest checkpoint covers one producer's records, with the proofs by which it need not believe us.
import type { GetCoverageRequest, GetCoverageResponse } from '#gen/quern/audit/v1/audit.ts';
import { openCheckpoint, verifierKey } from '#kit/audit/checkpoint.ts';
import { consistencyProof, inclusionProof, type NodeReader } from '#kit/audit/merkle.ts';
import { QuernError } from '#kit/errors.ts';
import type { AuditContext } from '../context.ts';
import { PRODUCER_CHARS_MAX } from '../limits.ts';

export async function getCoverage(
  {
    ledger,
    checkpoints,
    projection,
    verifier,
  }: Pick<AuditContext, 'ledger' | 'checkpoints' | 'projection' | 'verifier'>,
  { producer, oldTreeSize }: GetCoverageRequest,
): Promise<GetCoverageResponse> {
  if (producer === '' || producer.length > PRODUCER_CHARS_MAX) {
    const description = `expected 1..${PRODUCER_CHARS_MAX} characters, got ${producer.length}`;
    const fields = [{ field: 'producer', description }];
    throw new QuernError('INVALID_ARGUMENT', `producer: ${description}`, { fields });
  }
  const note = checkpoints.latest?.note ?? '';
  const answer: GetCoverageResponse = {
    checkpoint: note,
    verifierKey: verifierKey(verifier),
    seq: 0n,
    index: 0n,
    leaf: Buffer.alloc(0),
    inclusion: [],
    consistency: [],
  };
  if (note === '') return answer;
  const { size } = openCheckpoint(note, verifier.name, [verifier]);
  const node: NodeReader = (level, index) => ledger.node(level, index);
  // A greater old tree than ours has no proof: the note itself shows whoever asks that the log shrank.
  if (oldTreeSize <= BigInt(size)) answer.consistency = await consistencyProof(Number(oldTreeSize), size, node);
  const covered = projection.coverage(producer, size);
  if (!covered) return answer;
  return {
    ...answer,
    seq: BigInt(covered.seq),
    index: BigInt(covered.index),
    leaf: await ledger.node(0, covered.index),
    inclusion: await inclusionProof(covered.index, size, node),
  };
}
