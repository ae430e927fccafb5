// Every bound the tokenizer keeps, with its reason. Units last.
import { assert } from '#kit/assert.ts';
import { RPC_MESSAGE_BYTES_MAX } from '#kit/limits.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Default of QUERN_TOKENIZER_MAX_TEXT_BYTES: all text of one request, UTF-8. Encoding it takes about a second at worst. */
export const TEXT_BYTES_DEFAULT = 4 * MIB;
/** What that variable may be raised to: a message must still fit through gRPC. */
export const TEXT_BYTES_MAX = 8 * MIB;
/** Text for vocabularies that the library encodes: it is 20 times slower and would hold up every other request. */
export const LIBRARY_TEXT_BYTES_MAX = 256 * KIB;
/** Longest run without a change between blank and not blank, UTF-16 units. Merging it is O(n log n), so it may be long. */
export const RUN_UNITS_MAX = 2 * MIB;
/**
 * Longest run of combining marks, UTF-16 units. Putting marks into canonical order (NFC) takes the square of the run: a
 * megabyte in one run would take minutes, runs of this length no longer than the rest of encoding. Unicode's stream-safe
 * format (UAX #15) allows 30.
 */
export const MARK_RUN_UNITS_MAX = 512;

/** Words up to this length (UTF-16 units) are remembered. Identifiers and indentation fit. */
export const CACHED_WORD_UNITS_MAX = 32;
/** Words of more ids than this are merged anew each time. */
export const CACHED_WORD_IDS_MAX = 8;
/** Sets and ways of the word cache: 65,536 words, 6.6 MB per vocabulary. */
export const CACHE_SETS = 16 * KIB;
export const CACHE_WAYS = 4;
/** Words up to this many bytes are merged by scanning for the lowest rank, longer ones with a heap. */
export const SCANNED_WORD_BYTES_MAX = 48;
/** Scratch buffers above this size are freed after the request that needed them. */
export const SCRATCH_UNITS_KEPT_MAX = MIB;

/** Ids of one Decode. */
export const DECODE_TOKENS_MAX = MIB;
/** GetVocabulary sends pieces in messages of this many. */
export const VOCABULARY_PIECES_PER_MESSAGE = 4096;
/** Largest vocabulary: three times the largest in use. */
export const VOCABULARY_SIZE_MAX = MIB;
/** tokenizer.json: Gemma's has 33 MB. */
export const MODEL_FILE_BYTES_MAX = 128 * MIB;

export const MESSAGES_MAX = 1024;
export const TOOLS_MAX = 128;
export const TOOL_CALLS_PER_MESSAGE_MAX = 128;
export const NAME_CHARS_MAX = 64;
/** Of a replayed tool call: models make names up. */
export const CALL_NAME_CHARS_MAX = 1024;
/** Nesting of schemas, tool arguments and template variables. */
export const VALUE_DEPTH_MAX = 32;
/** Values (leaves, lists and objects) in all schemas, arguments and variables of one request. */
export const VALUE_COUNT_MAX = 65_536;
/** Of long strings the witness rendering holds this many UTF-16 units of both ends: more than any control literal has. */
export const WITNESS_EDGE_UNITS = 256;
/** Rendered prompt: the template may repeat its inputs, but not without end. */
export const RENDERED_UNITS_MAX = 16 * MIB;

export const CHUNKS_MAX = 256;
/**
 * Prefix window starts are multiples of so many lines, so that a new line does not move the window: a power of two, smaller where the
 * window has room for fewer lines.
 */
export const PREFIX_GRID_LINES_MAX = 64;
export const PREFIX_GRID_LINES_MIN = 4;
/** Of the window for each line of its grid. With ten tokens to a line a step takes a third of the window at most. */
export const PREFIX_TOKENS_PER_GRID_LINE = 30;
/** A line that is longer than the window is cut in steps of such a part of it. */
export const PREFIX_CUTS_PER_WINDOW = 4;
/** Over budget, the prefix gets this share of what prefix and suffix have together: 3:1. */
export const PREFIX_SHARE = 0.75;
/** Where the suffix stands first, what a short prefix leaves it moves in such steps: typing seldom changes the prompt's beginning. */
export const SUFFIX_BUDGET_STEP_TOKENS = 64;
/** The chunks' budget moves in steps of this many tokens, so that typing does not change which chunks are sent. */
export const CHUNK_BUDGET_STEP_TOKENS = 256;
/** Tokens of prefix and suffix below which a budget makes no sense. */
export const INFILL_TEXT_TOKENS_MIN = 16;
/** What quern.json may advise: room for a path and a few lines at least. */
export const INFILL_ADVICE_TOKENS_MIN = 64;
export const INFILL_ADVICE_TOKENS_MAX = 1 << 20;
export const PATH_CHARS_MAX = 4096;

assert(TEXT_BYTES_DEFAULT <= TEXT_BYTES_MAX, 'the default must be allowed');
assert(2 * TEXT_BYTES_MAX <= RPC_MESSAGE_BYTES_MAX, 'a request with its other fields must fit into a message');
assert((CACHE_SETS & (CACHE_SETS - 1)) === 0, 'the set index is a bit mask');
