// The seccomp filter as the bytes that bubblewrap loads: classic BPF over struct seccomp_data, assembled from the table
// in seccomp-table.ts. Source: Documentation/userspace-api/seccomp_filter.rst, linux/bpf_common.h.
import { assert } from '#kit/assert.ts';
import type { NetworkMode } from './sandbox.ts';
import {
  CLONE_NAMESPACES,
  DENIED_GROUPS,
  DENIED_IOCTLS,
  ERRNO,
  NETWORK_FAMILIES,
  SOCKET_FAMILIES,
  SYS_CLONE,
  SYS_IOCTL,
  SYS_SOCKET,
  SYS_SOCKETPAIR,
  SYSCALL_CEILING,
} from './seccomp-table.ts';

/** sizeof(struct sock_filter): u16 code, u8 jt, u8 jf, u32 k. */
export const INSTRUCTION_BYTES = 8;

const LOAD_WORD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER_OR_EQUAL = 0x35;
const JUMP_BITS_SET = 0x45;
const RETURN = 0x06;

const OFFSET_NUMBER = 0;
const OFFSET_ARCH = 4;
/** The low word of an argument: the kernel's int parameters ignore the high one. */
const offsetOfArgument = (index: number): number => 16 + 8 * index;

const AUDIT_ARCH_X86_64 = 0xc000003e;
const RET_ALLOW = 0x7fff0000;
const RET_KILL_PROCESS = 0x80000000;
const retErrno = (errno: number): number => 0x50000 | errno;

/** What the program ends with; the jumps lead there. */
const VERDICTS = {
  allow: RET_ALLOW,
  kill: RET_KILL_PROCESS,
  EPERM: retErrno(ERRNO.EPERM),
  ENOSYS: retErrno(ERRNO.ENOSYS),
  EAFNOSUPPORT: retErrno(ERRNO.EAFNOSUPPORT),
} as const;

type Verdict = keyof typeof VERDICTS;
/** `yes`, `no`: a verdict, or a number of instructions to skip. */
type Instruction = { code: number; k: number; yes?: Verdict | number; no?: Verdict | number };

const load = (offset: number): Instruction => ({ code: LOAD_WORD, k: offset });
const equal = (k: number, yes: Verdict | number, no: Verdict | number): Instruction => ({
  code: JUMP_EQUAL,
  k,
  yes,
  no,
});

/** One test per call, for the whole deny-list. */
function deniedNumbers(): Instruction[] {
  return DENIED_GROUPS.flatMap(({ errno, syscalls }) =>
    Object.values(syscalls).map((number) => equal(number, errno, 0)),
  );
}

/** For one call number: `tests` look at its arguments and end in verdicts; every other number skips them. */
function whenCalled(number: number, tests: Instruction[]): Instruction[] {
  return [equal(number, 0, tests.length), ...tests];
}

function assemble(network: NetworkMode): Instruction[] {
  const families = network === 'proxy' ? [...SOCKET_FAMILIES, ...NETWORK_FAMILIES] : SOCKET_FAMILIES;
  const oneOf = (values: readonly number[], match: Verdict, otherwise: Verdict): Instruction[] =>
    values.map((value, index) => equal(value, match, index === values.length - 1 ? otherwise : 0));
  return [
    load(OFFSET_ARCH),
    equal(AUDIT_ARCH_X86_64, 0, 'kill'), // int 0x80 has other numbers
    load(OFFSET_NUMBER),
    { code: JUMP_GREATER_OR_EQUAL, k: SYSCALL_CEILING, yes: 'ENOSYS', no: 0 },
    ...deniedNumbers(),
    ...whenCalled(SYS_CLONE, [
      load(offsetOfArgument(0)),
      { code: JUMP_BITS_SET, k: CLONE_NAMESPACES, yes: 'EPERM', no: 'allow' },
    ]),
    ...whenCalled(SYS_IOCTL, [load(offsetOfArgument(1)), ...oneOf(DENIED_IOCTLS, 'EPERM', 'allow')]),
    ...whenCalled(SYS_SOCKET, [load(offsetOfArgument(0)), ...oneOf(families, 'allow', 'EAFNOSUPPORT')]),
    ...whenCalled(SYS_SOCKETPAIR, [load(offsetOfArgument(0)), ...oneOf([1], 'allow', 'EAFNOSUPPORT')]),
  ];
}

/**
 * The filter for x86_64: [instructions, 8] little-endian records. 'proxy' also lets IP sockets be made.
 * A jump reaches 255 instructions, so the program stays shorter than that.
 */
export function seccompFilter(network: NetworkMode): Uint8Array {
  const body = assemble(network);
  const verdicts = Object.keys(VERDICTS) as Verdict[];
  const length = body.length + verdicts.length;
  assert(length <= 256, `the filter has ${length} instructions; a jump must reach its end`);
  const bytes = new DataView(new ArrayBuffer(length * INSTRUCTION_BYTES));
  const write = (index: number, code: number, yes: number, no: number, k: number): void => {
    assert(yes >= 0 && yes <= 255 && no >= 0 && no <= 255, 'a jump of the filter fits into a byte');
    bytes.setUint16(index * INSTRUCTION_BYTES, code, true);
    bytes.setUint8(index * INSTRUCTION_BYTES + 2, yes);
    bytes.setUint8(index * INSTRUCTION_BYTES + 3, no);
    bytes.setUint32(index * INSTRUCTION_BYTES + 4, k >>> 0, true);
  };
  body.forEach(({ code, k, yes = 0, no = 0 }, index) => {
    const skip = (target: Verdict | number): number =>
      typeof target === 'number' ? target : body.length + verdicts.indexOf(target) - index - 1;
    write(index, code, skip(yes), skip(no), k);
  });
  verdicts.forEach((verdict, index) => {
    write(body.length + index, RETURN, 0, 0, VERDICTS[verdict]);
  });
  return new Uint8Array(bytes.buffer);
}
