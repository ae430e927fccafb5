/** The filter as the kernel would read it: every number, the architecture, and the arguments that decide. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkMode } from '../../../../services/tools/jail/sandbox.ts';
import { INSTRUCTION_BYTES, seccompFilter } from '../../../../services/tools/jail/seccomp-filter.ts';
import { DENIED_GROUPS, ERRNO, SYSCALL_CEILING } from '../../../../services/tools/jail/seccomp-table.ts';
import { runFilter } from './bpf.ts';

const X86_64 = 0xc000003e;
const ALLOW = 0x7fff0000;
const KILL = 0x80000000;
const EPERM = 0x50001;
const ENOSYS = 0x50026;
const EAFNOSUPPORT = 0x50061;
const modes: NetworkMode[] = ['none', 'proxy'];

const filters = { none: seccompFilter('none'), proxy: seccompFilter('proxy') };
const verdict = (mode: NetworkMode, number: number, ...args: (number | bigint)[]): number =>
  runFilter(filters[mode], { number, arch: X86_64, args: args.map(BigInt) });

/** Written down apart from the table: what the kernel calls these numbers must stay refused. */
const mustDeny: [number, string][] = [
  [101, 'ptrace'],
  [165, 'mount'],
  [166, 'umount2'],
  [155, 'pivot_root'],
  [161, 'chroot'],
  [272, 'unshare'],
  [308, 'setns'],
  [321, 'bpf'],
  [298, 'perf_event_open'],
  [323, 'userfaultfd'],
  [250, 'keyctl'],
  [248, 'add_key'],
  [249, 'request_key'],
  [310, 'process_vm_readv'],
  [438, 'pidfd_getfd'],
  [428, 'open_tree'],
  [442, 'mount_setattr'],
  [304, 'open_by_handle_at'],
  [220, 'semtimedop'],
  [29, 'shmget'],
  [240, 'mq_open'],
];

test('every number has the verdict that the table says, and no other', () => {
  const expected = new Map<number, number>();
  for (const { errno, syscalls } of DENIED_GROUPS) {
    for (const number of Object.values(syscalls)) {
      assert(!expected.has(number), `${number} stands twice`);
      assert(number < SYSCALL_CEILING, `${number} is above the ceiling`);
      expected.set(number, 0x50000 | ERRNO[errno]);
    }
  }
  for (const mode of modes) {
    for (let number = 0; number < SYSCALL_CEILING; number++) {
      if (number === 41 || number === 53) continue; // decided by arguments
      assert.equal(verdict(mode, number), expected.get(number) ?? ALLOW, `${mode} ${number}`);
    }
  }
});

test('the calls that open a way out are refused', () => {
  for (const [number, name] of mustDeny) assert.equal(verdict('proxy', number), EPERM, name);
  for (const number of [425, 426, 427, 435, 453]) assert.equal(verdict('proxy', number), ENOSYS, String(number));
});

test('what programs need is allowed', () => {
  const needed = [
    0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 39, 57, 58, 59, 60, 61, 62, 157, 202, 231, 257, 262, 302, 318, 332, 334, 439,
  ];
  for (const mode of modes) for (const number of needed) assert.equal(verdict(mode, number), ALLOW, String(number));
});

test('numbers at and above the ceiling, and all of x32, do not exist', () => {
  for (const number of [SYSCALL_CEILING, 467, 511, 512, 547, 1000, 0x40000000, 0x40000000 + 59, 0x7fffffff, -1]) {
    assert.equal(verdict('proxy', number), ENOSYS, String(number));
  }
});

test('another architecture ends the process', () => {
  const i386 = 0x40000003;
  const aarch64 = 0xc00000b7;
  for (const mode of modes) {
    for (const arch of [i386, aarch64, 0]) {
      for (const number of [0, 1, 11, 56, 435]) {
        assert.equal(runFilter(filters[mode], { number, arch, args: [] }), KILL, `${arch} ${number}`);
      }
    }
  }
});

test('clone makes threads and processes, but no namespace, whatever else is in the flags', () => {
  const SIGCHLD = 17;
  const THREAD = 0x3d0f00;
  for (const flags of [SIGCHLD, THREAD, 0, 0x4000 | SIGCHLD]) assert.equal(verdict('none', 56, flags), ALLOW);
  for (const bit of [0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]) {
    assert.equal(verdict('none', 56, bit), EPERM, bit.toString(16));
    assert.equal(verdict('none', 56, bit | SIGCHLD | THREAD), EPERM, bit.toString(16));
    assert.equal(verdict('none', 56, (1n << 40n) | BigInt(bit)), EPERM, 'a high word hides nothing');
  }
});

test('ioctl is judged by its low 32 bits only, as the kernel takes it', () => {
  for (const request of [0x5412, 0x541c, 0x5423]) {
    assert.equal(verdict('none', 16, 0, request), EPERM);
    assert.equal(verdict('none', 16, 0, 0xdead_beef_0000_0000n | BigInt(request)), EPERM);
  }
  for (const request of [0x5401, 0x5413, 0x5421, 0x5411, 0x541b]) assert.equal(verdict('none', 16, 0, request), ALLOW);
  assert.equal(verdict('none', 16, 0x5412, 0x5413), ALLOW, 'the descriptor is not the request');
});

test('sockets: local and netlink ones, and IP only in the network variant', () => {
  const ofFamily = (mode: NetworkMode): number[] =>
    Array.from({ length: 64 }, (_, family) => family).filter((family) => verdict(mode, 41, family) === ALLOW);
  assert.deepEqual(ofFamily('none'), [1, 16]);
  assert.deepEqual(ofFamily('proxy'), [1, 2, 10, 16]);
  for (const mode of modes) {
    for (const family of [17, 38, 40, 44]) assert.equal(verdict(mode, 41, family), EAFNOSUPPORT, String(family));
    assert.equal(verdict(mode, 41, (1n << 32n) | 40n), EAFNOSUPPORT, 'a high word hides nothing');
    assert.equal(verdict(mode, 53, 1), ALLOW);
    for (const family of [2, 10, 16, 40]) assert.equal(verdict(mode, 53, family), EAFNOSUPPORT, `pair ${family}`);
  }
});

test('the program is whole records, short enough for its jumps, and ends in a return', () => {
  for (const mode of modes) {
    const filter = filters[mode];
    assert.equal(filter.length % INSTRUCTION_BYTES, 0);
    assert(filter.length / INSTRUCTION_BYTES <= 256);
    assert.equal(filter.at(-INSTRUCTION_BYTES), 0x06);
  }
  assert.equal(filters.proxy.length - filters.none.length, 2 * INSTRUCTION_BYTES);
});
