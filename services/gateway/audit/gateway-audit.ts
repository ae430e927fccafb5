// The gateway as a producer of audit records: who asked what and how it ended, who was turned away, which keys came and went,
// which engines were lost. Content never enters a record: lengths and keyed digests only.
import { openVault } from '#kit/audit/key-folder.ts';
import { AUDIT_OUTBOX_SOFT_BYTES, CONTENT_REDACTION_MARGIN_CHARS } from '#kit/audit/limits.ts';
import type { OutboxStatus, Receipt } from '#kit/audit/outbox.ts';
import { Producer, type ProducerOptions } from '#kit/audit/producer.ts';
import type { PublisherState } from '#kit/audit/publisher.ts';
import { type AuditActor, type AuditEvent, type AuditValue, SYSTEM_TENANT } from '#kit/audit/record.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import type { Subject, Vault } from '#kit/audit/vault.ts';
import type { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { CounterMetric, Metrics } from '#kit/metrics.ts';
import { type SpanSink, startSpan } from '#kit/trace.ts';
import type { Caller, GenerationSink } from '../generation-events.ts';
import {
  AUDIT_CLOSE_MS_MAX,
  AUDIT_KEY_CHANGES_MAX,
  AUDIT_LOOK_MS,
  AUDIT_RECOVERY_BATCH,
  AUTH_FAILURES_WINDOW_MS,
} from '../limits.ts';
import type { TypedRequest } from '../typed-request.ts';
import { type AuthFailure, type AuthFailures, AuthFailureWindow } from './auth-failures.ts';
import { ContentKeeper, type KeptFields } from './content-keeper.ts';
import type { KeyChange } from './key-changes.ts';
import { type OpenRequest, OpenRequests } from './open-requests.ts';
import { OwedRecords } from './owed-records.ts';
import { promptBytes, promptSize } from './prompt-bytes.ts';
import { promptText } from './prompt-text.ts';
import {
  type AuditedGeneration,
  AuditedRequest,
  type AuditedRequestOptions,
  auditUnavailable,
  type RequestAudit,
  type RequestFacts,
  withoutAudit,
} from './request-audit.ts';

/** A request at the moment at which it is accepted. */
export type AcceptedRequest = { request: TypedRequest; caller: Caller; model: string; requestId: string };

/** For health, `quern up` and whoever looks. */
export type AuditReport = {
  outbox: OutboxStatus;
  required: boolean;
  unsentRecords: number;
  stream: PublisherState;
  /** Why records do not flow; "" = they do. */
  problem: string;
};

export type GatewayAudit = {
  /**
   * Records that a request was accepted; from now on its end must be told. Throws UNAVAILABLE, reason AUDIT_UNAVAILABLE, when
   * it cannot be recorded and must be.
   */
  accept(accepted: AcceptedRequest, sink: GenerationSink, generation: AuditedGeneration): RequestAudit;
  authFailed(failure: AuthFailure): void;
  keysChanged(changes: readonly KeyChange[]): void;
  engineCrashed(engine: { model: string; error: QuernError; requests: number }): void;
  /** False: no request is served, because it could not be recorded. */
  readonly serving: boolean;
  /** Null: no records are kept. */
  readonly report: AuditReport | null;
  /** Told whenever `serving` or the status of the outbox has changed. */
  onChange(listener: () => void): void;
  /** Writes what is owed, says goodbye, gives the stream a moment to take it all, closes. Idempotent. */
  close(): Promise<void>;
};

export const noAudit: GatewayAudit = {
  accept: (_accepted, sink) => withoutAudit(sink),
  authFailed: () => {},
  keysChanged: () => {},
  engineCrashed: () => {},
  serving: true,
  report: null,
  onChange: () => {},
  close: () => Promise.resolve(),
};

export type GatewayAuditOptions = Pick<
  ProducerOptions,
  'dir' | 'servers' | 'coverage' | 'files' | 'hardBytes' | 'segmentBytesMax' | 'coverageEveryMs'
> & {
  keyDir: string;
  /** Where the text of prompts and answers is kept, and whose. Absent or null: nobody's. */
  content?: { dir: string; policyFile: string | null } | null;
  required: boolean;
  log: Log;
  metrics: Metrics;
  spans: SpanSink;
  /** Called at the end of close(). */
  onClosed?: () => void;
  /** For tests. */
  authWindowMs?: number;
};

/** A socket of both families shows IPv4 as "::ffff:192.0.2.1". */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, '');
}

function acceptedUsage({ sampling }: TypedRequest, size: number): Record<string, number> {
  return {
    prompt_bytes: size,
    choices: sampling.n ?? 1,
    ...(sampling.maxTokens !== undefined && { max_tokens: sampling.maxTokens }),
  };
}

/** What a crash left without an end. */
function recoveredEvent({ id, seq: _seq, ...facts }: OpenRequest): AuditEvent {
  return { ...facts, action: 'request.finished', outcome: 'unknown', reason: 'RECOVERED', parent_id: id };
}

type AuditParts = { producer: Producer; vault: Vault; open: OpenRequests; content: ContentKeeper | null };

/** What is said of a request when it is accepted, and of whom. */
type Told = { facts: RequestFacts; event: AuditEvent; subject: Subject };

class ProducingAudit implements GatewayAudit {
  readonly #options: GatewayAuditOptions;
  readonly #producer: Producer;
  readonly #vault: Vault;
  readonly #content: ContentKeeper | null;
  readonly #open: OpenRequests;
  readonly #owed: OwedRecords;
  readonly #failures: AuthFailureWindow;
  readonly #unrecorded: CounterMetric;
  readonly #listeners: (() => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  #receiptsPending = 0;
  #lastStatus: OutboxStatus = 'open';
  #wasLarge = false;
  #closing: Promise<void> | null = null;

  constructor(options: GatewayAuditOptions, parts: AuditParts) {
    const { producer, vault, open, content } = parts;
    const { metrics, log, authWindowMs = AUTH_FAILURES_WINDOW_MS } = options;
    this.#options = options;
    this.#producer = producer;
    this.#vault = vault;
    this.#content = content;
    this.#open = open;
    this.#unrecorded = metrics.counter({
      name: 'quern_gateway_unrecorded_requests_total',
      help: 'Requests served without an audit record, because none is required',
    });
    this.#owed = new OwedRecords({
      append: (event) => producer.append(event),
      onDropped: ({ action }) => log.error({ action }, 'an audit record was given up: the outbox has refused too many'),
    });
    this.#failures = new AuthFailureWindow((failures) => this.#tellFailures(failures), authWindowMs);
    this.#timer = setInterval(() => this.#look(), AUDIT_LOOK_MS);
  }

  /** Ends what an earlier process left open, then says that this one is here. Nothing is served before. */
  async start(): Promise<void> {
    const { log, required } = this.#options;
    const left = this.#open.all();
    for (let at = 0; at < left.length; at += AUDIT_RECOVERY_BATCH) {
      const batch = left.slice(at, at + AUDIT_RECOVERY_BATCH);
      await Promise.all(batch.map((one) => this.#owed.write(recoveredEvent(one), () => this.#open.delete(one.id))));
    }
    await this.#owed.write(this.#systemEvent('service.started', { usage: { recovered_requests: left.length } }));
    this.#producer.start();
    this.#look();
    const { producer, epoch } = this.#producer.outbox;
    log.info({ producer, epoch, recovered_requests: left.length, required }, 'audit records are kept');
  }

  get serving(): boolean {
    return !this.#options.required || this.#producer.outbox.status === 'open';
  }

  get report(): AuditReport {
    const { outbox, unsentRecords, stream, problem } = this.#producer.state;
    return { outbox, required: this.#options.required, unsentRecords, stream, problem };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  accept(accepted: AcceptedRequest, sink: GenerationSink, generation: AuditedGeneration): RequestAudit {
    const { required, spans } = this.#options;
    if (!this.serving) throw auditUnavailable();
    const onUnrecorded = (): void => this.#unrecorded.inc();
    let told: Told;
    try {
      told = this.#acceptedEvent(accepted);
    } catch (error) {
      this.#options.log.error({ err: error, request_id: accepted.requestId }, 'the audit vault failed');
      if (required) throw auditUnavailable(error);
      onUnrecorded();
      return withoutAudit(sink);
    }
    const span = startSpan(spans, 'audit.append', accepted.caller.trace, { kind: 'internal' });
    this.#receiptsPending += 1;
    return new AuditedRequest({
      facts: told.facts,
      receipt: this.#appendAccepted(told, accepted.request),
      sink,
      generation,
      required,
      owed: this.#owed,
      open: this.#open,
      ...this.#answerOf(told.subject),
      onUnrecorded,
      onReceipt: (error) => {
        this.#receiptsPending -= 1;
        span.end(error ? { error: error.code } : {});
        if (error) this.#look();
      },
    });
  }

  /** The prompt's text, where it is kept, is on disk before the record that names it. */
  async #appendAccepted({ event, subject }: Told, { prompt }: TypedRequest): Promise<Receipt> {
    const policy = this.#content?.policy(subject.tenant, 'prompt');
    if (!this.#content || !policy) return this.#producer.append(event);
    const kept = await this.#content.keep(subject, policy, { kind: 'prompt', text: promptText(prompt) });
    return this.#producer.append({ ...event, ...kept });
  }

  #answerOf(subject: Subject): Pick<AuditedRequestOptions, 'answer'> {
    const content = this.#content;
    const policy = content?.policy(subject.tenant, 'response');
    if (!content || !policy) return {};
    const keep = async (text: string): Promise<KeptFields> => {
      try {
        return await content.keep(subject, policy, { kind: 'response', text });
      } catch (error) {
        this.#options.log.error({ err: error }, 'the text of an answer cannot be kept');
        throw error;
      }
    };
    return { answer: { collect: policy.max_bytes + CONTENT_REDACTION_MARGIN_CHARS, keep } };
  }

  #acceptedEvent({ request, caller, model, requestId }: AcceptedRequest): Told {
    const { tenant, user, keyId } = caller.principal;
    const subject = this.#vault.subject({ tenant, kind: 'user', id: user });
    const prompt = promptBytes(request.prompt);
    const facts: RequestFacts = {
      tenant,
      actor: { kind: 'user', ref: subject.ref },
      target: model,
      request_id: requestId,
      trace_id: caller.trace.traceId,
    };
    const event: AuditEvent = {
      ...facts,
      action: 'request.accepted',
      outcome: 'ok',
      span_id: caller.trace.spanId,
      args_mac: subject.mac(prompt),
      sealed: subject.seal({ key_id: keyId, client_ip: plainAddress(caller.client ?? '') }),
      usage: acceptedUsage(request, promptSize(request.prompt)),
    };
    return { facts, event, subject };
  }

  authFailed(failure: AuthFailure): void {
    this.#failures.add({ ...failure, clientIp: plainAddress(failure.clientIp) });
  }

  #tellFailures({ attempts, clients, keys }: AuthFailures): void {
    try {
      const sealed = { clients: Object.fromEntries(clients), key_ids: Object.fromEntries(keys) };
      this.#owe('auth.failed', {
        outcome: 'denied',
        code: 'UNAUTHENTICATED',
        ...this.#sealed('unauthenticated', sealed),
        usage: { attempts, clients: clients.size },
      });
    } catch (error) {
      this.#options.log.error({ err: error }, 'the audit vault failed'); // the call is refused all the same
    }
  }

  keysChanged(changes: readonly KeyChange[]): void {
    for (const { kind, key } of changes.slice(0, AUDIT_KEY_CHANGES_MAX)) {
      const action = kind === 'policy' ? 'policy.changed' : (`key.${kind}` as const);
      this.#owe(action, { tenant: key.tenant, target: key.id, reason: 'KEYS_FILE' }); // who edited it nobody told us
    }
    const more = changes.length - AUDIT_KEY_CHANGES_MAX;
    if (more > 0) this.#owe('policy.changed', { target: 'keys', reason: 'KEYS_FILE', usage: { changes: more } });
  }

  engineCrashed({ model, error, requests }: { model: string; error: QuernError; requests: number }): void {
    const { code, details } = error;
    this.#owe('engine.crashed', { outcome: 'error', target: model, code, reason: details.reason, usage: { requests } });
  }

  #actor(): AuditActor {
    return { kind: 'service', ref: this.#producer.outbox.producer };
  }

  #systemEvent(action: AuditEvent['action'], over: Partial<AuditEvent> = {}): AuditEvent {
    return { tenant: SYSTEM_TENANT, actor: this.#actor(), outcome: 'ok', target: 'gateway', ...over, action };
  }

  #owe(action: AuditEvent['action'], over: Partial<AuditEvent>): void {
    void this.#owed.write(this.#systemEvent(action, over));
  }

  /** Facts about people who are nobody's users: readable by whoever has the vault. */
  #sealed(name: string, facts: { readonly [name: string]: AuditValue }): Pick<AuditEvent, 'actor' | 'sealed'> {
    const subject = this.#vault.subject({ tenant: SYSTEM_TENANT, kind: 'service', id: name });
    return { actor: { kind: 'service', ref: subject.ref }, sealed: subject.seal(facts) };
  }

  /** Finds out whether a full disk has room again, and tells when the outbox takes records again or no more. */
  #look(): void {
    const { outbox } = this.#producer;
    if (outbox.status === 'full') void outbox.retry();
    const isLarge = outbox.bytes >= AUDIT_OUTBOX_SOFT_BYTES;
    if (isLarge && !this.#wasLarge) this.#options.log.warn({ ...this.#producer.state }, 'the audit outbox grows');
    this.#wasLarge = isLarge;
    if (outbox.status === this.#lastStatus) return;
    this.#lastStatus = outbox.status;
    const facts = { outbox: outbox.status, serving: this.serving };
    if (outbox.status === 'open') this.#options.log.info(facts, 'audit records are taken again');
    else this.#options.log.error(facts, 'audit records cannot be written');
    for (const listener of this.#listeners) listener();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#failures.close();
    const until = performance.now() + AUDIT_CLOSE_MS_MAX;
    const isOwing = (): boolean => this.#receiptsPending > 0 || this.#owed.size > 0;
    while (isOwing() && this.#producer.outbox.status === 'open' && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await this.#owed.write(this.#systemEvent('service.drained', { usage: { open_requests: this.#open.size } }));
    this.#owed.close();
    clearInterval(this.#timer);
    const sent = await this.#producer.flush({ signal: new AbortController().signal });
    if (!sent) this.#options.log.info(this.report, 'audit records stay in the outbox until the next start');
    await this.#producer.close();
    await this.#content?.close();
    this.#vault.close();
    this.#options.onClosed?.();
  }
}

/**
 * Opens outbox and vault, and ends what an earlier process left open. Throws FAILED_PRECONDITION when another process writes
 * there, DATA_LOSS when safe bytes have changed.
 */
export async function openGatewayAudit(options: GatewayAuditOptions): Promise<GatewayAudit> {
  const { dir, keyDir, content: kept, log } = options;
  const opened: (() => Promise<void> | void)[] = [];
  try {
    const files = options.files ?? (await openSegmentFiles(dir));
    const open = new OpenRequests(files);
    const vault = await openVault(keyDir);
    opened.push(() => vault.close());
    const content = kept ? await ContentKeeper.open({ ...kept, log }) : null;
    opened.push(() => content?.close());
    const producer = await Producer.open({
      ...options,
      files,
      service: 'gateway',
      beforeRelease: (lastSeq) => open.carry(lastSeq),
    });
    opened.push(() => producer.close());
    await open.recover(producer.outbox);
    const audit = new ProducingAudit(options, { producer, vault, open, content });
    await audit.start();
    return audit;
  } catch (error) {
    for (const close of opened.reverse()) await close();
    throw error;
  }
}
