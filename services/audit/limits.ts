// Bounds of the audit service. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';
import { LEDGER_FRAME_BYTES_MAX } from '#kit/audit/limits.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** One ledger segment: deleted whole when all of it is older than the retention. */
export const LEDGER_SEGMENT_BYTES_MAX = 64 * MIB;
/** A segment is closed after it, however small: what is past its retention goes within a day. */
export const LEDGER_SEGMENT_AGE_MS = 24 * 3_600_000;
/** How often it looks whether records are past their retention. */
export const RETENTION_LOOK_MS = 3_600_000;
/** Between two looks the clock may be so far ahead of what has passed without a question: a day's pause, a slow clock set right. */
export const RETENTION_JUMP_MS = 24 * 3_600_000;
/** A clock that is further ahead is believed after so much running. */
export const RETENTION_TRUST_MS = 24 * 3_600_000;
/** A record so far in the future was written by a clock that was wrong: its time says nothing about its age. */
export const RECORD_FUTURE_MS = 24 * 3_600_000;
/** Records of which the view knows the earliest and the latest time, and so many of these again. */
export const TIME_SPAN = 1_024;
/** Rows taken out of the view at once; calls are answered in between. */
export const PRUNE_ROWS = 2_000;
/** What one record may have: producers keep to 16 KiB, a message that is no frame is kept whole. */
export const LEDGER_RECORD_BYTES_MAX = MIB;
/** A producer's name in a question. */
export const PRODUCER_CHARS_MAX = 128;
/** Rows of one page of a query. */
export const QUERY_ROWS_MAX = 1000;
/** Rows of one Query call. */
export const QUERY_LIMIT_DEFAULT = 100;
export const QUERY_LIMIT_MAX = 100_000;
/** Records that a Tail call may ask for from before its time, and how often it looks for new ones. */
export const TAIL_BACKLOG_MAX = 1_000;
export const TAIL_ROWS = 500;
export const TAIL_LOOK_MS = 250;
/** A reader of a stream that takes nothing for so long is sent away. */
export const READER_STALL_MS = 30_000;
/** A read or verification that takes longer does not keep segments from ageing any more; it ends when they go. */
export const LEDGER_HOLD_MS = 3_600_000;
/** One message of an export: some hundred records. */
export const EXPORT_MESSAGE_BYTES = 256 * KIB;
/** Signed notes that go with an export, beside the newest. */
export const EXPORT_CHECKPOINTS_MAX = 1_000;
/** Records read between two reports of a verification, and between two looks at other work. */
export const VERIFY_REPORT_RECORDS = 50_000;
export const VERIFY_SLICE_RECORDS = 1_000;
/** A signed note that a caller brings along. */
export const CHECKPOINT_NOTE_BYTES_MAX = 4_096;
/** Records applied to the view in one transaction while it is made from the ledger. */
export const CATCH_UP_RECORDS = 5_000;
/** Messages stored and acknowledged at once; each holds up to 60 KiB of records. */
export const CONSUMER_BATCH_MESSAGES = 100;
/** How long a request for messages waits for the first. */
export const CONSUMER_WAIT_MS = 1_000;
/** Longer than that, and a request for messages is given up. */
export const CONSUMER_ANSWER_MS = 2_000;
/** After it an unacknowledged message comes again. */
export const CONSUMER_ACK_WAIT_MS = 30_000;
export const CONSUMER_RETRY_MS = 250;

/** Records that are missing for so long are written down as a gap; how often it looks, and how many gaps it follows. */
export const GAP_GRACE_MS = 60_000;
export const GAP_LOOK_MS = 10_000;
export const GAPS_WATCHED_MAX = 1_000;
/** A caller that is refused again and again is written down so often. */
export const DENIED_RECORD_MS = 60_000;
export const DENIED_CALLERS_MAX = 1_000;

/** A checkpoint is signed after so many records, or so long after the last one when there is anything new. */
export const CHECKPOINT_EVERY_RECORDS = 1_000;
export const CHECKPOINT_EVERY_MS = 10_000;
/** Notes kept for a witness that does not take them: hours of them. */
export const WITNESS_NOTES_MAX = 1_000;
/** A witness that has not taken a note for so long is told. */
export const WITNESS_LATE_MS = 10_000;
/** What closing waits for the witnesses. */
export const WITNESS_CLOSE_MS = 2_000;
/** Pages of the view that SQLite keeps in memory: the ends of its indexes, into which every record is put. */
export const VIEW_CACHE_KIB = 32 * 1024;
/** How often it looks whether a checkpoint is due. */
export const CHECKPOINT_LOOK_MS = 1_000;
export const HEALTH_LOOK_MS = 1_000;
/** What a scrape waits for NATS to say how full the stream is. */
export const STREAM_LOOK_MS = 1_000;

assert(RETENTION_LOOK_MS < RETENTION_TRUST_MS, 'a clock that is ahead is seen many times before it is believed');
assert(RETENTION_LOOK_MS <= LEDGER_SEGMENT_AGE_MS, 'a segment goes soon after its time');
assert(EXPORT_MESSAGE_BYTES + LEDGER_RECORD_BYTES_MAX < 4 * MIB, 'any client takes a message of an export');
assert(CHECKPOINT_LOOK_MS < CHECKPOINT_EVERY_MS, 'a due checkpoint is signed soon');
assert(CONSUMER_WAIT_MS < CONSUMER_ACK_WAIT_MS, 'a message is stored before it comes again');
assert(LEDGER_RECORD_BYTES_MAX < LEDGER_FRAME_BYTES_MAX, 'every record fits a frame');
assert(LEDGER_FRAME_BYTES_MAX < LEDGER_SEGMENT_BYTES_MAX, 'a segment holds several frames');
