// Export: stored bytes of a stretch of the log, then what a third party needs to check them against a signed checkpoint.
import type { ExportManifest, ExportRequest, ExportResponse } from '#gen/quern/audit/v1/audit.ts';
import { verifierKey } from '#kit/audit/checkpoint.ts';
import { type KeptCheckpoint, sizeOf } from '#kit/audit/checkpoint-file.ts';
import { subtreesBetween } from '#kit/audit/merkle.ts';
import type { ChainHead } from '#kit/audit/verify.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import { recordAccess } from '../access.ts';
import type { AuditContext } from '../context.ts';
import { EXPORT_CHECKPOINTS_MAX, EXPORT_MESSAGE_BYTES } from '../limits.ts';
import { readRecord } from '../projection.ts';
import { instantField } from '../request-fields.ts';
import { readerTakes } from './reader.ts';

type Stretch = { first: number; end: number };

/** Of the `size` records that are signed. */
function stretchOf(
  { ledger, projection }: AuditContext,
  { since, until }: { since: string | undefined; until: string | undefined },
  size: number,
): Stretch {
  const end = until === undefined ? size : Math.min(projection.endIndexUntil(until), size);
  const from = since === undefined ? ledger.firstIndex : (projection.firstIndexSince(since) ?? end);
  const first = Math.max(Math.min(from, end), ledger.firstIndex);
  return { first, end: Math.max(first, end) };
}

/** Sends the records; answers where each producer's chain stood before its first one. */
async function sendRecords(
  context: AuditContext,
  { first, end }: Stretch,
  out: Out<ExportResponse>,
): Promise<Map<string, ChainHead>> {
  const heads = new Map<string, ChainHead>();
  let records: Buffer[] = [];
  let [bytes, firstIndex] = [0, first];
  const send = async (): Promise<void> => {
    if (records.length === 0) return;
    const flows = out.write({ part: { $case: 'records', value: { firstIndex: BigInt(firstIndex), records } } });
    firstIndex += records.length;
    [records, bytes] = [[], 0];
    if (!flows) await readerTakes(context, out);
  };
  if (first === end) return heads;
  for await (const { index, bytes: record } of context.ledger.read(first)) {
    if (index >= end) break;
    const place = readRecord(record);
    if (place && !heads.has(place.producer)) heads.set(place.producer, { seq: place.seq - 1, sha256: place.prev });
    records.push(record);
    bytes += record.length;
    if (bytes >= EXPORT_MESSAGE_BYTES) await send();
  }
  await send();
  return heads;
}

async function manifestOf(
  { ledger, checkpoints, verifier }: AuditContext,
  { first, end }: Stretch,
  head: KeptCheckpoint | null,
  heads: ReadonlyMap<string, ChainHead>,
): Promise<ExportManifest> {
  const treeSize = head ? sizeOf(head.note) : 0;
  const notes = await checkpoints.sample(EXPORT_CHECKPOINTS_MAX, (size) => size >= first && size <= end);
  if (head && notes.at(-1) !== head.note) notes.push(head.note);
  const hashes = (begin: number, until: number): Promise<Buffer[]> =>
    Promise.all(subtreesBetween(begin, until).map(({ level, index }) => ledger.node(level, index)));
  return {
    origin: verifier.name,
    verifierKeys: [verifierKey(verifier)],
    first: BigInt(first),
    count: BigInt(end - first),
    treeSize: BigInt(treeSize),
    before: await hashes(0, first),
    after: await hashes(end, treeSize),
    checkpoints: notes,
    producers: [...heads].map(([producer, { seq, sha256 }]) => ({ producer, seq: BigInt(seq), sha256 })),
    exported: new Date().toISOString(),
  };
}

export async function exportLog(
  context: AuditContext,
  request: ExportRequest,
  { principal }: CallContext,
  out: Out<ExportResponse>,
): Promise<void> {
  const [since, until] = [instantField('since', request.since), instantField('until', request.until)];
  await context.checkpoints.sign({ now: true }); // all there is can be verified then
  const head = context.checkpoints.latest;
  const treeSize = head ? sizeOf(head.note) : 0;
  const stretch = stretchOf(context, { since, until }, treeSize);
  await recordAccess(context, principal, {
    tenant: principal.tenant,
    action: 'audit.exported',
    usage: { records: stretch.end - stretch.first },
    asked: { since: request.since, until: request.until },
  });
  const heads = await sendRecords(context, stretch, out);
  out.write({ part: { $case: 'manifest', value: await manifestOf(context, stretch, head, heads) } });
}
