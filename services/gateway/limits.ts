// Every bound the gateway keeps, with its reason. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Stop strings a caller may give: OpenAI and vLLM refuse more. */
export const STOP_STRINGS_MAX = 4;
/** Of POST /infill, whose clients name every control token of every family. Each costs a search through every piece of text. */
export const STOP_STRINGS_INFILL_MAX = 16;
export const STOP_STRING_BYTES_MAX = 256;
export const STOP_TOKEN_IDS_MAX = 64;
export const CHOICES_MAX = 16;
export const LOGPROBS_MAX = 20;
export const LOGIT_BIAS_ENTRIES_MAX = 1024;
export const COALESCE_MS_MAX = 1000;
export const REQUEST_ID_CHARS_MAX = 128;
export const SUPERSEDE_KEY_CHARS_MAX = 256;
/** Prompts in one POST /v1/completions. */
export const PROMPTS_MAX = 64;
export const MESSAGES_MAX = 1024;
export const TOOLS_MAX = 128;
/** Of the context: from here on a prompt is too long because of its tools, and its author is told so. */
export const TOOLS_BLAMED_SHARE = 0.25;
/** Of a replayed tool call, as in the tokenizer. */
export const CALL_NAME_CHARS_MAX = 1024;

export const COMPLETION_TOKENS_DEFAULT = 16;
export const INFILL_TOKENS_DEFAULT = 64;
/** Of the context: what an infill that may take what fits is sure of beside a prompt that would fill all of it. */
export const INFILL_COMPLETION_SHARE = 0.5;
/** Other files beside an infill, as the tokenizer service takes them. */
export const INFILL_CHUNKS_MAX = 256;
/** Of a file's path or a repository's name, as there. */
export const INFILL_PATH_CHARS_MAX = 4096;
/** Of one report of what became of suggestions. */
export const SUGGESTION_EVENTS_MAX = 256;
export const SUGGESTION_CHARACTERS_MAX = 1 << 20;
/** POST /generate and POST /chat without a length. */
export const GENERATE_TOKENS_DEFAULT = 128;
export const CHAT_REPLY_TOKENS_DEFAULT = 512;

/** Of one engine step, told in one turn of the event loop: what arrives meanwhile waits for no more than these. */
export const STEP_TURN_HANDLES = 8;

/** A body larger than this is 413 before it is read to its end. */
export const HTTP_BODY_BYTES_MAX = 16 * MIB;
/** Tool schemas nest a dozen levels; recursion over thousands would exhaust the stack. */
export const HTTP_JSON_DEPTH_MAX = 128;
export const HTTP_HEADER_BYTES_MAX = 16 * KIB;
/** A client that sends its headers or body slower than this is closed: slow senders must not hold sockets. */
export const HTTP_HEADERS_TIMEOUT_MS = 10_000;
export const HTTP_REQUEST_TIMEOUT_MS = 60_000;
/** How often the two are looked at; Node's own 30 s would triple the first. */
export const HTTP_CHECK_MS = 2_000;
/** Longer than usual proxies keep theirs (60 s), so that the proxy closes first. */
export const HTTP_KEEP_ALIVE_MS = 75_000;
export const HTTP_CONNECTIONS_MAX = 8192;
/** How often a drain closes connections that have become idle. */
export const DRAIN_SWEEP_MS = 50;

/** Longest a request may ask for; beyond it a client is lost rather than patient. */
export const TIMEOUT_MS_MAX = 24 * 3_600_000;
/** One tokenizer call. Rendering 1 MB takes well under a second. */
export const TOKENIZER_TIMEOUT_MS = 10_000;
/** How long a request waits for a tokenizer that is restarting. */
export const TOKENIZER_RETRY_MS = 2_000;
export const VOCABULARY_TIMEOUT_MS = 30_000;
/** A tokenizer that restarted between two calls goes unnoticed otherwise; only a header is read. */
export const VOCABULARY_RECHECK_MS = 10_000;
export const VOCABULARY_SIZE_MAX = 1 << 20;
export const DESCRIBE_TIMEOUT_MS = 5_000;
export const PROBE_TIMEOUT_MS = 2_000;
/** How often the tool service is asked how it is, and how long it may take to say so. */
export const TOOLS_LOOK_MS = 5_000;
export const TOOLS_LOOK_TIMEOUT_MS = 2_000;

/** Back-off between attempts to open a broken Session. */
export const RECONNECT_MIN_MS = 50;
export const RECONNECT_MAX_MS = 1_000;
/**
 * How often one request is carried over a broken Session, and how long it waits for an engine each time, as does a turn of a run that
 * goes on. An engine that was killed is ready again after 5 to 7 s with quern-mini on two busy cores; larger weights take longer.
 */
export const RESUMES_MAX = 2;
export const RESUME_WAIT_MS = 30_000;
/** How long a new request waits for the first engine of its model to be there. */
export const ENGINE_WAIT_MS = 2_000;
/** After a stop string or soft deadline the engine's own end (exact usage and timings) is waited for at most this long. */
export const END_WAIT_MS = 1_000;
/** A client that reads nothing for this long loses its request: its text may not pile up for ever. */
export const SLOW_CLIENT_MS = 10_000;
/** A Cancel without its Finished for this long makes the handle a zombie in the metrics. */
export const ZOMBIE_AFTER_MS = 5_000;

/** Prompt tokens that choose the replica: equal system prompts and file heads meet in one prefix cache. */
export const AFFINITY_TOKENS = 64;
export const AFFINITY_BLOCK = 16;
/** Bounded load: no replica takes more than this factor above the mean while others have room. */
export const AFFINITY_LOAD_FACTOR = 1.25;

export const REQUESTS_MAX_DEFAULT = 1024;
export const TOKENS_MAX_DEFAULT = 4 * MIB;
export const PRINCIPAL_REQUESTS_MAX_DEFAULT = 512;
export const PRINCIPAL_TOKENS_MAX_DEFAULT = 2 * MIB;
/** Share of the bounds above which only INVOKED..BATCH work is taken, and above which WARM is not. */
export const SPECULATIVE_SHARE = 0.75;
export const WARM_SHARE = 0.5;
export const SHED_RETRY_MS = 1_000;

/** Revoking a key must work within a second, on open connections too. */
export const KEYS_RECHECK_MS = 500;

/** Requests that RequestService.Explain still knows, about 1 KiB each. */
export const EXPLAIN_REQUESTS_MAX = 4096;

/** A request whose accepted record is not on disk by then is refused: the disk is sick. Its client must hear that reason. */
export const AUDIT_RECEIPT_MS_MAX = 5_000;
/** How often it is looked whether the outbox takes records again, and how soon a record that it refused is tried again. */
export const AUDIT_LOOK_MS = 500;
export const AUDIT_OWED_RETRY_MS = 250;
/** End records and the like that wait for an outbox that refuses: as many as requests can be running. */
export const AUDIT_OWED_RECORDS_MAX = 1 << 16;
/** How often old content is looked for in a gateway that keeps none anew. */
export const CONTENT_SWEEP_MS = 6 * 3_600_000;
/** End records written at once for what a crash left open; fewer than the outbox lets wait. */
export const AUDIT_RECOVERY_BATCH = 1_000;
/** How long a stop waits for records that are owed. */
export const AUDIT_CLOSE_MS_MAX = 2_000;
/** A flood of failed authentications makes one record per window, naming so many clients and keys. */
export const AUTH_FAILURES_WINDOW_MS = 10_000;
export const AUTH_FAILURES_CLIENTS_MAX = 16;
/** Changes of one reading of the keys file that get a record each. */
export const AUDIT_KEY_CHANGES_MAX = 256;

assert(AUDIT_RECEIPT_MS_MAX < SLOW_CLIENT_MS, 'a sick disk is not taken for a slow client');
assert(AFFINITY_TOKENS % AFFINITY_BLOCK === 0, 'affinity is cut at block boundaries');
assert(WARM_SHARE < SPECULATIVE_SHARE && SPECULATIVE_SHARE < 1, 'weakest classes are shed first');
assert(KEYS_RECHECK_MS < 1_000, 'a revoked key is refused within a second');
assert(RECONNECT_MIN_MS < RECONNECT_MAX_MS && RECONNECT_MAX_MS < RESUME_WAIT_MS, 'a resume outlives several attempts');
