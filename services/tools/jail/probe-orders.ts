// What the self-test asks the kernel inside a sandbox, and what it must answer.
import { WORK } from './launch-options.ts';
import { type Answer, SyscallOrders } from './syscall-runner.ts';

const EPERM = -1;
const ENOENT = -2;
const ENOSYS = -38;
const EAFNOSUPPORT = -97;

const O_WRITE_CREATE = 0o101;
const DUMP_BYTES = 4096;

/** One thing that is asked: adds its orders and judges their answers; a text says what is wrong. */
export type Question = {
  /** The capability that it belongs to. */
  readonly about: 'privileges' | 'secrets' | 'files' | 'network' | 'kernel';
  readonly name: string;
  ask(orders: SyscallOrders): void;
  /** Answers that it gets. */
  readonly answers: number;
  judge(answers: readonly Answer[]): string | null;
};

const expectErrno =
  (...allowed: readonly number[]) =>
  ([answer]: readonly Answer[]): string | null =>
    answer && allowed.includes(answer.result) ? null : `expected ${allowed.join(' or ')}, got ${answer?.result}`;

function call(
  about: Question['about'],
  name: string,
  number: number,
  args: readonly (number | string | Uint8Array)[],
  judge: Question['judge'],
): Question {
  return { about, name, answers: 1, ask: (orders) => void orders.call(number, ...args), judge };
}

/** A file's beginning as text; null when it cannot be opened. */
function file(about: Question['about'], path: string, judge: (text: string | null) => string | null): Question {
  return {
    about,
    name: path,
    answers: 4,
    ask(orders) {
      const room = orders.room(DUMP_BYTES);
      // The descriptor is 3: every other one is closed again.
      orders.call(2, path, 0).call(0, 3, room, DUMP_BYTES).dump(room, DUMP_BYTES).call(3, 3);
    },
    judge([opened, read, dumped]) {
      if (!opened || opened.result < 0) return judge(null);
      if (opened.result !== 3) return `expected descriptor 3, got ${opened.result}: something was inherited`;
      const bytes = Math.max(0, read?.result ?? 0);
      return judge(Buffer.from(dumped?.data.subarray(0, bytes) ?? []).toString('latin1'));
    },
  };
}

/** Opens a new file for writing; descriptors of what may be written are closed again. */
function write(path: string, expected: 'refused' | 'allowed'): Question {
  return {
    about: 'files',
    name: `${expected === 'refused' ? 'no ' : ''}writing to ${path}`,
    answers: 2,
    ask: (orders) => void orders.call(2, path, O_WRITE_CREATE, 0o600).call(3, 3),
    judge: ([opened]) =>
      (opened?.result ?? 0) < 0 === (expected === 'refused') ? null : `open() gave ${opened?.result}`,
  };
}

const CLONE_NEWUSER = 0x10000000;
const SIGCHLD = 17;

/** Numbers of x86_64. */
const KERNEL: readonly Question[] = [
  call('kernel', 'vsock', 41, [40, 1, 0], expectErrno(EAFNOSUPPORT)),
  call('kernel', 'AF_ALG', 41, [38, 5, 0], expectErrno(EAFNOSUPPORT)),
  call('kernel', 'AF_PACKET', 41, [17, 3, 0], expectErrno(EAFNOSUPPORT)),
  call('kernel', 'local sockets (control)', 41, [1, 1, 0], ([answer]) =>
    (answer?.result ?? -1) >= 0 ? null : `socket() gave ${answer?.result}`,
  ),
  call('kernel', 'closing it', 3, [3], expectErrno(0)),
  call('kernel', 'io_uring', 425, [4, new Uint8Array(120)], expectErrno(ENOSYS)),
  call('kernel', 'keyrings', 250, [0, -3, 0], expectErrno(EPERM)),
  call('kernel', 'bpf', 321, [0, new Uint8Array(72), 72], expectErrno(EPERM)),
  call('kernel', 'perf events', 298, [new Uint8Array(112), 0, -1, -1, 0], expectErrno(EPERM)),
  call('kernel', 'userfaultfd', 323, [0], expectErrno(EPERM)),
  call('kernel', 'ptrace', 101, [16, 1, 0, 0], expectErrno(EPERM)),
  call('kernel', 'user namespace by unshare', 272, [CLONE_NEWUSER], expectErrno(EPERM)),
  {
    about: 'kernel',
    name: 'user namespace by clone',
    answers: 1,
    ask: (orders) => void orders.fork(56, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
    judge: expectErrno(EPERM),
  },
  {
    about: 'kernel',
    name: 'clone3',
    answers: 1,
    ask: (orders) => void orders.fork(435, new Uint8Array(88), 88),
    judge: expectErrno(ENOSYS),
  },
  call('kernel', 'mount', 165, ['none', WORK, 'tmpfs', 0, 0], expectErrno(EPERM)),
  call('kernel', 'fsopen', 430, ['tmpfs', 0], expectErrno(EPERM)),
  call('kernel', 'typing into a terminal', 16, [0, 0x5412, 0], expectErrno(EPERM)),
  call('kernel', 'x32 calls', 0x40000000 + 39, [], expectErrno(ENOSYS)),
];

function statusLine(text: string | null, name: string): string {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(text ?? '')?.[1] ?? 'nothing';
}

const STATUS_WANTED: Readonly<Record<string, string>> = {
  CapInh: '0000000000000000',
  CapPrm: '0000000000000000',
  CapEff: '0000000000000000',
  CapBnd: '0000000000000000',
  CapAmb: '0000000000000000',
  NoNewPrivs: '1',
  Seccomp: '2',
};

function judgeStatus(text: string | null): string | null {
  for (const [name, wanted] of Object.entries(STATUS_WANTED)) {
    const actual = statusLine(text, name);
    if (actual !== wanted) return `${name}: expected ${wanted}, got ${actual}`;
  }
  return null;
}

/** Number of entries in a folder of descriptors, as getdents64 lists it. */
const DESCRIPTORS: Question = {
  about: 'secrets',
  name: 'descriptors 0 to 2 only',
  answers: 3,
  ask(orders) {
    orders.call(2, '/proc/self/fd', 0o200000).call(217, 3, orders.room(DUMP_BYTES), DUMP_BYTES).call(3, 3);
  },
  // ".", "..", 0, 1, 2 and the folder's own, each a record of 24 bytes.
  judge: ([opened, listed]) =>
    opened?.result === 3 && listed?.result === 6 * 24
      ? null
      : `expected 3 and 144, got ${opened?.result} and ${listed?.result}`,
};

const SECRETS: readonly Question[] = [
  DESCRIPTORS,
  file('secrets', '/proc/1/environ', (text) =>
    text === '' ? null : `expected an empty text, got ${text === null ? 'an error' : `${text.length} characters`}`,
  ),
  file('secrets', '/proc/1/cmdline', (text) =>
    text !== null && !/--(?:ro-)?bind/.test(text) ? null : 'the options of the launch can be read',
  ),
];

function absent(path: string): Question {
  return call('files', `no ${path}`, 2, [path, 0], expectErrno(ENOENT));
}

/** Everything that is asked in one run. `canary` is a file of the host that the service's account can read. */
export function questions(canary: string): Question[] {
  return [
    call('privileges', 'user 1000', 102, [], expectErrno(1000)),
    file('privileges', '/proc/self/status', judgeStatus),
    ...SECRETS,
    absent(canary),
    ...['/root', '/home', '/var', '/run/docker.sock', '/sys/kernel', '/etc/shadow'].map(absent),
    ...['/quern', '/usr/quern', '/etc/quern', '/dev/quern'].map((path) => write(path, 'refused')),
    write('/proc/sys/kernel/core_pattern', 'refused'),
    ...['/tmp/quern', '/dev/shm/quern', `${WORK}/quern`].map((path) => write(path, 'allowed')),
    call('network', 'no IP sockets', 41, [2, 1, 0], expectErrno(EAFNOSUPPORT)),
    file('network', '/proc/net/route', (text) =>
      text !== null && text.trim().split('\n').length === 1 ? null : 'there is a route',
    ),
    ...KERNEL,
  ];
}

/** All orders of some questions. */
export function ordersOf(list: readonly Question[]): SyscallOrders {
  const orders = new SyscallOrders();
  for (const question of list) question.ask(orders);
  return orders;
}

export type Finding = { readonly about: Question['about']; readonly problem: string };

/** What is wrong, by question; an answer that is missing is wrong too. */
export function judgeAnswers(list: readonly Question[], answers: readonly Answer[]): Finding[] {
  let at = 0;
  return list.flatMap(({ about, name, answers: count, judge }) => {
    const own = answers.slice(at, at + count);
    at += count;
    const problem = own.length < count ? 'no answer' : judge(own);
    return problem === null ? [] : [{ about, problem: `${name}: ${problem}` }];
  });
}

/** The same questions outside must be answered otherwise: a canary that opens, sockets that are made. */
export function controlOrders(canary: string): SyscallOrders {
  return new SyscallOrders().call(2, canary, 0).call(3, 3).call(41, 2, 1, 0).call(3, 3).call(250, 0, -3, 0).call(102);
}

/** What is wrong with the controls, or null. */
export function judgeControl(answers: readonly Answer[]): string | null {
  const [canary, , internet] = answers;
  if (answers.length < 6) return `the control outside gave ${answers.length} of 6 answers`;
  if (canary!.result < 0) return `the canary cannot be read outside either (${canary!.result})`;
  if (internet!.result < 0) return `IP sockets cannot be made outside either (${internet!.result})`;
  return null;
}
