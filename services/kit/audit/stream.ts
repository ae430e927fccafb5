// The JetStream stream AUDIT: transport and buffer between the outboxes and the ledger. It never drops what it holds before
// its time and refuses what it has no room for; the guarantee lies in the outbox and in the ledger, not here.
import {
  DiscardPolicy,
  JetStreamApiError,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream';
import { headers, type MsgHdrs, type NatsConnection, nanos } from '@nats-io/transport-node';
import { QuernError } from '#kit/errors.ts';
import { extract, inject, type TraceContext } from '#kit/trace.ts';
import {
  AUDIT_STREAM_AGE_MS,
  AUDIT_STREAM_DUPLICATES_MS,
  AUDIT_STREAM_MESSAGE_BYTES_MAX,
  PUBLISH_TIMEOUT_MS,
} from './limits.ts';
import type { ProducerStream, PublishVerdict, StreamMessage } from './publisher.ts';

export const AUDIT_STREAM = 'AUDIT';
export const AUDIT_SUBJECTS = 'audit.v1.*.*';
/** SHA-256 of the message's bytes, hex: tells one of ours from another writer's with the same id. */
export const FRAME_SHA256_HEADER = 'Quern-Frame-Sha256';

/** JetStream error codes (nats-server, errors.json). */
const WRONG_LAST_SEQUENCE = 10071;
const FULL: ReadonlySet<number> = new Set([10077, 10076, 10047, 10023]);
const NO_MESSAGE = 10037;
const STREAM_NOT_FOUND = 10059;

/** The sender's span of a message, by its headers; null when it names none. */
export function senderOf(found: MsgHdrs | undefined): TraceContext | null {
  return extract(found?.get('traceparent') || undefined, found?.get('tracestate') || undefined);
}

/** One subject per producer: no tenant and no user in it, because subjects show in monitoring. */
export function auditSubject(service: string, producer: string): string {
  for (const token of [service, producer]) {
    if (/^[A-Za-z0-9_-]{1,64}$/.test(token)) continue;
    const message = `audit subject: expected letters, digits, "-" and "_", got "${token}"`;
    throw new QuernError('INVALID_ARGUMENT', message, { reason: 'AUDIT_SUBJECT_INVALID' });
  }
  return `audit.v1.${service}.${producer}`;
}

export type AuditStreamOptions = { maxBytes: number; replicas?: number };

/** Why a stream of this name cannot carry the audit log, or null. Limits may differ: they are the operator's. */
function unfit({ discard, storage, deny_delete, deny_purge }: StreamConfig): string | null {
  if (storage !== StorageType.File) return 'storage must be file';
  if (discard !== DiscardPolicy.New) return 'discard must be new: it may not drop what it holds';
  if (!deny_delete || !deny_purge) return 'deny_delete and deny_purge must be set';
  return null;
}

/** Makes the stream if there is none. Throws FAILED_PRECONDITION when there is one that could lose records. */
export async function ensureAuditStream(connection: NatsConnection, options: AuditStreamOptions): Promise<void> {
  const admin = await jetstreamManager(connection);
  const found = await admin.streams.info(AUDIT_STREAM).catch((error: unknown) => {
    if (error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND) return null;
    throw error;
  });
  if (found) {
    const problem = unfit(found.config);
    if (problem === null) return;
    const message = `the NATS stream ${AUDIT_STREAM} is not fit for the audit log: ${problem}; deploy/nats/nats.conf lists its options`;
    throw new QuernError('FAILED_PRECONDITION', message, { reason: 'AUDIT_STREAM_UNFIT' });
  }
  await admin.streams.add({
    name: AUDIT_STREAM,
    subjects: [AUDIT_SUBJECTS],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    num_replicas: options.replicas ?? 1,
    max_age: nanos(AUDIT_STREAM_AGE_MS),
    max_bytes: options.maxBytes,
    max_msg_size: AUDIT_STREAM_MESSAGE_BYTES_MAX,
    duplicate_window: nanos(AUDIT_STREAM_DUPLICATES_MS),
    deny_delete: true,
    deny_purge: true,
    allow_direct: true,
  });
}

function verdictOf(error: unknown): PublishVerdict {
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof JetStreamApiError)) return { ok: false, reason: 'failed', message };
  if (error.code === WRONG_LAST_SEQUENCE) return { ok: false, reason: 'wrong_last', message };
  return { ok: false, reason: FULL.has(error.code) ? 'full' : 'failed', message };
}

/**
 * A producer's subject. A publish that is in flight when the server dies is neither failed nor delivered by the client
 * library, so it has a time limit of its own and is sent again: the stream drops it by its id if it was stored.
 */
export function producerStream(
  connect: () => NatsConnection,
  subject: string,
  prepare: () => Promise<void>,
): ProducerStream {
  return {
    async publish({ id, bytes, sha256, trace }: StreamMessage, { expectedSeq }): Promise<PublishVerdict> {
      const messageHeaders = headers();
      messageHeaders.set(FRAME_SHA256_HEADER, sha256);
      if (trace) for (const [name, value] of Object.entries(inject(trace))) messageHeaders.set(name, value);
      try {
        const { seq, duplicate } = await jetstream(connect()).publish(subject, bytes, {
          msgID: id,
          headers: messageHeaders,
          expect: { streamName: AUDIT_STREAM, lastSubjectSequence: expectedSeq },
          timeout: PUBLISH_TIMEOUT_MS,
          retries: 0,
        });
        return { ok: true, streamSeq: seq, duplicate };
      } catch (error) {
        return verdictOf(error);
      }
    },
    async last() {
      await prepare();
      const admin = await jetstreamManager(connect());
      try {
        const message = await admin.direct.getMessage(AUDIT_STREAM, { last_by_subj: subject });
        if (!message) return null;
        const { header, seq } = message;
        return { id: header.get('Nats-Msg-Id'), sha256: header.get(FRAME_SHA256_HEADER), streamSeq: seq };
      } catch (error) {
        if (error instanceof JetStreamApiError && error.code === NO_MESSAGE) return null;
        throw error;
      }
    },
  };
}
