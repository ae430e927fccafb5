// The audit service: reads the stream into the ledger, signs checkpoints, answers who asked what and proves it.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AuditServiceService } from '#gen/quern/audit/v1/audit.ts';
import { signerOf, verifierKey } from '#kit/audit/checkpoint.ts';
import { newestCheckpoint, sizeOf } from '#kit/audit/checkpoint-file.ts';
import { type AskCoverage, Coverage } from '#kit/audit/coverage.ts';
import { CHECKPOINTS_FILE, LEDGER_FOLDER } from '#kit/audit/ledger-folder.ts';
import { NatsLink } from '#kit/audit/nats-link.ts';
import { Outbox } from '#kit/audit/outbox.ts';
import { lockOutbox } from '#kit/audit/outbox-lock.ts';
import { watchOutbox } from '#kit/audit/outbox-metrics.ts';
import { Publisher } from '#kit/audit/publisher.ts';
import { openSegmentFiles, type SegmentFiles } from '#kit/audit/segment-files.ts';
import { auditSubject, ensureAuditStream, producerStream } from '#kit/audit/stream.ts';
import { Vault } from '#kit/audit/vault.ts';
import { QuernError } from '#kit/errors.ts';
import { serverAccess } from '#kit/internal-access.ts';
import type { Log } from '#kit/log.ts';
import { type Metrics, serveMetrics } from '#kit/metrics.ts';
import { type CallContext, defineService, startRpcServer } from '#kit/rpc/server.ts';
import { noSpans, type SpanSink } from '#kit/trace.ts';
import { keepAgeing } from './ageing.ts';
import { countBatches, watchAudit } from './audit-metrics.ts';
import { CheckpointWriter } from './checkpoints.ts';
import type { AuditConfig } from './config.ts';
import { AuditConsumer } from './consumer.ts';
import type { AuditContext } from './context.ts';
import { type CoverageListenerOptions, serveCoverage } from './coverage-listener.ts';
import { GapWatch, systemEvent } from './gap-watch.ts';
import { auditKeys } from './key-files.ts';
import { Ledger } from './ledger.ts';
import { CHECKPOINT_LOOK_MS, HEALTH_LOOK_MS, READER_STALL_MS } from './limits.ts';
import { type OperatorAction, Operators } from './operators.ts';
import { Projection } from './projection.ts';
import { RetentionClock } from './retention-clock.ts';
import { erase } from './rpc/erase.ts';
import { exportLog } from './rpc/export.ts';
import { getCoverage } from './rpc/get-coverage.ts';
import { getHead } from './rpc/get-head.ts';
import { prove } from './rpc/prove.ts';
import { query } from './rpc/query.ts';
import { tail } from './rpc/tail.ts';
import { verify } from './rpc/verify.ts';
import { type BatchResult, LedgerWriter } from './writer.ts';

const SERVICE = 'quern.audit.v1.AuditService';

export type AuditService = {
  readonly address: string;
  /** Resolves with the reason when nothing can be recorded any more: the process must be started again. It never rejects. */
  readonly failed: Promise<Error>;
  drain(options: { graceMs: number }): Promise<void>;
  close(): Promise<void>;
};

export type AuditServiceOptions = {
  config: AuditConfig;
  log: Log;
  metrics: Metrics;
  spans?: SpanSink;
  /** For tests: files of the ledger that fail. */
  ledgerFiles?: SegmentFiles;
  readerStallMs?: number;
};

/** What was opened, to be closed in reverse. */
type Undo = () => Promise<void> | void;

async function openOutbox(
  { config, log, metrics, spans = noSpans }: AuditServiceOptions,
  link: NatsLink,
  undo: Undo[],
): Promise<Outbox> {
  const outbox = await Outbox.open({ dir: join(config.dir, 'outbox'), service: 'audit' });
  undo.push(() => outbox.close());
  const stream = producerStream(
    () => link.get(),
    auditSubject('audit', outbox.producer),
    () => ensureAuditStream(link.get(), { maxBytes: config.streamBytes }),
  );
  const publisher = new Publisher({ outbox, stream, log, spans });
  publisher.start();
  undo.push(() => publisher.close());
  watchOutbox(metrics, () => ({ outbox, publisher }));
  return outbox;
}

/** A view of records that the ledger does not have any more is made anew; then the stream is read again from its beginning. */
async function openView(path: string, ledger: Ledger): Promise<Projection> {
  const found = Projection.open(path);
  if (found.nextIndex <= ledger.size) return found;
  found.close();
  for (const suffix of ['', '-wal', '-shm']) await rm(`${path}${suffix}`, { force: true });
  return Projection.open(path);
}

async function openContext(options: AuditServiceOptions, stopping: AbortSignal, undo: Undo[]): Promise<AuditContext> {
  const { config, log, metrics, spans = noSpans } = options;
  // First of all: opening a ledger cuts what looks like a torn last write, which may be another process's write under way.
  await mkdir(config.dir, { recursive: true, mode: 0o700 });
  undo.push(await lockOutbox(config.dir));
  const keys = await auditKeys(config);
  const vault = Vault.open(keys.vaultPath, keys.vault);
  undo.push(() => vault.close());
  const files = options.ledgerFiles;
  const path = join(config.dir, CHECKPOINTS_FILE);
  const newest = await newestCheckpoint(path);
  const signedRecords = newest ? sizeOf(newest.note) : 0;
  const ledger = await Ledger.open({ dir: join(config.dir, LEDGER_FOLDER), signedRecords, ...(files && { files }) });
  undo.push(() => ledger.close());
  const projection = await openView(join(config.dir, 'view.sqlite'), ledger);
  undo.push(() => projection.close());
  const signer = signerOf(config.origin, keys.signing);
  const checkpoints = await CheckpointWriter.open({ tree: ledger, signer, path, witnesses: config.witnesses, log });
  const writer = await LedgerWriter.open(ledger, projection, log);
  const link = new NatsLink({ servers: config.nats, name: 'quern-audit', log });
  link.start();
  undo.push(() => link.close());
  const outbox = await openOutbox(options, link, undo);
  const stream = { maxBytes: config.streamBytes };
  const count = countBatches(metrics);
  const gaps = new GapWatch({ projection, outbox, log });
  gaps.start();
  undo.push(() => gaps.close());
  const onBatch = (result: BatchResult): void => {
    count(result);
    gaps.saw(result.alarms);
  };
  const consumer = new AuditConsumer({ link, stream, writer, log, spans, onBatch });
  consumer.start();
  undo.push(() => consumer.close());
  const clockFiles = await openSegmentFiles(config.dir);
  const clock = await RetentionClock.open({ files: clockFiles, log, newestTs: checkpoints.latest?.ts ?? null });
  undo.push(keepAgeing({ ledger, projection }, { clock, config, log }));
  watchAudit(metrics, {
    clockAheadMs: () => clock.aheadMs,
    consumer: () => consumer.stats,
    ledgerRecords: () => ledger.size,
    viewRecords: () => projection.nextIndex,
    checkpointTs: () => checkpoints.latest?.ts ?? null,
    witnesses: () => checkpoints.witnesses,
    nats: () => link.get(),
  });
  const content = config.contentDir === null ? null : await openSegmentFiles(config.contentDir);
  const operators = new Operators({ outbox, log, hasToken: config.operatorToken !== null });
  const kept = { ledger, projection, checkpoints, vault, outbox, operators, content };
  return {
    ...kept,
    verifier: signer,
    stopping,
    readerStallMs: options.readerStallMs ?? READER_STALL_MS,
    consumerStats: () => consumer.stats,
  };
}

/** Why nothing can be recorded until the process starts again; null: it can. */
function failureOf({ consumerStats, outbox, ledger }: AuditContext): QuernError | null {
  const { state, reason } = consumerStats();
  const failure = (what: string, word: string): QuernError =>
    new QuernError('UNAVAILABLE', `${what}; the service starts again, which loses nothing`, { reason: word });
  if (state === 'failed' || ledger.hasFailed)
    return failure(`the audit ledger takes no more records (${reason})`, 'AUDIT_LEDGER_FAILED');
  if (outbox.status === 'failed') return failure("the disk of the service's own outbox failed", 'AUDIT_OUTBOX_FAILED');
  return null;
}

/** What was changed on the disk is in the log for good; what stood there before comes again from the stream, or is a gap too. */
async function tellAsides({ ledger, outbox }: AuditContext, log: Log): Promise<void> {
  for (const aside of ledger.asides.filter(({ told }) => !told)) {
    const { name, firstIndex, leaves, segment, offset } = aside;
    const usage = { first_index: firstIndex, records: leaves.length };
    log.error(
      { file: name, segment, offset, ...usage },
      'THE END OF THE AUDIT LEDGER HAD BEEN CHANGED: it is set aside',
    );
    const event = systemEvent(outbox.producer, 'audit.gap', {
      outcome: 'error',
      target: 'ledger',
      reason: 'END_ALTERED',
      usage,
    });
    await outbox.append(event).then(
      () => ledger.tell(aside),
      (error: unknown) =>
        log.error({ err: error }, 'that the end of the ledger had been changed could not be recorded'),
    );
  }
}

/** That the service came, and, when it goes, that it went; a log without the second was left by a crash. */
async function tellStartAndDrain({ outbox }: AuditContext, log: Log, undo: Undo[]): Promise<void> {
  const tell = async (action: 'service.started' | 'service.drained'): Promise<void> => {
    await outbox
      .append(systemEvent(outbox.producer, action))
      .catch((error: unknown) => log.error({ err: error, action }, 'an audit record of the service was not kept'));
  };
  await tell('service.started');
  undo.push(() => tell('service.drained'));
}

/** Signs in the background; what is new at the end is signed too. */
function keepSigning({ checkpoints, ledger }: AuditContext, log: Log, undo: Undo[]): void {
  let signing: Promise<unknown> = Promise.resolve();
  const sign = (now: boolean): void => {
    if (ledger.hasFailed) return; // what it holds is known again when it is next opened
    signing = signing
      .then(() => checkpoints.sign({ now }))
      .catch((error: unknown) => log.error({ err: error }, 'a checkpoint could not be signed'));
  };
  const timer = setInterval(() => sign(false), CHECKPOINT_LOOK_MS);
  undo.push(async () => {
    clearInterval(timer);
    sign(true);
    await signing;
    await checkpoints.close();
  });
}

/** The service's own outbox lets go as every producer's does: by what it checks of its own log. */
async function keepReleasing(context: AuditContext, { config, log }: AuditServiceOptions, undo: Undo[]): Promise<void> {
  const { outbox, verifier } = context;
  const files = await openSegmentFiles(join(config.dir, 'outbox'));
  const ask: AskCoverage = (request) => getCoverage(context, request);
  const coverage = await Coverage.open({ outbox, files, ask, pinned: verifierKey(verifier), log });
  coverage.start();
  undo.push(() => coverage.close());
}

async function undoAll(undo: Undo[], log: Log): Promise<void> {
  for (const action of undo.splice(0).reverse()) {
    await (async () => action())().catch((error: unknown) => log.error({ err: error }, 'closing failed'));
  }
}

/** Opens the ledger, then listens. Throws one QuernError when the ledger, a key or the address is not usable. */
export async function startAudit(options: AuditServiceOptions): Promise<AuditService> {
  const { config, log, metrics } = options;
  const undo: Undo[] = [];
  try {
    const stopping = new AbortController();
    const context = await openContext(options, stopping.signal, undo);
    keepSigning(context, log, undo);
    await keepReleasing(context, options, undo);
    const asked = async <T>({ principal }: CallContext, action: OperatorAction, work: () => Promise<T>): Promise<T> => {
      await context.operators.require(principal, action);
      return work();
    };
    const server = await startRpcServer({
      service: 'audit',
      listen: [config.listen],
      services: [
        defineService(AuditServiceService, {
          query: (request, call, out) =>
            asked(call, request.exports ? 'audit.exported' : 'audit.read', () => query(context, request, call, out)),
          getHead: () => getHead(context),
          prove: (request) => prove(context, request),
          getCoverage: (request) => getCoverage(context, request),
          verify: (request, call, out) => asked(call, 'audit.read', () => verify(context, request, call, out)),
          export: (request, call, out) => asked(call, 'audit.exported', () => exportLog(context, request, call, out)),
          tail: (request, call, out) => asked(call, 'audit.read', () => tail(context, request, call, out)),
          erase: (request, call) => asked(call, 'audit.erased', () => erase(context, request, call)),
        }),
      ],
      ...serverAccess(config.internal),
      ...(config.operatorToken !== null && { operatorToken: config.operatorToken }),
      requireDeadline: true,
      log,
      metrics,
      spans: options.spans ?? noSpans,
    });
    await tellStartAndDrain(context, log, undo);
    await tellAsides(context, log);
    undo.push(() => server.close());
    if (config.coverage) {
      const answer: CoverageListenerOptions['answer'] = (request) => getCoverage(context, request);
      const { internal } = config;
      undo.push(await serveCoverage(config.coverage, { answer, internal, log, spans: options.spans ?? noSpans }));
    }
    if (config.metricsListen) {
      const ready = (): boolean => failureOf(context) === null;
      const scrape = await serveMetrics({ ...config.metricsListen, metrics, ready });
      undo.push(() => scrape.close());
    }
    const { promise: failed, resolve: fail } = Promise.withResolvers<Error>();
    const look = (): void => {
      const problem = failureOf(context);
      if (context.outbox.status === 'full') void context.outbox.retry(); // a disk that has room again need not wait for a record
      for (const name of ['', SERVICE]) server.setServing(name, problem === null);
      if (problem) fail(problem);
    };
    look();
    const timer = setInterval(look, HEALTH_LOOK_MS);
    undo.push(() => clearInterval(timer));
    return {
      address: server.addresses[0]!,
      failed,
      drain: ({ graceMs }) => {
        stopping.abort();
        return server.drain(graceMs);
      },
      close: () => {
        stopping.abort();
        return undoAll(undo, log);
      },
    };
  } catch (error) {
    await undoAll(undo, log);
    throw error;
  }
}
