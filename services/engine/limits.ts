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
/** One engine step of this many is shown as a trace of its own, unless settings say otherwise. */
export const TRACE_STEP_EVERY = 1_000;
/** Steps that teach what a step usually takes, before any is called slow. */
export const STEP_LEARN_COUNT = 50;
/** A step is slow when it took this much longer than expected ... */
export const SLOW_STEP_FACTOR = 4;
/** ... and longer than this: nobody feels less. */
export const SLOW_STEP_MIN_MS = 20;
/** At most one slow step is shown in this time: on a machine that is busy with other things all of them are slow. */
export const SLOW_STEP_GAP_MS = 200;
/** Requests that a step's span links to. */
export const STEP_LINKS_MAX = 32;
/** Steps that a request's phase links to: the slowest of those that are shown. */
export const STEPS_KEPT_MAX = 8;
/** How long an engine that refuses its model says so before it ends: a gateway asks at least once a second. */
export const REJECTION_SHOWN_MS = 3_000;
/** What a refused caller is told to wait: inboxes empty within a few requests. */
export const RETRY_AFTER_MS = 1_000;
