// The gateway as a producer of audit records: who asked what and how it ended, and what happens beside (service-events.ts).
// Content never enters a record: lengths and keyed digests only.
import type { CoverageState } from '#kit/audit/coverage.ts';
import { openVault } from '#kit/audit/key-folder.ts';
import { AUDIT_OUTBOX_SOFT_BYTES, CONTENT_REDACTION_MARGIN_CHARS } from '#kit/audit/limits.ts';
import type { OutboxStatus, Receipt } from '#kit/audit/outbox.ts';
import { Producer, type ProducerOptions } from '#kit/audit/producer.ts';
import type { PublisherState } from '#kit/audit/publisher.ts';
import type { AuditEvent } from '#kit/audit/record.ts';
import { openSegmentFiles } from '#kit/audit/segment-files.ts';
import type { Subject, Vault } from '#kit/audit/vault.ts';
import type { Log } from '#kit/log.ts';
import type { CounterMetric, Metrics } from '#kit/metrics.ts';
import { type SpanSink, startSpan } from '#kit/trace.ts';
import type { Caller, GenerationSink } from '../generation-events.ts';
import { AUDIT_CLOSE_MS_MAX, AUDIT_LOOK_MS, AUDIT_RECOVERY_BATCH } from '../limits.ts';
import type { TypedRequest } from '../typed-request.ts';
import { ContentKeeper, type KeptFields } from './content-keeper.ts';
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
import { noServiceEvents, plainAddress, RecordedEvents, type ServiceEvents, serviceEvent } from './service-events.ts';

/** A request at the moment at which it is accepted. */
export type AcceptedRequest = { request: TypedRequest; caller: Caller; model: string; requestId: string };

/** For health, `quern up` and whoever looks. */
export type AuditReport = {
  outbox: OutboxStatus;
  required: boolean;
  unsentRecords: number;
  stream: PublisherState;
  /** The audit service as this gateway last heard of it, some seconds ago; null: it has none to ask. */
  service: CoverageState | null;
  /** Why records do not flow; "" = they do. */
  problem: string;
};

export type GatewayAudit = {
  /**
   * Records that a request was accepted; from now on its end must be told. Throws UNAVAILABLE, reason AUDIT_UNAVAILABLE, when
   * it cannot be recorded and must be.
   */
  accept(accepted: AcceptedRequest, sink: GenerationSink, generation: AuditedGeneration): RequestAudit;
  /** What happens beside requests. */
  readonly events: ServiceEvents;
  /** False: no request is served, because it could not be recorded. */
  readonly serving: boolean;
  /** Null: no records are kept. */
  readonly report: AuditReport | null;
  /** Told whenever `serving`, the status of the outbox or that of the audit service has changed. */
  onChange(listener: () => void): void;
  /** Writes what is owed, says goodbye, gives the stream a moment to take it all, closes. Idempotent. */
  close(): Promise<void>;
};

export const noAudit: GatewayAudit = {
  accept: (_accepted, sink) => withoutAudit(sink),
  events: noServiceEvents,
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

function acceptedUsage({ sampling, completionTokensMax }: TypedRequest, size: number): Record<string, number> {
  const most = sampling.maxTokens ?? completionTokensMax;
  return {
    prompt_bytes: size,
    choices: sampling.n ?? 1,
    ...(most !== undefined && { max_tokens: most }),
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
  readonly events: RecordedEvents;
  readonly #options: GatewayAuditOptions;
  readonly #producer: Producer;
  readonly #vault: Vault;
  readonly #content: ContentKeeper | null;
  readonly #open: OpenRequests;
  readonly #owed: OwedRecords;
  readonly #unrecorded: CounterMetric;
  readonly #listeners: (() => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  #receiptsPending = 0;
  #lastStatus: OutboxStatus = 'open';
  #lastService: CoverageState | null = null;
  #wasLarge = false;
  #closing: Promise<void> | null = null;

  constructor(options: GatewayAuditOptions, parts: AuditParts) {
    const { producer, vault, open, content } = parts;
    const { metrics, log, authWindowMs } = options;
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
    const name = producer.outbox.producer;
    this.events = new RecordedEvents({ producer: name, owed: this.#owed, vault, log, authWindowMs });
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
    await this.#owed.write(this.#serviceEvent('service.started', { usage: { recovered_requests: left.length } }));
    this.#producer.start();
    this.#look();
    const { producer, epoch } = this.#producer.outbox;
    log.info({ producer, epoch, recovered_requests: left.length, required }, 'audit records are kept');
  }

  get serving(): boolean {
    return !this.#options.required || this.#producer.outbox.status === 'open';
  }

  get report(): AuditReport {
    const { outbox, unsentRecords, stream, problem, coverage } = this.#producer.state;
    const service = coverage?.state ?? null;
    return { outbox, required: this.#options.required, unsentRecords, stream, service, problem };
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
      request_id: caller.runId ?? requestId,
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

  #serviceEvent(action: AuditEvent['action'], over: Partial<AuditEvent>): AuditEvent {
    return serviceEvent(this.#producer.outbox.producer, action, over);
  }

  /** Finds out whether a full disk has room again, and tells when the outbox takes records again or no more. */
  #look(): void {
    const { outbox } = this.#producer;
    if (outbox.status === 'full') void outbox.retry();
    const isLarge = outbox.bytes >= AUDIT_OUTBOX_SOFT_BYTES;
    if (isLarge && !this.#wasLarge) this.#options.log.warn({ ...this.#producer.state }, 'the audit outbox grows');
    this.#wasLarge = isLarge;
    const { service } = this.report;
    const hasServiceChanged = service !== this.#lastService; // why is in the log already
    this.#lastService = service;
    if (outbox.status !== this.#lastStatus) this.#tellStatus();
    else if (!hasServiceChanged) return;
    for (const listener of this.#listeners) listener();
  }

  #tellStatus(): void {
    const { outbox } = this.#producer;
    this.#lastStatus = outbox.status;
    const facts = { outbox: outbox.status, serving: this.serving };
    if (outbox.status === 'open') this.#options.log.info(facts, 'audit records are taken again');
    else this.#options.log.error(facts, 'audit records cannot be written');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.events.close();
    const until = performance.now() + AUDIT_CLOSE_MS_MAX;
    const isOwing = (): boolean => this.#receiptsPending > 0 || this.#owed.size > 0;
    while (isOwing() && this.#producer.outbox.status === 'open' && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await this.#owed.write(this.#serviceEvent('service.drained', { usage: { open_requests: this.#open.size } }));
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
