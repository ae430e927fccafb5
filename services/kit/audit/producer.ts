// A producer of audit records: the outbox of one service, its way to the stream, and what it may let go of. The outbox works
// alone; NATS and the audit service may come and go.
import type { NatsConnection } from '@nats-io/transport-node';
import { QuernError } from '#kit/errors.ts';
import type { Log } from '#kit/log.ts';
import type { CounterMetric, Metrics } from '#kit/metrics.ts';
import type { SpanSink } from '#kit/trace.ts';
import { type AskCoverage, COVERAGE_ALARMS, COVERAGE_STATES, Coverage, type CoverageStats } from './coverage.ts';
import { PRODUCER_FLUSH_MS } from './limits.ts';
import { NatsLink } from './nats-link.ts';
import { Outbox, type OutboxOptions, type OutboxStatus, type Receipt } from './outbox.ts';
import { setState, watchOutbox } from './outbox-metrics.ts';
import { Publisher, type PublisherState } from './publisher.ts';
import type { AuditEvent } from './record.ts';
import { openSegmentFiles } from './segment-files.ts';
import { auditSubject, producerStream } from './stream.ts';

export type ProducerOptions = Omit<OutboxOptions, 'service'> & {
  /** "gateway": names the subject and the producer. */
  service: string;
  /** 'nats://host:port', several separated by commas. */
  servers: string;
  /** Called before the stream is used, as to make it. Default: the audit service makes it. */
  prepare?: (connection: NatsConnection) => Promise<void>;
  /** Null: nobody to ask; segments stay until they are full. */
  coverage: { ask: AskCoverage; verifierKey: string | null } | null;
  /** How often it is asked. */
  coverageEveryMs?: number;
  /** Called before records up to a number are let go. */
  beforeRelease?: (lastSeq: number) => Promise<void>;
  log: Log;
  metrics: Metrics;
  /** Takes one span per publish. Default: nowhere. */
  spans?: SpanSink;
};

export type ProducerState = {
  outbox: OutboxStatus;
  bytes: number;
  /** Records that the stream does not have, and the age of the oldest. */
  unsentRecords: number;
  oldestUnsentMs: number;
  stream: PublisherState;
  /** Why records do not flow; "" = they do. */
  problem: string;
  coverage: CoverageStats | null;
};

export class Producer {
  readonly outbox: Outbox;
  readonly #link: NatsLink;
  readonly #publisher: Publisher;
  readonly #coverage: Coverage | null;
  readonly #appended: CounterMetric;
  readonly #refused: CounterMetric;

  private constructor(outbox: Outbox, link: NatsLink, coverage: Coverage | null, options: ProducerOptions) {
    const { service, log, metrics, prepare = () => Promise.resolve() } = options;
    this.outbox = outbox;
    this.#link = link;
    this.#coverage = coverage;
    const subject = auditSubject(service, outbox.producer);
    const stream = producerStream(
      () => link.get(),
      subject,
      () => prepare(link.get()),
    );
    this.#publisher = new Publisher({ outbox, stream, log, ...(options.spans && { spans: options.spans }) });
    const labels = ['action'];
    this.#appended = metrics.counter({
      name: 'quern_audit_appended_records_total',
      help: 'Records on disk, by action',
      labels,
    });
    this.#refused = metrics.counter({
      name: 'quern_audit_refused_records_total',
      help: 'Records that the outbox did not take, by action',
      labels,
    });
    this.#watch(metrics, options.hardBytes);
  }

  /**
   * Opens the outbox; nothing is sent before start(). Throws FAILED_PRECONDITION when another process writes there, DATA_LOSS
   * when safe bytes have changed, INVALID_ARGUMENT for a malformed address or key.
   */
  static async open(options: ProducerOptions): Promise<Producer> {
    const { dir, service, servers, log, coverage, beforeRelease } = options;
    const files = options.files ?? (await openSegmentFiles(dir));
    const link = new NatsLink({ servers, name: `quern-${service}`, log });
    const outbox = await Outbox.open({ ...options, files });
    try {
      const keeper =
        coverage &&
        (await Coverage.open({
          outbox,
          files,
          ask: coverage.ask,
          pinned: coverage.verifierKey,
          log,
          ...(beforeRelease && { beforeRelease }),
          ...(options.coverageEveryMs !== undefined && { everyMs: options.coverageEveryMs }),
        }));
      return new Producer(outbox, link, keeper, options);
    } catch (error) {
      await outbox.close();
      throw error;
    }
  }

  /** Connects, sends and asks for coverage from now on. */
  start(): void {
    this.#link.start();
    this.#publisher.start();
    this.#coverage?.start();
  }

  /** Resolves when the record is on disk. Rejects with UNAVAILABLE when it is not and never will be. */
  async append(event: AuditEvent): Promise<Receipt> {
    try {
      const receipt = await this.outbox.append(event);
      this.#appended.inc({ action: event.action });
      return receipt;
    } catch (error) {
      this.#refused.inc({ action: event.action });
      throw error;
    }
  }

  get state(): ProducerState {
    const { state: stream, reason, unsentRecords, oldestUnsentMs } = this.#publisher.stats;
    return {
      outbox: this.outbox.status,
      bytes: this.outbox.bytes,
      unsentRecords,
      oldestUnsentMs,
      stream,
      problem: this.#link.problem ?? reason,
      coverage: this.#coverage?.stats ?? null,
    };
  }

  /** Sends what there is, for at most `limitMs`; answers whether the stream has it all. Does not wait for a NATS that is away. */
  async flush(options: { signal: AbortSignal; limitMs?: number }): Promise<boolean> {
    const limit = AbortSignal.timeout(options.limitMs ?? PRODUCER_FLUSH_MS);
    const away = new AbortController();
    const look = setInterval(() => {
      if (this.#link.problem !== null) away.abort(new QuernError('UNAVAILABLE', 'NATS is away'));
    }, 20);
    try {
      return await this.#publisher.flushed(AbortSignal.any([options.signal, limit, away.signal]));
    } finally {
      clearInterval(look);
    }
  }

  /** Writes what waits and gives the folder back. */
  async close(): Promise<void> {
    await this.#coverage?.close();
    await this.#publisher.close();
    await this.#link.close();
    await this.outbox.close();
  }

  #watch(metrics: Metrics, hardBytes: number | undefined): void {
    const { outbox } = this;
    watchOutbox(metrics, () => ({ outbox, publisher: this.#publisher, ...(hardBytes !== undefined && { hardBytes }) }));
    metrics.gauge({
      name: 'quern_audit_covered_records',
      help: 'Records of this producer that a checked checkpoint covers',
      collect: (set) => set(this.#coverage?.stats.coveredSeq ?? 0),
    });
    metrics.gauge({
      name: 'quern_audit_coverage_state',
      help: '1 for what the audit service last said: ok, waiting (not asked yet), unreachable or alarm; all 0: nobody is asked',
      labels: ['state'],
      collect: (set) => setState(set, COVERAGE_STATES, this.#coverage?.stats.state ?? ''),
    });
    metrics.gauge({
      name: 'quern_audit_coverage_alarms',
      help: 'Answers since the start in which the audit log was not what it was, by what was wrong; must be 0',
      labels: ['alarm'],
      collect: (set) => {
        for (const alarm of COVERAGE_ALARMS) set(this.#coverage?.stats.alarms.get(alarm) ?? 0, { alarm });
      },
    });
  }
}
