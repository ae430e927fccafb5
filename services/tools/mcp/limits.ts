// Bounds of MCP servers, which are strangers: everything they send is counted. Units last.
import { assert } from '#kit/assert.ts';
import type { SandboxLimits } from '../jail/sandbox.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export const MCP_SERVERS_MAX = 32;
/** Longer ones leave too little of the 64 characters to the tool. */
export const MCP_SERVER_NAME_CHARS_MAX = 24;
export const MCP_TOOLS_PER_SERVER_MAX = 128;
/** What tools/list may be cut into. */
export const MCP_LIST_PAGES_MAX = 16;
/** Of a tool's own name, before it is shortened. */
export const MCP_TOOL_NAME_CHARS_MAX = 256;
export const MCP_ACCEPTED_MAX = 256;
export const MCP_BINDS_MAX = 16;

/** One message either way: a large image in base64. */
export const MCP_MESSAGE_BYTES_MAX = 4 * MIB;
/** Lines on stdout that are no messages, of one process; more end it. */
export const MCP_STRAY_LINES_MAX = 100;
/** Messages between two calls, or in one: progress, logs, requests of the server's own. */
export const MCP_MESSAGES_PER_CALL_MAX = 10_000;
/** What it writes while no call runs. */
export const MCP_IDLE_OUTPUT_BYTES_MAX = MIB;
/** What waits for a server that does not read. */
export const MCP_UNSENT_BYTES_MAX = 2 * MIB;
/** From a message that could not be sent to the end of the process. */
export const MCP_CLOSED_INPUT_MS = 500;
/** Of its stderr, for whoever reads why it ended. */
export const MCP_STDERR_KEPT_BYTES = 4 * KIB;

/** From its start to the list of its tools. */
export const MCP_START_MS = 30_000;
/** After the last call of a session, unless the pack says otherwise. */
export const MCP_IDLE_MS = 300_000;
export const MCP_IDLE_MS_MAX = 3_600_000;
/** A process is replaced by a new one after so long, when no call runs. */
export const MCP_SESSION_MS = 4 * 3_600_000;
/** Between the notice that a call is cancelled and the end of the process. */
export const MCP_CANCEL_GRACE_MS = 100;
/** A list of tools that is older is asked for again before a call. */
export const MCP_LIST_AGE_MS = 60_000;
/** Processes and remote sessions, on the host and of one tenant. */
export const MCP_SESSIONS_MAX = 32;
export const MCP_SESSIONS_PER_TENANT = 8;

/** Servers that are asked for their tools at once. */
export const MCP_STARTS_AT_ONCE = 2;
/** After a start that failed, and at most. */
export const MCP_RETRY_MS = 30_000;
export const MCP_RETRY_MS_MAX = 600_000;

export const MCP_PINS_BYTES_MAX = 32 * MIB;
/** Parts of one result; further ones are counted. */
export const MCP_CONTENT_PARTS_MAX = 256;
/** Of an error in its own words. */
export const MCP_WORDS_CHARS_MAX = 600;

export const MCP_HEADERS_BYTES_MAX = 16 * KIB;
/** One HTTP answer. */
export const MCP_RESPONSE_BYTES_MAX = 8 * MIB;
export const MCP_CONNECT_MS = 10_000;

/** What the process of a server gets; wall time is its age, CPU time all its calls together. */
export const MCP_PROCESS_LIMITS: SandboxLimits = {
  wallMs: 6 * 3_600_000,
  cpuMs: 900_000,
  memoryBytes: 1024 * MIB,
  pids: 128,
  openFiles: 1_024,
  fileBytes: 64 * MIB,
  outputBytes: 1024 * MIB,
  tmpBytes: 64 * MIB,
};

assert(MCP_SESSION_MS < MCP_PROCESS_LIMITS.wallMs, 'a process is replaced before its time ends it within a call');
assert(MCP_SESSIONS_PER_TENANT < MCP_SESSIONS_MAX, 'one tenant cannot have all');
assert(MCP_MESSAGE_BYTES_MAX < MCP_RESPONSE_BYTES_MAX, 'the largest message fits an answer');

/** Images, audio and binary resources of a result that are handed out: bytes of one and of all. */
export const MCP_BINARY_BYTES_MAX = 512 * 1024;
export const MCP_BINARIES_BYTES_MAX = 1024 * 1024;
