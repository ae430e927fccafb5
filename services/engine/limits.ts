// Every bound the engine service keeps, with its reason. Units last.

/** A client that has not read for this long holds up nothing but itself: its sequences end. */
export const UNREAD_MAX_MS = 10_000;
/** Handles whose news one session may leave unread, refusals included; a peer beyond that does not read at all. */
export const UNREAD_HANDLES_MAX = 16_384;
/** GenerationRequest.request_id. */
export const REQUEST_ID_MAX_CHARS = 128;
/** AbortRequest.request_ids. */
export const ABORT_IDS_MAX = 1024;
/** DrainRequest.grace_ms. */
export const DRAIN_GRACE_MAX_MS = 3_600_000;
/** How often Drain looks at the remaining count. */
export const DRAIN_POLL_MS = 100;
/** How often health and cumulative counters look at the engine. */
export const WATCH_INTERVAL_MS = 1_000;
/** What a cancelled session's handles get to hear their end once the server drains. */
export const END_DELIVERY_MS = 300;
/** What a refused caller is told to wait: inboxes empty within a few requests. */
export const RETRY_AFTER_MS = 1_000;
