// The tool service as a producer of audit records. Of every accepted call: tool.requested, on disk before anything of it runs, and
// exactly one tool.finished; between them who approved or denied it. Arguments and output never enter a record: keyed digests only.
import type { Outbox, Receipt } from '#kit/audit/outbox.ts';
import { Producer, type ProducerOptions } from '#kit/audit/producer.ts';
import { type AuditEvent, type AuditOutcome, SYSTEM_TENANT } from '#kit/audit/record.ts';
import type { Vault } from '#kit/audit/vault.ts';
import { QuernError, toQuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import { type SpanSink, startSpan, type TraceContext } from '#kit/trace.ts';
import type { Approver } from './approvals.ts';
import type { JournalRemains } from './call-journal.ts';
import type { Capabilities } from './jail/sandbox.ts';
import { AUDIT_CLOSE_MS_MAX, AUDIT_OWED_RECORDS_MAX, AUDIT_OWED_RETRY_MS } from './limits.ts';
import type { OutcomeWord } from './outcome.ts';

/** Who asks, as the gateway says. */
export type AuditedCaller = Approver & { sessionId: string; requestId: string };

export type AuditedCall = {
  executionId: string;
  callId: string;
  caller: AuditedCaller;
  tool: string;
  toolVersion: string;
  toolSha: string;
  policySha: string;
  /** Canonical arguments and what comes on standard input; only keyed digests of it are kept. */
  content: Buffer;
  depth: number;
  trace: TraceContext;
};

export type AuditedEnd = { outcome: OutcomeWord; usage: { readonly [name: string]: number } };

/** The records of one call. */
export type CallRecords = {
  /** Pseudonym of the user; "" where no records are kept. */
  readonly actorRef: string;
  /** Resolves when it is on disk that the call was asked for. Rejects UNAVAILABLE, reason AUDIT_UNAVAILABLE: then nothing may run. */
  readonly requested: Promise<void>;
  /** The same of an approval. */
  approved(by: Approver): Promise<void>;
  denied(by: Approver | null, reason: string): void;
  /** Owed until the outbox has taken it. */
  finished(end: AuditedEnd): void;
};

export type ToolAudit = {
  call(call: AuditedCall): CallRecords;
  /** Resolves when it is on disk that the set of tools is about to change. */
  registry(
    action: 'tool.registered' | 'tool.removed',
    by: Approver,
    tool: { name: string; sha: string },
  ): Promise<void>;
  capabilities(found: Capabilities): void;
  /** False: no tool runs, because it could not be recorded. */
  readonly serving: boolean;
  readonly state: 'none' | Outbox['status'];
  /** Says goodbye, gives the stream a moment, closes. */
  close(): Promise<void>;
};

const OUTCOMES: Partial<Record<OutcomeWord, AuditOutcome>> = {
  ok: 'ok',
  cancelled: 'cancelled',
  denied_policy: 'denied',
  denied_approval: 'denied',
  no_approver: 'denied',
  unknown: 'unknown',
};

const unrecorded: CallRecords = {
  actorRef: '',
  requested: Promise.resolve(),
  approved: () => Promise.resolve(),
  denied: () => {},
  finished: () => {},
};

/** For a mesh that was told to keep no records. */
export const noToolAudit: ToolAudit = {
  call: () => unrecorded,
  registry: () => Promise.resolve(),
  capabilities: () => {},
  serving: true,
  state: 'none',
  close: () => Promise.resolve(),
};

function refused(error: unknown): QuernError {
  const message =
    'the call cannot be recorded, so it does not run: the audit outbox takes no records; see the log of the tool service';
  const { code } = toQuernError(error);
  return new QuernError(
    code === 'INVALID_ARGUMENT' ? 'INTERNAL' : 'UNAVAILABLE',
    message,
    { reason: 'AUDIT_UNAVAILABLE' },
    { cause: error },
  );
}

export type ToolAuditOptions = Omit<ProducerOptions, 'service'> & { vault: Vault };

type Opened = { producer: Producer; vault: Vault; log: Log; spans: SpanSink | undefined };

class RecordedTools implements ToolAudit {
  readonly #producer: Producer;
  readonly #vault: Vault;
  readonly #log: Log;
  readonly #spans: SpanSink | undefined;
  #owed: AuditEvent[] = [];
  #pending = 0;
  #retry: NodeJS.Timeout | null = null;
  #lastTold = '';
  #closing: Promise<void> | null = null;

  constructor({ producer, vault, log, spans }: Opened) {
    this.#producer = producer;
    this.#vault = vault;
    this.#log = log;
    this.#spans = spans;
  }

  get serving(): boolean {
    return this.#producer.outbox.status === 'open';
  }

  get state(): Outbox['status'] {
    return this.#producer.outbox.status;
  }

  /** Ends what an earlier process left open, then says that this one is here. */
  async start(remains: JournalRemains): Promise<void> {
    const ends = await orphans(this.#producer.outbox, remains);
    for (const event of ends) await this.#owe(event);
    await this.#owe(this.#own('service.started', { target: 'tools', usage: { recovered_calls: ends.length } }));
    this.#producer.start();
  }

  call(call: AuditedCall): CallRecords {
    const { executionId, callId, caller, tool, toolVersion, toolSha, policySha, content, depth, trace } = call;
    const { tenant, user, keyId, sessionId, requestId } = caller;
    let subject: ReturnType<Vault['subject']>;
    try {
      subject = this.#vault.subject({ tenant, kind: 'user', id: user });
    } catch (error) {
      this.#log.error({ err: error, execution_id: executionId }, 'the audit vault failed');
      const requested = Promise.reject(refused(error));
      requested.catch(() => {});
      return { ...unrecorded, requested };
    }
    const facts = {
      tenant,
      actor: { kind: 'user', ref: subject.ref },
      target: tool,
      execution_id: executionId,
      tool_sha: toolSha,
      request_id: requestId,
      trace_id: trace.traceId,
    } as const;
    const span = this.#spans && startSpan(this.#spans, 'audit.append', trace);
    const receipt = this.#append({
      ...facts,
      action: 'tool.requested',
      outcome: 'ok',
      tool_version: toolVersion,
      policy_sha: policySha,
      span_id: trace.spanId,
      args_mac: subject.mac(content),
      sealed: subject.seal({ key_id: keyId, session_id: sessionId, call_id: callId }),
      usage: { args_bytes: content.length, depth },
    });
    receipt.then(
      () => span?.end(),
      () => span?.end({ error: 'UNAVAILABLE' }),
    );
    const by = (approver: Approver | null) =>
      approver
        ? { kind: 'user' as const, ref: this.#vault.subject({ tenant, kind: 'user', id: approver.user }).ref }
        : facts.actor;
    const after = (build: (parent: string) => AuditEvent): void => {
      receipt.then(
        ({ id }) => void this.#owe(build(id)),
        () => {}, // what was not recorded as asked for has no end
      );
    };
    return {
      actorRef: subject.ref,
      requested: receipt.then(() => {}),
      approved: async (approver) => {
        const { id } = await receipt;
        await this.#append({ ...facts, actor: by(approver), action: 'tool.approved', outcome: 'ok', parent_id: id });
      },
      denied: (approver, reason) =>
        after((id) => ({
          ...facts,
          actor: by(approver),
          action: 'tool.denied',
          outcome: 'denied',
          reason,
          parent_id: id,
        })),
      finished: ({ outcome, usage }) =>
        after((id) => ({
          ...facts,
          action: 'tool.finished',
          outcome: OUTCOMES[outcome] ?? 'error',
          reason: outcome.toUpperCase(),
          parent_id: id,
          usage,
        })),
    };
  }

  async registry(
    action: 'tool.registered' | 'tool.removed',
    { tenant, user }: Approver,
    { name, sha }: { name: string; sha: string },
  ): Promise<void> {
    const actor = { kind: 'user' as const, ref: this.#vault.subject({ tenant, kind: 'user', id: user }).ref };
    await this.#append({ tenant, actor, action, outcome: 'ok', target: name, ...(sha !== '' && { tool_sha: sha }) });
  }

  /** Told at the start and at every change. */
  capabilities({ tier, list }: Capabilities): void {
    const missing = list.filter(({ available }) => !available).map(({ name }) => name);
    const told = `${tier} ${missing.join(' ')}`;
    if (told === this.#lastTold) return;
    this.#lastTold = told;
    const usage = { available: list.length - missing.length, missing: missing.length };
    const outcome = tier === null ? 'error' : 'ok';
    const reason = missing.length === 0 ? {} : { reason: `MISSING ${missing.join(' ')}`.slice(0, 512) };
    void this.#owe(this.#own('sandbox.capability', { outcome, target: `tier ${tier ?? 'none'}`, ...reason, usage }));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const until = performance.now() + AUDIT_CLOSE_MS_MAX;
    while (this.#pending + this.#owed.length > 0 && this.serving && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await this.#owe(this.#own('service.drained', { target: 'tools' }));
    if (this.#retry) clearTimeout(this.#retry);
    const sent = await this.#producer.flush({ signal: new AbortController().signal });
    if (!sent) this.#log.info({ ...this.#producer.state }, 'audit records stay in the outbox until the next start');
    await this.#producer.close();
  }

  #own(action: AuditEvent['action'], over: Partial<AuditEvent>): AuditEvent {
    const actor = { kind: 'service', ref: this.#producer.outbox.producer } as const;
    return { tenant: SYSTEM_TENANT, actor, outcome: 'ok', ...over, action };
  }

  async #append(event: AuditEvent): Promise<Receipt> {
    this.#pending += 1;
    try {
      return await this.#producer.append(event);
    } catch (error) {
      this.#log.error({ err: error, action: event.action }, 'an audit record was refused');
      throw refused(error);
    } finally {
      this.#pending -= 1;
    }
  }

  /** A record that must come to be written whatever the outbox says now. Resolves after the first attempt. */
  async #owe(event: AuditEvent): Promise<void> {
    this.#pending += 1;
    try {
      await this.#producer.append(event);
    } catch {
      if (this.#owed.length < AUDIT_OWED_RECORDS_MAX) this.#owed.push(event);
      else this.#log.error({ action: event.action }, 'an audit record was given up: the outbox has refused too many');
      if (this.#producer.outbox.status === 'full') void this.#producer.outbox.retry();
      if (!this.#closing) this.#retry ??= setTimeout(() => this.#again(), AUDIT_OWED_RETRY_MS);
    } finally {
      this.#pending -= 1;
    }
  }

  #again(): void {
    this.#retry = null;
    for (const event of this.#owed.splice(0)) void this.#owe(event);
  }
}

/** The ends that calls of an earlier process lack: of those the journal knows, and of those only the outbox knows. */
async function orphans(outbox: Outbox, { lost, ended }: JournalRemains): Promise<AuditEvent[]> {
  type Told = AuditEvent & { id: string };
  const open = new Map<string, Told>();
  const finished = new Set<string>();
  for await (const bytes of outbox.records()) {
    if (!bytes.includes('"action":"tool.')) continue;
    const record = JSON.parse(bytes.toString('utf8')) as Told;
    const { action, execution_id: id } = record;
    if (id === undefined) continue;
    if (action === 'tool.requested') open.set(id, record);
    else if (action === 'tool.finished') {
      open.delete(id);
      finished.add(id);
    }
  }
  const action = 'tool.finished';
  const unknown = { action, outcome: 'unknown', reason: 'RECOVERED' } as const;
  /** A call that ended, and whose record the crash took, did not end in any other way. */
  const endOf = (id: string): Pick<AuditEvent, 'action' | 'outcome' | 'reason'> => {
    const word = ended.get(id);
    if (word === undefined) return unknown;
    return { action, outcome: OUTCOMES[word as OutcomeWord] ?? 'error', reason: word.toUpperCase() };
  };
  const ends: AuditEvent[] = [...open.values()].map((record) => ({
    tenant: record.tenant,
    actor: record.actor,
    target: record.target ?? '',
    execution_id: record.execution_id ?? '',
    ...(record.tool_sha !== undefined && { tool_sha: record.tool_sha }),
    ...(record.request_id !== undefined && { request_id: record.request_id }),
    ...(record.trace_id !== undefined && { trace_id: record.trace_id }),
    parent_id: record.id,
    ...endOf(record.execution_id ?? ''),
  }));
  for (const { executionId, tenant, actorRef, tool, toolSha, requestId, traceId } of lost) {
    if (open.has(executionId) || finished.has(executionId) || actorRef === '') continue;
    const actor = { kind: 'user', ref: actorRef } as const;
    const facts = { tenant, actor, target: tool, execution_id: executionId, tool_sha: toolSha };
    ends.push({ ...facts, request_id: requestId, trace_id: traceId, ...unknown });
  }
  return ends;
}

/**
 * Opens the outbox and ends what an earlier process left open; `remains` is what the journal knows of it. Throws
 * FAILED_PRECONDITION when another process writes there, DATA_LOSS when safe bytes have changed.
 */
export async function openToolAudit(options: ToolAuditOptions, remains: JournalRemains): Promise<ToolAudit> {
  const { vault, log, spans } = options;
  const producer = await Producer.open({ ...options, service: 'tools' });
  try {
    const audit = new RecordedTools({ producer, vault, log, spans });
    await audit.start(remains);
    return audit;
  } catch (error) {
    await producer.close();
    throw error;
  }
}
