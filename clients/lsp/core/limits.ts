/** Every bound of the completion core, with its reason. Units last. */

/** The prefix window starts on a multiple of this many lines, so that a new line does not change its first token. */
export const WINDOW_GRID_LINES = 64;
export const PREFIX_LINES_MAX = 256;
export const SUFFIX_LINES_MAX = 64;
/** Of a prompt's text so much is taken for a token. Most vocabularies have fewer, and the mesh, which counts, cuts what is too long. */
export const PROMPT_CHARS_PER_TOKEN = 4;
/** About 6k and 2k tokens: prefix and suffix at 3:1. A file of one endless line is cut on a grid too. */
export const PREFIX_CHARS_MAX = 24_576;
export const SUFFIX_CHARS_MAX = 8_192;
export const PREFIX_SHARE = 0.75;
/** Sent whatever the model is best given: in it the mesh reads where a text ends, and the client what is repeated and cached. */
export const PREFIX_CHARS_READ = 4_096;
export const SUFFIX_CHARS_READ = 2_048;
/** A smaller window has a smaller grid: a step takes a quarter of it where lines have forty characters. */
export const WINDOW_CHARS_PER_GRID_LINE = 160;
/** In a long line a step takes such a part of it. */
export const WINDOW_CUTS = 6;
/** Of a context, an answer may have so much: the rest is the prompt's. */
export const ANSWER_SHARE_MAX = 0.5;

/** Documents larger than this are not completed in: reading them whole would hold up the editor's other requests. */
export const DOCUMENT_CHARS_MAX = 4 * 1024 * 1024;
export const DOCUMENTS_MAX = 512;

/** Typing intervals that the debounce averages, and the interval that it starts from. */
export const TYPING_SAMPLES_MIN = 20;
export const TYPING_SAMPLES_MAX = 100;
export const TYPING_INTERVAL_MIN_MS = 100;
export const TYPING_INTERVAL_MAX_MS = 400;
export const TYPING_INTERVAL_START_MS = 200;
/** A pause longer than this is thinking, not typing. */
export const TYPING_PAUSE_MS = 2_000;
/** With what a small model takes, a suggestion is seen within 350 ms of its key: test/bench/replay measures it. */
export const DEBOUNCE_MIN_MS = 60;
export const DEBOUNCE_MAX_MS = 290;
/** The wait is this many typing intervals in a poor place for a suggestion, and so many in the best. */
export const DEBOUNCE_RATE_MAX = 3;
export const DEBOUNCE_RATE_MIN = 0.4;

/** Requests that a key earns, that a key behind a pause earns, and that are kept; without one the wait is the longest. */
export const REQUESTS_PER_KEY = 0.17; // with those behind pauses at most 25 per 100 keys
export const REQUESTS_PER_PAUSE = 2; // one, and one ahead of it
export const REQUEST_BUDGET_MAX = 4;

/** While somebody types without a pause, one request per so many triggers and milliseconds survives the typing. */
export const PROMOTE_AFTER_MS = 1_000;
export const PROMOTE_AFTER_TRIGGERS = 8;
/** Requests in flight for the user; a speculative one may run beside them while nobody waits. */
export const FLIGHTS_MAX = 2;

/** More characters than this behind the cursor: the place is inside of something, and nothing is offered unasked. */
export const REST_OF_LINE_CHARS_MAX = 8;
export const CANDIDATES_INVOKED = 3;
export const TEMPERATURE_AUTOMATIC = 0.1;
export const TEMPERATURE_INVOKED = 0.8;

export const CACHE_ENTRIES_MAX = 250;
export const CACHE_AGE_MS_MAX = 5 * 60_000;
export const CACHE_LOOK_BACK_CHARS = 128;
/** What identifies a place: so many lines before and behind it. */
export const CACHE_PREFIX_LINES = 40;
export const CACHE_SUFFIX_LINES = 20;
/** An entry is found too when its place has moved down by so many lines. */
export const CACHE_TRIMMED_LINES = 3;
/** The last characters of a text that was cut by its length are guesses without what follows. */
export const CACHE_DISTRUSTED_CHARS = 10;

/** Share of generated characters that speculation may make. */
export const SPECULATION_SHARE = 0.2;
/** Speculation is allowed that much before there is a share to speak of. */
export const SPECULATION_FREE_CHARS = 512;
/** It waits until somebody may have read what is shown: who types on meant something else. */
export const SPECULATE_AFTER_MS = 200;
/** Of the budget of requests it leaves one to what the user does next. */
export const SPECULATION_BUDGET_MIN = 2;

/** After a failure to connect, calls are not tried for this long; doubled each time. */
export const OFFLINE_RETRY_MIN_MS = 1_000;
export const OFFLINE_RETRY_MAX_MS = 30_000;

/** What the mesh did not tell of a model, or what keeps it from filling in, is asked for again after so long. */
export const CAPABILITIES_RETRY_MS = 30_000;
/** What is known is asked for again after so long of use: a model may have been trained anew and served under its old name. */
export const CAPABILITIES_FRESH_MS = 60_000;
/** The first request waits so long for what the mesh can do; what is not known then is learnt for the next. */
export const CAPABILITIES_MS_MAX = 150;

/** An editor that can be asked for its settings has so long to tell them before anything is sent. */
export const SETTINGS_MS_MAX = 3_000;

/** Text of one candidate; a stream that goes on is cancelled. */
export const CANDIDATE_CHARS_MAX = 16_384;

/** What became of suggestions is told after so long, or once there are so many. */
export const REPORT_EVERY_MS = 10_000;
export const REPORT_BATCH_EVENTS = 64;
/** While the mesh takes no reports, the oldest events go when there are more. */
export const REPORT_QUEUE_EVENTS = 512;
/** A mesh that is away, or does not know reports, is not told for so long. */
export const REPORT_PAUSE_MS = 5 * 60_000;
/** What one report may hold, as the mesh takes it; and how long a server that ends waits for the last one. */
export const REPORT_LAST_EVENTS = 256;
export const REPORT_LAST_MS = 500;
export const REPORT_ELAPSED_MS_MAX = 86_400_000;
export const REPORT_CHARS_MAX = 1 << 20;
export const REPORT_LANGUAGE_CHARS_MAX = 64;

/** Nobody typed for so long: the mesh may read what comes next, at most so often. */
export const WARM_IDLE_MS = 3_000;
export const WARM_EVERY_MS = 10_000;
/** After a failure it is not asked to for so long. */
export const WARM_PAUSE_MS = 60_000;

/** Repeats and overlaps are looked for within so many lines: what a person sees at once. */
export const OVERLAP_LINES_MAX = 40;
export const NEXT_LINES_COMPARED = 3;
export const EQUAL_LINES_MAX = 5;
export const SCOPE_LINES_MAX = 60;

/** Suggestions of which it is known whether they were accepted or kept. */
export const TRACKED_MAX = 64;
export const KEPT_AFTER_MS = [30_000, 300_000] as const;
/** Text that has drifted further than this is given up, as the comparison is quadratic. */
export const KEPT_DRIFT_CHARS_MAX = 512;
/** A suggestion that was shown for less than this was not seen. */
export const SEEN_AFTER_MS = 500;

export const RING_CHUNKS_MAX = 16;
export const RING_CHUNK_LINES = 64;
export const RING_WAITING_MAX = 8;
/** Chunks dropped together: each change of the ring's beginning costs the engine its prefix cache. */
export const RING_EVICTED_AT_ONCE = 4;
export const RING_IDLE_MS = 3_000;
export const RING_JUMP_LINES = 32;
export const RING_REPLACE_SIMILARITY = 0.9;
export const RING_LOCAL_SIMILARITY = 0.5;
export const OPEN_FILES_MAX = 5;
export const OPEN_FILE_CHARS = 500;
/** Collecting what goes beside the prompt may take this long; what is not there then is left out. */
export const COLLECT_MS_MAX = 100;
