// The audit of one request: that it was accepted is on disk before anything of its answer leaves, and its end is told once.
import type { Timings, Usage } from '#gen/quern/common/v1/common.ts';
import type { Receipt } from '#kit/audit/outbox.ts';
import type { AuditActor, AuditEvent, AuditOutcome } from '#kit/audit/record.ts';
import { type Code, QuernError, toQuernError } from '#kit/errors.ts';
import type { GenerationSink } from '../generation-events.ts';
import { AUDIT_RECEIPT_MS_MAX } from '../limits.ts';
import type { KeptFields } from './content-keeper.ts';
import { GatedSink } from './gated-sink.ts';
import type { OpenRequests } from './open-requests.ts';
import type { OwedRecords } from './owed-records.ts';

/** How a request ended, as the generation knows it. */
export type RequestFinish = {
  /** Null: it ended well, for `reason`. */
  error: QuernError | null;
  /** Finish reason: stop, length, cancelled, superseded. */
  reason: string;
  usage: Usage;
  timings: Timings | undefined;
  /** From arrival to here. */
  latencyMs: number;
};

/** What a generation sees of the audit. */
export type RequestAudit = {
  /** Where its events go. */
  readonly sink: GenerationSink;
  /** True while the answer may not leave; `then` is called when it may. */
  holds(then: () => void): boolean;
  /** Its engine was lost. */
  affected(error: QuernError): void;
  /** Called exactly once. */
  finish(end: RequestFinish): void;
};

/** What of a generation the audit acts on. */
export type AuditedGeneration = { resume(): void; abort(reason: QuernError): void };

/** Of a request that is not recorded. */
export function withoutAudit(sink: GenerationSink): RequestAudit {
  return { sink, holds: () => false, affected: () => {}, finish: () => {} };
}

/** What all records of a request have in common. */
export type RequestFacts = { tenant: string; actor: AuditActor; target: string; request_id: string; trace_id: string };

export type AuditedRequestOptions = {
  facts: RequestFacts;
  /** Of the accepted record. */
  receipt: Promise<Receipt>;
  sink: GenerationSink;
  generation: AuditedGeneration;
  /** False: a request that cannot be recorded is served. */
  required: boolean;
  owed: OwedRecords;
  open: OpenRequests;
  /** It is served without a record. */
  onUnrecorded(): void;
  /** Keeps the answer's text; absent: the tenant's policy keeps none. */
  answer?: { collect: number; keep(text: string): Promise<KeptFields> };
  /** Its accepted record is on disk, or is not and never will be. */
  onReceipt(error: QuernError | null): void;
  receiptMsMax?: number;
};

const DENIED: ReadonlySet<Code> = new Set(['PERMISSION_DENIED', 'UNAUTHENTICATED', 'RESOURCE_EXHAUSTED']);

function outcomeOf(error: QuernError | null, reason: string): AuditOutcome {
  if (!error) return reason === 'cancelled' || reason === 'superseded' ? 'cancelled' : 'ok';
  if (error.code === 'CANCELLED') return 'cancelled';
  return DENIED.has(error.code) ? 'denied' : 'error';
}

const ms = (ns: bigint): number => Number(ns / 1_000_000n);

function finishedEvent(facts: RequestFacts, acceptedId: string, end: RequestFinish, textBytes: number): AuditEvent {
  const { error, usage, timings, latencyMs } = end;
  return {
    ...facts,
    action: 'request.finished',
    outcome: outcomeOf(error, end.reason),
    code: error?.code ?? 'OK',
    reason: error?.details.reason ?? end.reason.toUpperCase(),
    parent_id: acceptedId,
    usage: {
      prompt_tokens: usage.promptTokens,
      cached_tokens: usage.cachedTokens,
      completion_tokens: usage.completionTokens,
      response_bytes: textBytes,
      ...(timings && {
        queue_ms: ms(timings.queueNs),
        prefill_ms: ms(timings.prefillNs),
        decode_ms: ms(timings.decodeNs),
      }),
      latency_ms: Math.round(latencyMs),
    },
  };
}

/** What a client hears when its request cannot be recorded. */
export function auditUnavailable(cause?: unknown): QuernError {
  const message = 'the audit log cannot be written now, and without it no request is served; try again';
  return new QuernError('UNAVAILABLE', message, { reason: 'AUDIT_UNAVAILABLE', retryAfterMs: 1_000 }, { cause });
}

/**
 * Invariant: an end record is written if and only if the accepted record was, and after it. Both are decided by the receipt
 * alone, also when the request has ended before it.
 */
export class AuditedRequest implements RequestAudit {
  readonly sink: GatedSink;
  readonly #options: AuditedRequestOptions;
  readonly #timer: NodeJS.Timeout;
  #waiting: (() => void)[] | null = [];

  constructor(options: AuditedRequestOptions) {
    const { sink, receipt, facts, open, receiptMsMax = AUDIT_RECEIPT_MS_MAX } = options;
    this.#options = options;
    this.sink = new GatedSink(sink, options.answer?.collect);
    this.#timer = setTimeout(() => this.#unrecorded(new Error('the disk of the outbox is too slow')), receiptMsMax);
    receipt.then(
      ({ id, seq }) => {
        open.add({ id, seq, ...facts });
        options.onReceipt(null);
        this.#pass();
      },
      (error: unknown) => {
        options.onReceipt(toQuernError(error));
        this.#unrecorded(error);
      },
    );
  }

  holds(then: () => void): boolean {
    this.#waiting?.push(then);
    return this.#waiting !== null;
  }

  affected(error: QuernError): void {
    const { receipt, facts, owed } = this.#options;
    const event: Omit<AuditEvent, 'parent_id'> = {
      ...facts,
      action: 'request.affected',
      outcome: 'error',
      code: error.code,
      reason: 'ENGINE_LOST',
    };
    receipt.then(
      ({ id }) => owed.write({ ...event, parent_id: id }),
      () => {},
    );
  }

  finish(end: RequestFinish): void {
    const { receipt, facts, owed, open } = this.#options;
    this.#waiting = null; // nobody waits for the gate any more
    clearTimeout(this.#timer);
    const kept = this.#keepAnswer();
    receipt.then(
      ({ id }) => {
        const event = finishedEvent(facts, id, end, this.sink.textBytes);
        const told = (): void => open.delete(id);
        if (kept === null) void owed.write(event, told);
        else
          void owed.writeLater(
            kept.then((fields) => ({ ...event, ...fields })),
            told,
          );
      },
      () => {}, // neither record is there
    );
  }

  /** An answer that cannot be kept has gone out already: its record says that it ended, and names no text. Never rejects. */
  #keepAnswer(): Promise<KeptFields> | null {
    const { answer } = this.#options;
    const { text } = this.sink;
    return answer && text !== '' ? answer.keep(text).catch(() => ({})) : null;
  }

  #unrecorded(cause: unknown): void {
    if (this.#waiting === null) return;
    const { required, generation, onUnrecorded } = this.#options;
    if (required) {
      generation.abort(auditUnavailable(cause));
      return;
    }
    onUnrecorded();
    this.#pass();
  }

  /** The gate opens. */
  #pass(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    this.#waiting = null;
    clearTimeout(this.#timer);
    const { generation } = this.#options;
    try {
      if (this.sink.open()) generation.resume();
      for (const go of waiting) go();
    } catch (error) {
      generation.abort(toQuernError(error));
    }
  }
}
