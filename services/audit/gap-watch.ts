// Records that never came: a hole in a producer's numbers that stays is written into the log, once. What closes by itself, as
// when the stream gave messages out of order or was mended from an outbox, is none.
import type { Outbox } from '#kit/audit/outbox.ts';
import { type AuditEvent, SYSTEM_TENANT } from '#kit/audit/record.ts';
import type { Log } from '#kit/log.ts';
import type { Alarm } from './ingest.ts';
import { GAP_GRACE_MS, GAP_LOOK_MS, GAPS_WATCHED_MAX } from './limits.ts';
import type { Gap, Projection } from './projection.ts';

export type GapWatchOptions = {
  projection: Projection;
  outbox: Pick<Outbox, 'append' | 'producer'>;
  log: Log;
  graceMs?: number;
};

/** A record of the service about itself or about the log. */
export function systemEvent(
  producer: string,
  action: Extract<AuditEvent['action'], 'service.started' | 'service.drained' | 'audit.gap'>,
  over: Partial<AuditEvent> = {},
): AuditEvent {
  const actor = { kind: 'service', ref: producer } as const;
  return { tenant: SYSTEM_TENANT, actor, outcome: 'ok', target: 'audit', ...over, action };
}

export class GapWatch {
  readonly #options: GapWatchOptions;
  readonly #watched = new Map<string, { gap: Gap; sinceMs: number }>();
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();

  /** Holes that are in the view already are watched from now on. */
  constructor(options: GapWatchOptions) {
    this.#options = options;
    for (const gap of options.projection.gaps()) this.#watch(gap);
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.look(), GAP_LOOK_MS);
  }

  /** What a batch of the stream showed. */
  saw(alarms: readonly Alarm[]): void {
    for (const alarm of alarms) {
      if (alarm.kind !== 'gap') continue;
      const { producer, expectedSeq, seq } = alarm;
      this.#watch({ producer, firstSeq: expectedSeq, lastSeq: seq - 1 });
    }
  }

  #watch(gap: Gap): void {
    const name = `${gap.producer} ${gap.firstSeq}`;
    // Beyond that the view still knows each producer's first hole, and the next start watches it.
    if (this.#watched.has(name) || this.#watched.size >= GAPS_WATCHED_MAX) return;
    this.#watched.set(name, { gap, sinceMs: performance.now() });
  }

  /** Writes down the holes that have stayed for long enough. Resolves when they are on disk. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { projection, log, graceMs = GAP_GRACE_MS } = this.#options;
    for (const [name, { gap, sinceMs }] of this.#watched) {
      if (performance.now() - sinceMs < graceMs) continue;
      try {
        const missing = projection.missingOf(gap);
        if (missing > 0 && !projection.hasGapRecord(gap)) await this.#record(gap, missing);
        this.#watched.delete(name);
      } catch (error) {
        log.error({ err: error, gap }, 'a gap in the audit log could not be recorded');
        return; // the next look tries again
      }
    }
  }

  async #record(gap: Gap, missing: number): Promise<void> {
    const { outbox, log } = this.#options;
    const { producer: target, firstSeq, lastSeq } = gap;
    const usage = { first_seq: firstSeq, last_seq: lastSeq, missing };
    const over = { outcome: 'unknown', reason: 'RECORDS_MISSING', target, usage } as const;
    await outbox.append(systemEvent(outbox.producer, 'audit.gap', over));
    log.error({ gap, missing }, 'records of a producer never came: the gap is recorded');
  }

  async close(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
  }
}
