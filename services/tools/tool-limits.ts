// Bounds of tools and of what prepares their calls. Units last; relations are asserted when the module loads.
import { assert } from '#kit/assert.ts';
import type { SandboxLimits } from './jail/sandbox.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Arguments of one call, as the caller sent them. */
export const ARGUMENTS_BYTES_MAX = 256 * KIB;
export const ARGUMENTS_DEPTH_MAX = 64;
/** Keys of all objects together. */
export const ARGUMENTS_KEYS_MAX = 10_000;
/** CPU time of the thread that checks arguments or compiles a schema; more is a refusal. */
export const CHECK_CPU_MS = 80;
export const COMPILE_CPU_MS = 500;
/** A machine too busy to give the thread that CPU time. */
export const CHECK_WALL_MS = 5_000;
/** Checks that wait for the thread. */
export const CHECK_QUEUE_MAX = 256;
export const CHECK_QUEUE_PER_TENANT_MAX = 64;
export const CHECK_RETRY_MS = 1_000;

/** Compiled schemas that the thread keeps: more than there are tools, some have changed. */
export const SCHEMAS_KEPT_MAX = 2_048;
export const SCHEMA_BYTES_MAX = 64 * KIB;
export const SCHEMA_DEPTH_MAX = 32;
export const DESCRIPTION_CHARS_MAX = 4_096;
/** One definition, as RegisterTool takes it. */
export const DEFINITION_BYTES_MAX = 256 * KIB;

/** A schema's `pattern`: its text, its compiled size, and instructions times characters of one match (about 70 ms). */
export const PATTERN_CHARS_MAX = 1_024;
export const PATTERN_INSTRUCTIONS_MAX = 1_000;
export const PATTERN_WORK_MAX = 1_500_000;
/** What a character costs beside the instructions, in instructions. */
export const PATTERN_CHARACTER_WORK = 10;
export const PATTERN_DEPTH_MAX = 32;

/** Tools of one registry, as ListTools may answer. */
export const TOOLS_MAX = 1_024;
export const PACK_FILES_MAX = 256;
export const PACK_BYTES_MAX = MIB;
export const PACK_TOOLS_MAX = 256;
/** Aliases are expanded at most so often: a small YAML file may stand for gigabytes. */
export const PACK_YAML_ALIASES_MAX = 100;
/** After a change in the folder, until it is read: an editor writes a file in several steps. */
export const PACK_SETTLE_MS = 100;
/** Where the system does not tell of changes, how often the folder is looked at. */
export const PACK_LOOK_MS = 5_000;

export const COMMAND_ARGV_MAX = 64;
export const COMMAND_ARG_CHARS_MAX = 4_096;
export const COMMAND_ENV_MAX = 64;

export const POLICY_BYTES_MAX = MIB;
export const POLICY_TENANTS_MAX = 10_000;

export const WORKSPACE_BYTES_MAX = 256 * MIB;
export const WORKSPACE_ENTRIES_MAX = 20_000;
/** Folders inside one another; deeper ones are not followed. */
export const WORKSPACE_DEPTH_MAX = 64;
/** Entries looked at before other work gets its turn. */
export const WORKSPACE_SLICE_ENTRIES = 256;
/** Between two scans of a workspace while calls are in it, and how many times a scan's own duration, at most so long. */
export const WORKSPACE_WATCH_MS = 500;
export const WORKSPACE_WATCH_FACTOR = 20;
export const WORKSPACE_WATCH_MAX_MS = 3_000;
/** What the file system of the workspaces must have left; with less no call begins, and those that run end. */
export const DISK_RESERVE_BYTES = 256 * MIB;
/** A workspace that no call has used for so long goes. */
export const WORKSPACE_IDLE_MS = 7 * 24 * 3_600_000;
/** The same of a run without a session's name whose end nobody told; no run waits so long between two calls. */
export const NAMELESS_IDLE_MS = 4 * 3_600_000;
/** Temporary files that a killed call left. */
export const TEMPORARY_AGE_MS = 3_600_000;
export const WORKSPACE_SWEEP_MS = 3_600_000;
/** Of one tenant; what it has beyond goes, used longest ago first. */
export const TENANT_WORKSPACES_MAX = 256;
export const TENANT_WORKSPACES_BYTES_MAX = 8 * 1024 * MIB;
/** Copies of one session, and what they may take together beside the newest. */
export const SNAPSHOTS_MAX = 8;
export const SNAPSHOTS_BYTES_MAX = 2 * WORKSPACE_BYTES_MAX;
export const SNAPSHOT_HEADER_BYTES_MAX = 16 * KIB;
export const ARTIFACTS_MAX = 32;
export const ARTIFACT_BYTES_MAX = 64 * MIB;
/** Larger ones are named and hashed, not sent. */
export const ARTIFACT_INLINE_BYTES_MAX = 64 * KIB;

export const READ_BYTES_MAX = MIB;
export const READ_BYTES_DEFAULT = 48 * KIB;
export const LIST_ENTRIES_MAX = 10_000;
export const SEARCH_MATCHES_MAX = 1_000;
export const SEARCH_MATCHES_DEFAULT = 100;
/** Larger files are passed over, and counted. */
export const SEARCH_FILE_BYTES_MAX = 4 * MIB;
export const PATCH_FILES_MAX = 100;
export const PATCH_HUNKS_MAX = 1_000;
/** A file that a patch changes, before and after. */
export const PATCH_FILE_BYTES_MAX = 4 * MIB;
export const PATH_CHARS_MAX = 1_024;

export const FETCH_BODY_BYTES_MAX = 2 * MIB;
export const FETCH_WALL_MS = 10_000;
export const FETCH_REDIRECTS_MAX = 5;
export const FETCH_URL_CHARS_MAX = 8_192;
export const FETCH_HEADERS_BYTES_MAX = 16 * KIB;
export const FETCH_RUNNING_MAX = 32;
/** Addresses of one name that are looked at; more is a refusal. */
export const FETCH_ADDRESSES_MAX = 64;
/** The process of http_fetch goes when nothing has used it for so long. */
export const FETCH_IDLE_MS = 60_000;

/** The egress proxy: connections of all sandboxes, and of one how long and how much, both ways together. */
export const PROXY_CONNECTIONS_MAX = 256;
export const PROXY_IDLE_MS = 30_000;
export const PROXY_WALL_MS = 300_000;
export const PROXY_TRAFFIC_BYTES_MAX = 256 * MIB;
export const PROXY_RESTART_MS = 500;

export const EVAL_MEMORY_BYTES = 32 * MIB;
export const EVAL_STACK_BYTES = 256 * KIB;
/** Of the code itself, and of a call with the start of a thread. */
export const EVAL_WALL_MS = 1_000;
export const EVAL_CALL_WALL_MS = 10_000;
/** What the start of a thread may take on a loaded machine; it takes some 0.1 s. */
export const EVAL_START_MS = 5_000;
/** Threads that were given up and did not end, before no more are started. */
export const EVAL_GIVEN_UP_MAX = 8;
/** After this long without a call a thread is ended, which gives its memory back; the next call starts one again. */
export const EVAL_IDLE_MS = 10_000;
/** What the ends of all threads may take when the service stops. */
export const EVAL_CLOSE_MS = 2_000;
/** What the interpreter's own stop may take before its thread is ended. */
export const EVAL_GRACE_MS = 500;
export const EVAL_THREADS_MAX = 2;
export const EVAL_QUEUE_MAX = 64;
/** Memory of an interpreter never shrinks: above it the thread is not used again. */
export const EVAL_KEEP_BYTES = 64 * MIB;
export const EVAL_RESULT_CHARS_MAX = 64 * KIB;

assert(ARTIFACT_INLINE_BYTES_MAX < ARTIFACT_BYTES_MAX, 'every artifact that is sent may exist');
assert(READ_BYTES_DEFAULT < READ_BYTES_MAX, 'a caller may ask for more than the default');
assert(CHECK_QUEUE_PER_TENANT_MAX * 2 < CHECK_QUEUE_MAX, 'one tenant leaves room for others');
assert(CHECK_CPU_MS < CHECK_WALL_MS && COMPILE_CPU_MS < CHECK_WALL_MS, 'CPU time passes within wall time');
assert(WORKSPACE_ENTRIES_MAX >= LIST_ENTRIES_MAX, 'a listing is never larger than a workspace');

/** What a tool gets whose definition says nothing. */
export const DEFAULT_LIMITS: SandboxLimits = {
  wallMs: 30_000,
  cpuMs: 30_000,
  memoryBytes: 512 * MIB,
  pids: 128,
  openFiles: 256,
  fileBytes: 64 * MIB,
  outputBytes: 8 * MIB,
  tmpBytes: 64 * MIB,
};
export const DEFAULT_MODEL_OUTPUT_BYTES = 64 * KIB;

/** What no tool gets more of, whatever its definition and the policy say. */
export const HOST_LIMITS: SandboxLimits = {
  wallMs: 300_000,
  cpuMs: 300_000,
  memoryBytes: 16 * 1024 * MIB,
  pids: 4_096,
  openFiles: 4_096,
  fileBytes: 256 * MIB,
  outputBytes: 64 * MIB,
  tmpBytes: 1024 * MIB,
};
export const HOST_MODEL_OUTPUT_BYTES = MIB;
