// The audit record (schema 1): who did what, when, to what, with what outcome. Its bytes are canonical JSON and are hashed,
// stored, sent and verified exactly as they are. Content never enters it: lengths, keyed digests and references only.
import { hash } from 'node:crypto';
import { QuernError } from '#kit/errors.ts';
import { AUDIT_RECORD_BYTES_MAX } from './limits.ts';

export const AUDIT_RECORD_VERSION = 1;

export const AUDIT_ACTIONS = [
  'request.accepted',
  'request.finished',
  'request.affected',
  'agent.started',
  'agent.finished',
  'tool.requested',
  'tool.approved',
  'tool.denied',
  'tool.finished',
  'tool.registered',
  'tool.removed',
  'sandbox.capability',
  'auth.failed',
  'key.created',
  'key.revoked',
  'policy.changed',
  'model.loaded',
  'model.rejected',
  'engine.crashed',
  'audit.gap',
  'audit.read',
  'audit.exported',
  'audit.erased',
  'service.started',
  'service.drained',
] as const;
export type AuditAction = (typeof AUDIT_ACTIONS)[number];

export const AUDIT_OUTCOMES = ['ok', 'denied', 'error', 'cancelled', 'unknown'] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

export type AuditActor = {
  kind: 'user' | 'api_key' | 'service' | 'model' | 'operator';
  /** A random pseudonym from the mapping table, never the id itself. */
  ref: string;
};

/** Canonical values: integers only, so that every writer gives the same bytes. */
export type AuditValue =
  | string
  | number
  | boolean
  | null
  | readonly AuditValue[]
  | { readonly [key: string]: AuditValue };

/** What a service says; the outbox adds producer, epoch, seq, prev, id and the clocks. */
export type AuditEvent = {
  tenant: string;
  actor: AuditActor;
  action: AuditAction;
  outcome: AuditOutcome;
  /** What was acted on: a model's name, a key's id. "" = nothing in particular. */
  target?: string;
  /** gRPC code's name, where a call ended. */
  code?: string;
  /** UPPER_SNAKE reason word. */
  reason?: string;
  request_id?: string;
  /** The record that this one ends or belongs to: of a request.finished its request.accepted, of a tool.* its tool.requested. */
  parent_id?: string;
  trace_id?: string;
  span_id?: string;
  /** Of tool.*: ULID of the call, as in its spans and its Started event. */
  execution_id?: string;
  /** Of tool.*: SHA-256 of the tool's definition, hex. */
  tool_sha?: string;
  /** Of tool.requested: the version that the definition names. */
  tool_version?: string;
  policy_sha?: string;
  /** Of model.loaded: SHA-256 that identifies the weights, hex. */
  model_sha?: string;
  /** Pointer into the content store, when the tenant's policy keeps content. */
  content_ref?: string;
  /** HMAC-SHA-256 of the content under the user's key, hex: plain digests of short inputs can be guessed. */
  args_mac?: string;
  /** Identifying facts (client address, key id) under the user's key, base64: unreadable once the user is erased. */
  sealed?: string;
  /** Integers: tokens, bytes, milliseconds. */
  usage?: { readonly [key: string]: number };
  /** Hits per redaction rule. */
  redactions?: { readonly [rule: string]: number };
};

/** Where a record stands in its producer's chain. */
export type AuditPlace = {
  producer: string;
  /** Starts of this producer, from 1. */
  epoch: number;
  /** Gapless per producer, from 1. */
  seq: number;
  /** SHA-256 of the bytes of record seq - 1, hex; zeros before the first. */
  prev: string;
};

export type AuditStamp = {
  /** UUIDv7. */
  id: string;
  /** RFC 3339, UTC, milliseconds. */
  ts: string;
  /** Monotonic clock of the producer's process in nanoseconds, decimal: order and durations survive clock steps. */
  mono_ns: string;
};

export type AuditRecord = { v: number } & AuditPlace & AuditStamp & AuditEvent;

/** The tenant of records about the service itself; no key can have this name. */
export const SYSTEM_TENANT = '_system';

export const NO_RECORD_SHA256 = '0'.repeat(64);

export function sha256Hex(bytes: Buffer): string {
  return hash('sha256', bytes, 'hex');
}

function invalid(message: string): QuernError {
  return new QuernError('INVALID_ARGUMENT', `audit record: ${message}`, { reason: 'AUDIT_RECORD_INVALID' });
}

/** `path` is what a mistake is told by, and made only then: records are written on the path of every request. */
function canonicalText(value: AuditValue | undefined, path: () => string): string {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw invalid(`${path()}: expected well-formed text, got a lone surrogate`);
    return JSON.stringify(value);
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw invalid(`${path()}: expected a whole number below 2^53, got ${value}`);
    return value === 0 ? '0' : String(value); // no -0
  }
  if (value === null || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return `[${value.map((one, i) => canonicalText(one, () => `${path()}[${i}]`)).join(',')}]`;
  if (typeof value !== 'object') throw invalid(`${path()}: expected a JSON value, got ${typeof value}`);
  const members = value as { [key: string]: AuditValue | undefined };
  let text = '{';
  for (const key of Object.keys(members).sort()) {
    const one = members[key];
    if (one === undefined) continue;
    if (text.length > 1) text += ',';
    text += `${canonicalText(key, path)}:`;
    text += canonicalText(one, () => (path() === '' ? key : `${path()}.${key}`));
  }
  return `${text}}`;
}

/** UTF-8, keys sorted by UTF-16 units, no blanks, integers only; undefined members are left out. Throws INVALID_ARGUMENT. */
export function canonicalBytes(value: AuditValue | object): Buffer {
  return Buffer.from(
    canonicalText(value as AuditValue, () => ''),
    'utf8',
  );
}

/** The bytes of a record. Throws INVALID_ARGUMENT when it is not canonical or longer than AUDIT_RECORD_BYTES_MAX. */
export function recordBytes(record: AuditRecord): Buffer {
  const bytes = canonicalBytes(record);
  if (bytes.length <= AUDIT_RECORD_BYTES_MAX) return bytes;
  throw invalid(
    `expected at most ${AUDIT_RECORD_BYTES_MAX} bytes, got ${bytes.length}; put content in the content store`,
  );
}

/** Place and time of a record, from its bytes. Throws DATA_LOSS when they are not a record's. */
export function placeOf(bytes: Buffer): AuditPlace & Pick<AuditStamp, 'id' | 'ts'> {
  let parsed: Partial<AuditRecord> | null = null;
  try {
    parsed = JSON.parse(bytes.toString('utf8')) as Partial<AuditRecord>;
  } catch {
    // told below
  }
  const { producer, epoch, seq, prev, id, ts } = parsed ?? {};
  const whole =
    typeof producer === 'string' && typeof prev === 'string' && typeof id === 'string' && typeof ts === 'string';
  if (!whole || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(seq)) {
    throw new QuernError('DATA_LOSS', 'audit: stored bytes are not a record', { reason: 'AUDIT_RECORD_UNREADABLE' });
  }
  return { producer, epoch: epoch as number, seq: seq as number, prev, id, ts };
}
