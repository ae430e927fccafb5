// Bounds of the audit path. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** One record's canonical bytes. Records hold digests and references, never content. */
export const AUDIT_RECORD_BYTES_MAX = 16 * KIB;
/** One group commit, and one message on the stream, which holds as many frames as fit: below its max_msg_size with headers. */
export const AUDIT_FRAME_BYTES_MAX = 60 * KIB;
/** Of records of 650 bytes the bytes are the bound: a full frame holds some 90. */
export const AUDIT_FRAME_RECORDS_MAX = 256;
/** A segment is deleted whole, so it is small beside the outbox and large beside a frame. */
export const AUDIT_SEGMENT_BYTES_MAX = 16 * MIB;
/** Outbox size at which it warns; audit has stood still for long. */
export const AUDIT_OUTBOX_SOFT_BYTES = 256 * MIB;
/** Outbox size at which it refuses. */
export const AUDIT_OUTBOX_HARD_BYTES = 1024 * MIB;
/** Records that wait for the disk: about a second of a slow one. */
export const AUDIT_PENDING_RECORDS_MAX = 8192;

/** One ledger frame: the records of one commit. Bounds what a damaged length can ask for. */
export const LEDGER_FRAME_BYTES_MAX = 8 * MIB;
/** A line of a file of ours: the largest record that a ledger keeps, with room. */
export const FILE_LINE_BYTES_MAX = 2 * MIB;
/** Hashes read at once from a ledger's tree. */
export const LEDGER_HASHES_PER_READ = 8192;
/** Signed notes that one verification checks, evenly spread: each costs a signature, one record in ten thousand is close. */
export const VERIFY_CHECKPOINTS_MAX = 10_000;

/** Pause after a frame that the stream did not take; grows twofold. */
export const PUBLISH_RETRY_MIN_MS = 100;
export const PUBLISH_RETRY_MAX_MS = 5_000;
/** A publish without an answer is sent again: one in flight at a server's death is lost without an error. */
export const PUBLISH_TIMEOUT_MS = 2_000;

/** How often a producer asks what a checkpoint covers, and how long an answer may take. */
export const COVERAGE_EVERY_MS = 10_000;
export const COVERAGE_TIMEOUT_MS = 5_000;

/** How long a stop waits for the stream to take what is left. */
export const PRODUCER_FLUSH_MS = 3_000;

/** Subjects whose keys a process keeps open; the oldest is looked up again. */
export const VAULT_SUBJECTS_CACHED_MAX = 10_000;
/** How long a database waits for another process that writes to it or repairs it. */
export const DATABASE_BUSY_MS = 5_000;

/** Releases before it delete a stream whose snapshot is damaged. */
export const NATS_VERSION_MIN = '2.14.0';
export const NATS_RECONNECT_MS = 250;

/** One prompt or answer as it is kept; a tenant's policy says less. */
export const CONTENT_BYTES_MAX = MIB;
/** Looked at behind the end of what is kept, so that no half of a secret stays; longer than any rule's match. */
export const CONTENT_REDACTION_MARGIN_CHARS = 24 * KIB;
/** Content is deleted by whole segments, and no segment outlives its day's retention. */
export const CONTENT_SEGMENT_BYTES_MAX = 64 * MIB;
export const CONTENT_PENDING_BYTES_MAX = 64 * MIB;
/** Size of the store at which it refuses, unless it is set. */
export const CONTENT_STORE_BYTES_MAX = 64 * 1024 * MIB;
export const CONTENT_RETENTION_DAYS = 90;
/** Tenants that a policy file may name. */
export const CONTENT_POLICY_TENANTS_MAX = 10_000;

const DAY_MS = 24 * 3_600_000;
/** Retention of 90 days and a week of slack for the ledger to catch up. */
export const AUDIT_STREAM_AGE_MS = 97 * DAY_MS;
/** How long the stream drops a frame that comes again. */
export const AUDIT_STREAM_DUPLICATES_MS = 10 * 60_000;
export const AUDIT_STREAM_MESSAGE_BYTES_MAX = 64 * KIB;

assert(AUDIT_FRAME_BYTES_MAX + 2 * KIB <= AUDIT_STREAM_MESSAGE_BYTES_MAX, 'a frame and its headers fit a message');
assert(AUDIT_STREAM_AGE_MS * 1e6 < Number.MAX_SAFE_INTEGER, 'nanoseconds of the age stay exact');
assert(PUBLISH_RETRY_MIN_MS < PUBLISH_RETRY_MAX_MS, 'back-off grows');
assert(AUDIT_RECORD_BYTES_MAX <= AUDIT_FRAME_BYTES_MAX, 'the largest record fits a frame');
assert(AUDIT_FRAME_BYTES_MAX * 4 < AUDIT_SEGMENT_BYTES_MAX, 'a segment holds several frames');
assert(AUDIT_SEGMENT_BYTES_MAX * 4 <= AUDIT_OUTBOX_SOFT_BYTES, 'deleting one segment frees a small part');
assert(CONTENT_BYTES_MAX * 2 < CONTENT_SEGMENT_BYTES_MAX, 'a segment holds the largest content with its JSON and seal');
assert(AUDIT_OUTBOX_SOFT_BYTES < AUDIT_OUTBOX_HARD_BYTES, 'it warns before it refuses');
