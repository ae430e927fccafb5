// Every bound the kit keeps, with its reason. Units last; relations are asserted when the module loads.
import { assert } from './assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Largest message either side accepts. A 256k-token vocabulary chunk or a long prompt fits; memory per call stays known. */
export const RPC_MESSAGE_BYTES_MAX = 16 * MIB;
/** What one stream may hold unsent before write() throws: a handler that ignores `false` must not eat the memory. */
export const RPC_STREAM_UNSENT_BYTES_MAX = 4 * RPC_MESSAGE_BYTES_MAX;
/** Unsent bytes at which write() starts to answer false, beside grpc-js's own mark of 16 messages. */
export const RPC_STREAM_HIGH_WATER_BYTES = 256 * KIB;
/** grpc-js client: without this, client streams slice a 1 MiB replay buffer per message and slow down twentyfold. */
export const RPC_RETRY_BUFFER_BYTES = 4096;
/** Concurrent calls per connection; more wait on the client's side. */
export const RPC_CONCURRENT_STREAMS_MAX = 4096;

/** grpc-message: longer ones are cut. Percent-encoded it grows threefold, and proxies refuse header blocks above 8 KiB. */
export const RPC_STATUS_MESSAGE_BYTES_MAX = 1024;
/** grpc-status-details-bin before base64. */
export const RPC_STATUS_DETAILS_BYTES_MAX = 4 * KIB;
/** Field violations sent with one status. */
export const RPC_STATUS_FIELDS_MAX = 32;

/** Own limit on resets (cancels and expired deadlines) per principal: type-ahead cancels on every key. */
export const RPC_RESETS_BURST = 10_000;
export const RPC_RESETS_PER_SECOND = 2_000;
/** Backstop per connection inside Node's HTTP/2, for resets that come before a call is known to us. */
export const HTTP2_RESETS_BURST = 40_000;
export const HTTP2_RESETS_PER_SECOND = 8_000;
/** Principals whose resets are remembered; the one idle for longest is forgotten first. */
export const RPC_RESET_PRINCIPALS_MAX = 4096;

/** After the drain's grace: what aborted handlers get to write their end. */
export const RPC_ABORT_SETTLE_MS = 500;
/** Deadline of a unary call whose caller names none. */
export const RPC_UNARY_TIMEOUT_MS = 10_000;
/**
 * The server counts a deadline from the call's arrival, the caller from its start, so the caller's reset comes a little
 * before the server's deadline. A reset this close to it (and within a quarter of the timeout) is an expiry, not a cancel.
 */
export const RPC_DEADLINE_SLACK_MS = 25;
export const RPC_KEEPALIVE_MS = 20_000;
/** Long enough for a process whose event loop is busy loading a model. */
export const RPC_KEEPALIVE_TIMEOUT_MS = 20_000;
/** What a peer gets to take the news that its call is cancelled before the connection is cut. */
export const RPC_GOODBYE_MS = 500;
export const RPC_RECONNECT_MIN_MS = 100;
export const RPC_RECONNECT_MAX_MS = 2_000;
/** What a caller is told to wait while a server drains. */
export const RPC_DRAIN_RETRY_MS = 1_000;

/** Between two log lines about handshakes that failed: whoever scans ports must not fill the log. */
export const TLS_REFUSALS_LOG_MS = 10_000;

/** sun_path is 108 bytes with its terminator. */
export const UNIX_PATH_BYTES_MAX = 107;

/** Request ids from callers: longer ones are replaced. */
export const REQUEST_ID_CHARS_MAX = 128;
/** W3C trace-context §3.3: at least 512 characters must pass; longer values are dropped whole. */
export const TRACESTATE_CHARS_MAX = 512;

export const DRAIN_GRACE_MS = 10_000;
/** What a service whose disk failed gives to closing, beside its grace, before it exits all the same. */
export const FAILED_EXIT_MS = 5_000;
export const STOP_GRACE_MS = 15_000;
export const RESTART_MIN_DELAY_MS = 250;
export const RESTART_MAX_DELAY_MS = 10_000;
/** A child that stayed ready this long starts its back-off anew. */
export const RESTART_RESET_MS = 30_000;
/** One line of a child's output; longer ones are cut into pieces. */
export const CHILD_LINE_CHARS_MAX = 64 * KIB;

/** Distinct values of one metric label; more count as "other". Tenants and models stay far below. */
export const METRIC_LABEL_VALUES_MAX = 200;
/** Series of one metric (a histogram's buckets count as one); label sets beyond count as "other". */
export const METRIC_SERIES_MAX = 1_000;

assert(RPC_STREAM_HIGH_WATER_BYTES < RPC_STREAM_UNSENT_BYTES_MAX, 'write() must answer false before it throws');
assert(RPC_MESSAGE_BYTES_MAX < RPC_STREAM_UNSENT_BYTES_MAX, 'one largest message must fit into the unsent bound');
assert(HTTP2_RESETS_BURST > RPC_RESETS_BURST, 'the connection may not die before the principal is refused');
assert(HTTP2_RESETS_PER_SECOND > RPC_RESETS_PER_SECOND, 'the connection may not die before the principal is refused');
assert(DRAIN_GRACE_MS + RPC_ABORT_SETTLE_MS < STOP_GRACE_MS, 'a child must be able to drain before it is killed');
assert(RESTART_MIN_DELAY_MS < RESTART_MAX_DELAY_MS, 'back-off grows');
