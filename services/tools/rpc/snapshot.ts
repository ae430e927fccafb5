// Snapshot and Rollback: copies of a session's workspace.
import type {
  RollbackRequest,
  RollbackResponse,
  SnapshotRequest,
  SnapshotResponse,
} from '#gen/quern/tools/v1/tools.ts';
import type { ToolsContext } from '../context.ts';
import { callerField, invalidField } from '../request-fields.ts';

export async function snapshot({ copies }: ToolsContext, { caller }: SnapshotRequest): Promise<SnapshotResponse> {
  const { id, bytes, files } = await copies.snapshot(callerField(caller));
  return { snapshotId: id, bytes: BigInt(bytes), files };
}

export async function rollback(
  { copies }: ToolsContext,
  { caller, snapshotId }: RollbackRequest,
): Promise<RollbackResponse> {
  const from = callerField(caller);
  if (!/^[0-9A-HJKMNP-TV-Z]{26}$/.test(snapshotId))
    throw invalidField('snapshot_id', 'expected the 26 characters of a snapshot');
  await copies.rollback(from, snapshotId);
  return {};
}
