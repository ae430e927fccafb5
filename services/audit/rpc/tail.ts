// Tail: records of a tenant as they reach the ledger.
import { setTimeout as sleep } from 'node:timers/promises';
import type { TailRequest, TailResponse } from '#gen/quern/audit/v1/audit.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import { recordAccess } from '../access.ts';
import type { AuditContext } from '../context.ts';
import { TAIL_BACKLOG_MAX, TAIL_LOOK_MS, TAIL_ROWS } from '../limits.ts';
import type { RecordRow } from '../projection.ts';
import { invalidField, tenantField } from '../request-fields.ts';
import { readerTakes } from './reader.ts';

function toResponse({ vault }: AuditContext, row: RecordRow): TailResponse {
  const usage = Object.entries(JSON.parse(row.usage ?? '{}') as Record<string, number>);
  return {
    index: BigInt(row.idx),
    time: row.ts,
    producer: row.producer,
    action: row.action,
    outcome: row.outcome,
    actorKind: row.actor_kind,
    actor: vault.reveal(row.tenant, row.actor_ref)?.id ?? '',
    actorRef: row.actor_ref,
    target: row.target ?? '',
    code: row.code ?? '',
    reason: row.reason ?? '',
    requestId: row.request_id ?? '',
    traceId: row.trace_id ?? '',
    usage: new Map(usage.map(([name, value]) => [name, BigInt(value)])),
  };
}

/** Ends when the caller does, or when the service stops. */
export async function tail(
  context: AuditContext,
  request: TailRequest,
  call: CallContext,
  out: Out<TailResponse>,
): Promise<void> {
  const { projection, stopping } = context;
  const tenant = tenantField(request.tenant);
  const { backlog } = request;
  if (backlog > TAIL_BACKLOG_MAX) throw invalidField('backlog', `expected at most ${TAIL_BACKLOG_MAX}, got ${backlog}`);
  await recordAccess(context, call.principal, { tenant, action: 'audit.read', asked: { tail: true } });
  const signal = AbortSignal.any([call.signal, stopping]);
  for (let from = projection.indexBefore(tenant, backlog); !signal.aborted; ) {
    const rows = projection.records({ tenant, from, limit: TAIL_ROWS });
    for (const row of rows) if (!out.write(toResponse(context, row))) await readerTakes(context, out);
    from = (rows.at(-1)?.idx ?? from - 1) + 1;
    if (rows.length < TAIL_ROWS) await sleep(TAIL_LOOK_MS, undefined, { signal }).catch(() => {});
  }
}
