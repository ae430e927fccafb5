// Bounds of the tool service. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Calls that run at once, unless the settings say otherwise. */
export const CONCURRENT_PER_TENANT = 4;
export const CONCURRENT_PER_HOST = 32;
/** Calls that wait for a place. When it is full, the tenant with the most of them gives way. */
export const QUEUE_CALLS_MAX = 64;
/** What a caller is told to wait when there is no room to wait here. */
export const QUEUE_RETRY_MS = 1_000;

export const STDIN_BYTES_MAX = MIB;
export const IDEMPOTENCY_KEY_BYTES_MAX = 256;
export const NESTING_DEPTH_MAX = 5;
export const TIMEOUT_MS_MAX = 3_600_000;
/** What is left to the caller of its deadline, to be told how the call ended. */
export const DEADLINE_MARGIN_MS = 250;

/** Message of a result, for a person. */
export const MESSAGE_CHARS_MAX = 1_024;
/** Reason of whoever denies a call. */
export const DENY_REASON_CHARS_MAX = 1_024;
export const MODEL_OUTPUT_BYTES_MAX = MIB;

/** One Output event. */
export const OUTPUT_EVENT_BYTES_MAX = 64 * KIB;
/** Events of one call that an Attach can still have; older ones go first. */
export const RING_BYTES_MAX = MIB;
export const RING_EVENTS_MAX = 4_096;
/** Unread bytes at which the tool's pipes pause. What is in the pipes by then still comes. */
export const RING_UNREAD_BYTES = 256 * KIB;
/** How long the events of an ended call are kept, and of how many calls with how much. */
export const ENDED_CALLS_KEPT_MS = 300_000;
export const ENDED_CALLS_KEPT_MAX = 512;
export const ENDED_CALLS_KEPT_BYTES_MAX = 8 * MIB;

/** How long a person has to answer, unless the settings say otherwise. */
export const APPROVAL_WAIT_MS = 300_000;
/** Calls that wait for a person, and of them those of one tenant. */
export const APPROVALS_PENDING_MAX = 1_024;
export const APPROVALS_PENDING_PER_TENANT_MAX = 128;
/** Arguments as a person is shown them: what is larger cannot be judged. */
export const APPROVAL_ARGUMENTS_BYTES_MAX = 64 * KIB;
/** Files that the digest of a workspace looks at. */
export const DIGEST_ENTRIES_MAX = 40_000;

/** One file of the journal of calls, and how long one is written to. */
export const JOURNAL_SEGMENT_BYTES_MAX = 16 * MIB;
export const JOURNAL_SEGMENT_AGE_MS = 3_600_000;
/** A key means its first call for so long. Where there are too many keys, the oldest of the tenant with the most of them go. */
export const JOURNAL_KEPT_MS = 24 * 3_600_000;
export const JOURNAL_KEYS_MAX = 100_000;
export const JOURNAL_BYTES_MAX = 512 * MIB;
/** One entry: a result with the largest content, as JSON. */
export const JOURNAL_ENTRY_BYTES_MAX = 8 * MIB;
export const JOURNAL_SWEEP_MS = 60_000;

/** Records that wait for an outbox that took none. */
export const AUDIT_OWED_RECORDS_MAX = 10_000;
export const AUDIT_OWED_RETRY_MS = 1_000;
export const AUDIT_CLOSE_MS_MAX = 2_000;

/** How often the sandbox is tested. */
export const PROBE_EVERY_MS = 300_000;
export const HEALTH_LOOK_MS = 1_000;
/** What a service whose disk failed gives to closing, beside its grace, before it exits all the same. */
export const FAILED_EXIT_MS = 5_000;
/** What killing everything may take at the end of a drain. */
export const KILL_SETTLE_MS = 1_000;

assert(OUTPUT_EVENT_BYTES_MAX * 2 < RING_UNREAD_BYTES, 'a pause comes after some events, not after each');
assert(RING_UNREAD_BYTES * 2 < RING_BYTES_MAX, 'what is in the pipes at a pause fits the ring');
assert(RING_BYTES_MAX * 4 < ENDED_CALLS_KEPT_BYTES_MAX, 'several ended calls are kept');
assert(MODEL_OUTPUT_BYTES_MAX * 6 < JOURNAL_ENTRY_BYTES_MAX, 'the largest result, escaped, fits an entry');
assert(JOURNAL_ENTRY_BYTES_MAX < JOURNAL_SEGMENT_BYTES_MAX, 'an entry fits a segment');
assert(JOURNAL_SEGMENT_BYTES_MAX * 4 < JOURNAL_BYTES_MAX, 'letting one segment go frees a small part');
assert(JOURNAL_BYTES_MAX / 2 + JOURNAL_KEYS_MAX * KIB < JOURNAL_BYTES_MAX, 'what is carried over leaves room');
assert(JOURNAL_SEGMENT_AGE_MS < JOURNAL_KEPT_MS, 'a segment goes soon after its last entry is past its time');
assert(APPROVALS_PENDING_PER_TENANT_MAX * 4 < APPROVALS_PENDING_MAX, 'several tenants can ask their people');
assert(CONCURRENT_PER_TENANT <= CONCURRENT_PER_HOST, 'one tenant fits the host');
