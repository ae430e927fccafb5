// Bounds of the audit path. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** One record's canonical bytes. Records hold digests and references, never content. */
export const AUDIT_RECORD_BYTES_MAX = 16 * KIB;
/** One group commit, which is one message on the stream: below its max_msg_size with headers. */
export const AUDIT_FRAME_BYTES_MAX = 60 * KIB;
export const AUDIT_FRAME_RECORDS_MAX = 64;
/** A segment is deleted whole, so it is small beside the outbox and large beside a frame. */
export const AUDIT_SEGMENT_BYTES_MAX = 16 * MIB;
/** Outbox size at which it warns; audit has stood still for long. */
export const AUDIT_OUTBOX_SOFT_BYTES = 256 * MIB;
/** Outbox size at which it refuses. */
export const AUDIT_OUTBOX_HARD_BYTES = 1024 * MIB;
/** Records that wait for the disk: about a second of a slow one. */
export const AUDIT_PENDING_RECORDS_MAX = 8192;

/** Pause after a frame that the stream did not take; grows twofold. */
export const PUBLISH_RETRY_MIN_MS = 100;
export const PUBLISH_RETRY_MAX_MS = 5_000;

assert(PUBLISH_RETRY_MIN_MS < PUBLISH_RETRY_MAX_MS, 'back-off grows');
assert(AUDIT_RECORD_BYTES_MAX <= AUDIT_FRAME_BYTES_MAX, 'the largest record fits a frame');
assert(AUDIT_FRAME_BYTES_MAX * 4 < AUDIT_SEGMENT_BYTES_MAX, 'a segment holds several frames');
assert(AUDIT_SEGMENT_BYTES_MAX * 4 <= AUDIT_OUTBOX_SOFT_BYTES, 'deleting one segment frees a small part');
assert(AUDIT_OUTBOX_SOFT_BYTES < AUDIT_OUTBOX_HARD_BYTES, 'it warns before it refuses');
