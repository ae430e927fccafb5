// Query: requests, agent runs and tool calls, newest first. That somebody read, and what was asked for, is recorded before the
// first row goes out.
import type { QueryRequest, QueryResponse, ToolCallRow } from '#gen/quern/audit/v1/audit.ts';
import { readContent } from '#kit/audit/content-frame.ts';
import type { AuditValue } from '#kit/audit/record.ts';
import type { CallContext, Out } from '#kit/rpc/service.ts';
import { recordAccess } from '../access.ts';
import type { AuditContext } from '../context.ts';
import { QUERY_LIMIT_DEFAULT, QUERY_LIMIT_MAX, QUERY_ROWS_MAX } from '../limits.ts';
import type { RequestQuery, RequestRow } from '../projection.ts';
import { instantField, invalidField, tenantField } from '../request-fields.ts';
import { REQUEST_KINDS, type RequestKind } from '../view-sql.ts';
import { readerTakes } from './reader.ts';

function kindsField(kinds: readonly string[]): RequestKind[] | undefined {
  const known = REQUEST_KINDS.filter((kind) => kinds.includes(kind));
  const strange = kinds.find((kind) => !(REQUEST_KINDS as readonly string[]).includes(kind));
  if (strange !== undefined) throw invalidField('kinds', `expected ${REQUEST_KINDS.join(', ')}, got "${strange}"`);
  return known.length === 0 ? undefined : known;
}

/** Null: nobody of this name was ever recorded, or was erased. */
function toQuery({ vault }: AuditContext, request: QueryRequest): RequestQuery | null {
  const { user, requestId, traceId, since, until, limit } = request;
  const tenant = tenantField(request.tenant);
  if (limit > QUERY_LIMIT_MAX) throw invalidField('limit', `expected at most ${QUERY_LIMIT_MAX}, got ${limit}`);
  const actorRef = user === '' ? undefined : vault.find({ tenant, kind: 'user', id: user });
  if (actorRef === null) return null;
  return {
    tenant,
    kinds: kindsField(request.kinds),
    actorRef,
    requestId: requestId || undefined,
    traceId: traceId || undefined,
    since: instantField('since', since),
    until: instantField('until', until),
    limit: limit === 0 ? QUERY_LIMIT_DEFAULT : limit,
  };
}

/** Why a call was denied when a person did it. */
const ANSWERED = 'DENIED';

const text = (value: AuditValue | undefined): string => (typeof value === 'string' ? value : '');

type KeptText = Pick<QueryResponse, 'prompt' | 'answer'>;

/** Undefined: none was kept, or it is not readable any more. */
async function textAt(
  { content, vault }: AuditContext,
  { tenant, actor_ref: subject }: RequestRow,
  reference: string | null,
): Promise<string | undefined> {
  if (!content || reference === null) return undefined;
  const asked = { tenant, subject, reference };
  const read = await readContent(content, vault, asked);
  return read.state === 'ok' ? read.text : undefined;
}

type Facts = ReturnType<AuditContext['vault']['unseal']>;

/** `facts`: what is sealed in its record. Nobody's name is given for a question that nobody answered. */
function toolOf({ vault }: AuditContext, row: RequestRow, facts: Facts): ToolCallRow {
  const { tenant, approval, approval_ref: by } = row;
  const answered = approval === 'approved' || row.approval_reason === ANSWERED;
  return {
    name: row.target ?? '',
    version: row.tool_version ?? '',
    sha256: row.tool_sha ?? '',
    executionId: row.execution_id ?? '',
    callId: text(facts?.call_id),
    sessionId: text(facts?.session_id),
    approval: approval ?? '',
    approvedBy: (answered && by !== null && vault.reveal(tenant, by)?.id) || '',
    approvalReason: row.approval_reason ?? '',
    policySha256: row.policy_sha ?? '',
    argumentsMac: row.args_mac ?? '',
  };
}

function toResponse(context: AuditContext, row: RequestRow, kept: KeptText): QueryResponse {
  const { vault } = context;
  const { tenant, actor_ref: ref } = row;
  const facts = row.sealed === null ? null : vault.unseal(tenant, ref, row.sealed);
  const usage = Object.entries(JSON.parse(row.usage ?? '{}') as Record<string, number>);
  return {
    requestId: row.request_id,
    tenant,
    user: vault.reveal(tenant, ref)?.id ?? '',
    userRef: ref,
    accepted: row.accepted_ts,
    finished: row.finished_ts ?? '',
    model: row.kind === 'tool' ? '' : (row.target ?? ''),
    outcome: row.outcome ?? '',
    code: row.code ?? '',
    reason: row.reason ?? '',
    traceId: row.trace_id ?? '',
    clientIp: text(facts?.client_ip),
    keyId: text(facts?.key_id),
    usage: new Map(usage.map(([name, value]) => [name, BigInt(value)])),
    acceptedIndex: BigInt(row.accepted_idx),
    finishedIndex: row.finished_idx === null ? undefined : BigInt(row.finished_idx),
    kind: row.kind,
    tool: row.kind === 'tool' ? toolOf(context, row, facts) : undefined,
    ...kept,
  };
}

export async function query(
  context: AuditContext,
  request: QueryRequest,
  call: CallContext,
  out: Out<QueryResponse>,
): Promise<void> {
  const wanted = toQuery(context, request);
  const { tenant, requestId, traceId, since, until, exports, withPrompts, withAnswers } = request;
  const content = { ...(withPrompts && { prompts: true }), ...(withAnswers && { answers: true }) };
  const kinds = wanted?.kinds && { kinds: wanted.kinds };
  await recordAccess(context, call.principal, {
    tenant,
    action: exports ? 'audit.exported' : 'audit.read',
    target: wanted?.actorRef,
    asked: { request_id: requestId, trace_id: traceId, since, until, ...kinds, ...content },
  });
  if (!wanted) return;
  let left = wanted.limit;
  let after: RequestQuery['after'];
  while (left > 0) {
    const rows = context.projection.requests({ ...wanted, after, limit: Math.min(left, QUERY_ROWS_MAX) });
    for (const row of rows) {
      const prompt = withPrompts ? await textAt(context, row, row.prompt_ref) : undefined;
      const answer = withAnswers ? await textAt(context, row, row.answer_ref) : undefined;
      if (!out.write(toResponse(context, row, { prompt, answer }))) await readerTakes(context, out);
    }
    left -= rows.length;
    after = rows.at(-1);
    if (rows.length < QUERY_ROWS_MAX) return;
  }
}
