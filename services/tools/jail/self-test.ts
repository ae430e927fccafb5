// The self-test: runs a program of our own in the real launch path and asks the kernel what is possible there. Every
// refusal has a control that shows the question is right: the same call outside, or its allowed twin inside.
import { spawn } from 'node:child_process';
import { PROBE_KILL_MAX_MS, PROBE_STEP_MAX_MS } from './limits.ts';
import { controlOrders, judgeAnswers, judgeControl, ordersOf, type Question, questions } from './probe-orders.ts';
import type { Capability, SandboxCommand, SandboxEnd, SandboxLimits } from './sandbox.ts';
import { type RunParts, SandboxRun } from './sandbox-run.ts';
import { type Answer, SyscallOrders } from './syscall-runner.ts';

export type SelfTest = {
  /** Everything but a missing cgroup. */
  readonly sound: boolean;
  readonly list: readonly Capability[];
};

/** The program inside. */
const PROBE = '/opt/probe';

const MIB = 1024 ** 2;
const LIMITS: SandboxLimits = {
  wallMs: PROBE_STEP_MAX_MS,
  cpuMs: PROBE_STEP_MAX_MS,
  memoryBytes: 32 * MIB,
  pids: 16,
  openFiles: 64,
  fileBytes: MIB,
  outputBytes: MIB,
  tmpBytes: MIB,
};

const SYS_MMAP = 9;
const SYS_CLONE = 56;
const SIGCHLD = 17;
const SIGSYS_CODE = 128 + 31;
const EAGAIN = -11;
/** An address that is free in our program. */
const TOUCH_ADDRESS = 0x10000000;
const PRIVATE_ANONYMOUS_FIXED = 0x32;

const REMEDIES: Readonly<Record<Question['about'], string>> = {
  privileges: 'report it: the launch did not drop what it must; no tool runs meanwhile',
  secrets: 'report it: something of the service reached the sandbox; no tool runs meanwhile',
  files: 'look at the paths named: an operator bind or the toolchain root may be too wide',
  network: 'report it: the network namespace is not empty; no tool runs meanwhile',
  kernel: 'report it: the kernel or bubblewrap did not apply the filter; no tool runs meanwhile',
};

export type SelfTestPaths = {
  /** The program on the host, see syscall-runner.ts. */
  readonly probe: string;
  /** A file that the service's account can read. */
  readonly canary: string;
};

type Inside = { readonly end: SandboxEnd; readonly answers: readonly Answer[] };

function probeCommand(probe: string, stdin: Uint8Array | null): SandboxCommand {
  return {
    argv: [PROBE],
    env: {},
    stdin,
    workspace: null,
    binds: [{ from: probe, to: PROBE }],
    network: 'none',
    limits: LIMITS,
  };
}

async function runInside(parts: RunParts, probe: string, orders: SyscallOrders, signal: AbortSignal): Promise<Inside> {
  const chunks: Uint8Array[] = [];
  const output = {
    write: (stream: string, data: Uint8Array): boolean => stream !== 'stdout' || chunks.push(data) > 0,
    drained: async (): Promise<void> => {},
  };
  const run = new SandboxRun(probeCommand(probe, orders.encode()), parts, { output, stdin: 'given' });
  const stop = (): void => void run.kill('cancelled');
  signal.addEventListener('abort', stop, { once: true });
  const end = await run.ended;
  signal.removeEventListener('abort', stop);
  return { end, answers: orders.decode(Buffer.concat(chunks)) };
}

/** The program outside, as the service's own account. */
async function runOutside(probe: string, orders: SyscallOrders, signal: AbortSignal): Promise<Answer[]> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const child = spawn(probe, [], { env: {}, cwd: '/', stdio: ['pipe', 'pipe', 'ignore'], signal });
  const chunks: Uint8Array[] = [];
  child.on('error', () => resolve());
  child.on('close', () => resolve());
  child.stdout.on('data', (data: Uint8Array) => chunks.push(data));
  child.stdin.on('error', () => {});
  child.stdin.end(orders.encode());
  await promise;
  return orders.decode(Buffer.concat(chunks));
}

const sentence = (end: SandboxEnd): string =>
  end.setupFailure ?? end.killed ?? (end.signal ? `signal ${end.signal}` : `exit code ${end.exitCode}`);

/** Messages of a failed launch, with what they mean. */
const LAUNCH_REMEDIES: readonly [RegExp, string][] = [
  [
    /setting up uid map: Permission denied/i,
    "AppArmor restricts user namespaces (Ubuntu 24.04): use the distribution's /usr/bin/bwrap with its profile, or add " +
      'one: "abi <abi/4.0>, profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }" in /etc/apparmor.d/bwrap, then ' +
      'apparmor_parser -r on it',
  ],
  [
    /No permissions to create (?:a )?new namespace|Creating new namespace failed/i,
    'user namespaces are closed: in a container its seccomp profile forbids them (docker run --security-opt ' +
      'seccomp=unconfined, or a profile that allows clone and unshare with CLONE_NEWUSER); on a host set ' +
      'sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone=1',
  ],
  [
    /Can't mount proc on/i,
    'this container masks parts of /proc: run it with --security-opt systempaths=unconfined, or on a host',
  ],
  [/Can't find source path|Permission denied/i, 'let the account of the tool service read the paths of the toolchain'],
];

export function launchRemedy(failure: string): string {
  const known = LAUNCH_REMEDIES.find(([pattern]) => pattern.test(failure));
  return known?.[1] ?? 'run bwrap by hand as the account of the tool service and see what it misses';
}

function capability(name: string, problem: string | null, good: string, remedy: string): Capability {
  return { name, available: problem === null, detail: problem ?? good, remedy: problem === null ? '' : remedy };
}

/** Launch and everything that one run can be asked. */
async function askQuestions(parts: RunParts, paths: SelfTestPaths, signal: AbortSignal): Promise<Capability[]> {
  const list = questions(paths.canary);
  const { end, answers } = await runInside(parts, paths.probe, ordersOf(list), signal);
  const failed = end.exitCode === 0 ? null : `the probe ended with ${sentence(end)}`;
  const launched = capability('launch', failed, 'a program of ours runs in it', launchRemedy(sentence(end)));
  if (failed !== null) return [launched];
  const control = judgeControl(await runOutside(paths.probe, controlOrders(paths.canary), signal));
  const findings = judgeAnswers(list, answers);
  const caps = (Object.keys(REMEDIES) as Question['about'][]).map((about) => {
    const problems = findings.filter((finding) => finding.about === about).map(({ problem }) => problem);
    const count = list.filter((question) => question.about === about).length;
    const problem = problems.length > 0 ? problems.join('; ') : null;
    return capability(about, problem, `${count} answers as they must be`, REMEDIES[about]);
  });
  const remedy =
    'the self-test cannot tell refused from impossible here; see whether the state folder is on a noexec mount';
  return [launched, ...caps, capability('controls', control, 'the same outside is possible', remedy)];
}

/** Another architecture's calls end the process. */
async function askInt80(parts: RunParts, paths: SelfTestPaths, signal: AbortSignal): Promise<Capability> {
  const orders = new SyscallOrders().call(39).int80(20);
  const { end, answers } = await runInside(parts, paths.probe, orders, signal);
  const held = end.exitCode === SIGSYS_CODE && answers.length === 1;
  const problem = held
    ? null
    : `expected the end by SIGSYS after one answer, got ${sentence(end)} after ${answers.length}`;
  return capability('int80', problem, 'i386 calls end the process', REMEDIES.kernel);
}

/** Memory that is touched beyond the limit ends the program, below it does not. */
async function askMemory(parts: RunParts, paths: SelfTestPaths, signal: AbortSignal): Promise<Capability> {
  const touch = (bytes: number): SyscallOrders =>
    new SyscallOrders()
      .call(SYS_MMAP, TOUCH_ADDRESS, bytes, 3, PRIVATE_ANONYMOUS_FIXED, -1, 0)
      .touch(TOUCH_ADDRESS, bytes);
  const below = await runInside(parts, paths.probe, touch(LIMITS.memoryBytes / 4), signal);
  const beyond = await runInside(parts, paths.probe, touch(LIMITS.memoryBytes * 2), signal);
  const stopped = parts.cgroups === null ? beyond.answers[0]?.result !== TOUCH_ADDRESS : beyond.end.killed === 'memory';
  const problem =
    below.end.exitCode === 0 && below.end.killed === null && stopped
      ? null
      : `a quarter of the limit: ${sentence(below.end)}; twice the limit: ${sentence(beyond.end)}`;
  return capability(
    'memory',
    problem,
    `${LIMITS.memoryBytes / MIB} MiB hold`,
    'see that the memory controller is enabled',
  );
}

/** Forks stop at the limit, and what they left running is gone after the kill. */
async function askProcesses(parts: RunParts, paths: SelfTestPaths): Promise<Capability[]> {
  const orders = new SyscallOrders();
  for (let i = 0; i < 2 * LIMITS.pids; i++) orders.fork(SYS_CLONE, SIGCHLD, 0, 0, 0, 0);
  const { promise: answered, resolve } = Promise.withResolvers<Answer[]>();
  const chunks: Uint8Array[] = [];
  const output = {
    write(stream: string, data: Uint8Array): boolean {
      if (stream === 'stdout') chunks.push(data);
      const answers = orders.decode(Buffer.concat(chunks));
      if (answers.length === 2 * LIMITS.pids) resolve(answers);
      return true;
    },
    drained: async (): Promise<void> => {},
  };
  const run = new SandboxRun(probeCommand(paths.probe, null), parts, { output, stdin: 'open' });
  await run.started.catch(() => {});
  run.stdin?.write(orders.encode());
  run.ended.then(() => resolve([]));
  const answers = await answered;
  const forked = answers.filter(({ result }) => result > 0).length;
  const refused = answers.filter(({ result }) => result === EAGAIN).length;
  const limit = forked > 0 && forked < LIMITS.pids && refused > 0;
  const since = performance.now();
  await run.kill('cancelled');
  const goneMs = performance.now() - since;
  const slow = goneMs > PROBE_KILL_MAX_MS || forked === 0;
  return [
    capability(
      'pids',
      limit ? null : `${forked} forked, ${refused} refused`,
      `${forked} of ${LIMITS.pids} held`,
      'see that the pids controller is enabled',
    ),
    capability(
      'kill',
      slow ? `${forked} processes gone after ${Math.round(goneMs)} ms` : null,
      `${forked} processes gone in ${Math.round(goneMs)} ms`,
      'the machine is overloaded, or cgroups cannot be killed',
    ),
  ];
}

/** All parts in order; a launch that fails is all there is to say. Never rejects. */
export async function selfTest(
  parts: RunParts,
  paths: SelfTestPaths,
  options: { readonly signal: AbortSignal },
): Promise<SelfTest> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(2 * PROBE_STEP_MAX_MS)]);
  const list = await askQuestions(parts, paths, signal);
  if (list[0]!.available) {
    list.push(await askInt80(parts, paths, signal));
    list.push(await askMemory(parts, paths, signal));
    list.push(...(await askProcesses(parts, paths)));
  }
  return { sound: list.every(({ available }) => available), list };
}
