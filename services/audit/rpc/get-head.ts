// GetHead: the newest signed checkpoint and how far the log has come.
import type { GetHeadResponse } from '#gen/quern/audit/v1/audit.ts';
import { verifierKey } from '#kit/audit/checkpoint.ts';
import type { AuditContext } from '../context.ts';

export function getHead({ ledger, projection, checkpoints, verifier, consumerStats }: AuditContext): GetHeadResponse {
  const { state, reason, pendingMessages } = consumerStats();
  return {
    // A record is in the ledger a moment before Query shows it: whoever waits for this number wants to see it.
    records: BigInt(Math.min(ledger.size, projection.nextIndex)),
    firstRecord: BigInt(ledger.firstIndex),
    checkpoint: checkpoints.latest?.note ?? '',
    checkpointTime: checkpoints.latest?.ts ?? '',
    verifierKey: verifierKey(verifier),
    reading: state === 'reading',
    readingProblem: reason,
    pendingMessages: BigInt(pendingMessages),
  };
}
