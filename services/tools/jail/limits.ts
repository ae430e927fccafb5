// Every bound the sandbox keeps, with its reason. Units last.
import { assert } from '#kit/assert.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export const STDIN_MAX_BYTES = MIB;
/** One argument or variable: the kernel's MAX_ARG_STRLEN, less its terminator. */
export const ARGUMENT_MAX_BYTES = 128 * KIB - 1;
/** All of them together: far below what the kernel takes, since each launch copies them. */
export const ARGUMENTS_MAX_BYTES = MIB;
/** bubblewrap refuses more than 9000 options; a variable takes three, a bind three. */
export const ENV_MAX_COUNT = 256;
export const BINDS_MAX_COUNT = 64;
export const PROTECTED_MAX_COUNT = 64;

/** /dev/shm of every sandbox: Python's multiprocessing needs some. */
export const SHM_BYTES = 8 * MIB;
/** The account inside; nothing there is root. */
export const INNER_UID = 1000;

/** From spawn to the first instruction; beyond it the launch has failed. Far above what a busy machine needs. */
export const SETUP_MAX_MS = 10_000;
/** Launches that wait for a command, per kind of standard input: what is asked for one after the other finds one ready. */
export const SPARE_LAUNCHES = 4;
/** After one was taken, its successor is made when a run ends, and at the latest after this. */
export const SPARE_FILL_MS = 50;
/** What bubblewrap may say about a failed launch. */
export const SETUP_TEXT_MAX_BYTES = 4 * KIB;
/** Between looks at the CPU time and memory of a running sandbox: what it may overrun by, per core. */
export const USAGE_POLL_MS = 100;
/** Between looks at the workspace's size. */
export const DISK_POLL_MS = 500;
/** For a command that was killed: how long its last output may wait for a caller that does not read. */
export const DELIVERY_MAX_MS = 1_000;
/** What a server that is asked to stop gets before it is killed. */
export const GENTLE_STOP_MS = 1_000;
/** Of that, how long it may take the end of its input as the sign, before SIGTERM. */
export const GENTLE_CLOSE_MS = 300;
/** After SIGKILL of bubblewrap its namespace ends by itself; then the cgroup's processes are killed one by one ... */
export const KILL_GRACE_MS = 25;
/** ... again and again at this distance. */
export const KILL_RETRY_MS = 10;
/** Removing a cgroup gives EBUSY for some ms after its last process is gone. */
export const CGROUP_REMOVE_RETRY_MS = 2;
export const CGROUP_REMOVE_MAX_MS = 5_000;
/** How long the processes of a sandbox may take to stand still while another is made beside it, milliseconds as a rule; between looks. */
export const FREEZE_MAX_MS = 5_000;
export const FREEZE_RETRY_MS = 1;
/** Where they cannot be made to: how long the other sandbox waits for their end, before it is refused. */
export const HOLD_WAIT_MS = 10_000;
/** The CPU quota's period, the kernel's own default. */
export const CPU_PERIOD_US = 100_000;
/** Cores per sandbox. */
export const CPU_CORES = 1;

/** The self-test: between two, and what one part of it may take. */
export const PROBE_INTERVAL_MS = 300_000;
/** After a test that failed, doubled each time up to the interval. */
export const PROBE_RETRY_MS = 2_000;
export const PROBE_STEP_MAX_MS = 10_000;
/** A process that was left behind must be gone this long after the kill. */
export const PROBE_KILL_MAX_MS = 500;

/** How long an inherited-looking file may stay open before it is closed: what a thread of Node's reads at its start is gone by then. */
export const STRAY_FILE_WAIT_MS = 3_000;
export const STRAY_FILE_LOOK_MS = 20;

/** bubblewrap before this has no --disable-userns, or bugs around it. */
export const BUBBLEWRAP_MIN_VERSION: readonly [number, number, number] = [0, 8, 0];
/** The account that the service becomes when it was started as root and none is configured: it owns nothing. */
export const UNPRIVILEGED_ID = 65_532;

assert(ARGUMENT_MAX_BYTES < ARGUMENTS_MAX_BYTES, 'one argument fits');
assert(PROBE_RETRY_MS < PROBE_INTERVAL_MS, 'a test that failed is repeated sooner');
assert(KILL_GRACE_MS < PROBE_KILL_MAX_MS, 'the self-test sees the kill loop');
