// The first program in a sandbox: says that all is made, waits for the command, sets its limits and becomes it. The command
// comes last and through a descriptor, so that bubblewrap can be started before there is one. Whoever writes it holds the
// command back: what comes short, because its writer died, starts nothing.
import { assert } from '#kit/assert.ts';
import { ARGUMENTS_MAX_BYTES } from './limits.ts';
import type { SandboxCommand } from './sandbox.ts';
import { MEMORY_ADDRESS, staticProgram } from './static-program.ts';

/** Where it lies inside; inner-etc.ts puts it there. */
export const STARTER_PATH = '/etc/start';
/** Its socket: one byte comes when it runs, the command goes to it. Closed before the command starts. */
export const STARTER_FD = 6;

const MEMORY_BYTES = 0x1000000;

/** x86_64, AT&T notation beside it; made with GNU as from those lines. STARTER_FD and MEMORY_ADDRESS are in it. */
const CODE: readonly string[] = [
  // _start:
  '48 8b 0c 24', // mov (%rsp),%rcx
  '4c 8d 74 cc 10', // lea 0x10(%rsp,%rcx,8),%r14
  'b8 01 00 00 00', // mov $0x1,%eax
  'bf 06 00 00 00', // mov $0x6,%edi
  '48 89 e6', // mov %rsp,%rsi
  'ba 01 00 00 00', // mov $0x1,%edx
  '0f 05', // syscall
  'bd 00 00 60 00', // mov $0x600000,%ebp
  '41 89 ec', // mov %ebp,%r12d
  // more:
  '31 c0', // xor %eax,%eax
  'bf 06 00 00 00', // mov $0x6,%edi
  '4c 89 e6', // mov %r12,%rsi
  'ba 00 00 60 01', // mov $0x1600000,%edx
  '44 29 e2', // sub %r12d,%edx
  '0f 05', // syscall
  '48 85 c0', // test %rax,%rax
  '78 7d', // js bb <quit>
  '74 05', // je 45 <whole>
  '49 01 c4', // add %rax,%r12
  'eb e0', // jmp 25 <more>
  // whole:
  '49 29 ec', // sub %rbp,%r12
  '74 71', // je bb <quit>
  '4c 3b 65 00', // cmp 0x0(%rbp),%r12
  '75 6b', // jne bb <quit>
  '8b 5d 28', // mov 0x28(%rbp),%ebx
  '4c 8d 7d 30', // lea 0x30(%rbp),%r15
  // limit:
  '85 db', // test %ebx,%ebx
  '74 20', // je 7b <ready>
  'b8 2e 01 00 00', // mov $0x12e,%eax
  '31 ff', // xor %edi,%edi
  '41 8b 37', // mov (%r15),%esi
  '49 8d 57 08', // lea 0x8(%r15),%rdx
  '45 31 d2', // xor %r10d,%r10d
  '0f 05', // syscall
  '48 85 c0', // test %rax,%rax
  '75 26', // jne 99 <failed>
  '49 83 c7 18', // add $0x18,%r15
  'ff cb', // dec %ebx
  'eb dc', // jmp 57 <limit>
  // ready:
  'b8 03 00 00 00', // mov $0x3,%eax
  'bf 06 00 00 00', // mov $0x6,%edi
  '0f 05', // syscall
  'b8 3b 00 00 00', // mov $0x3b,%eax
  '48 8b 7d 08', // mov 0x8(%rbp),%rdi
  '48 8b 75 10', // mov 0x10(%rbp),%rsi
  '4c 89 f2', // mov %r14,%rdx
  '0f 05', // syscall
  // failed:
  '31 db', // xor %ebx,%ebx
  '48 83 f8 fe', // cmp $0xfffffffffffffffe,%rax
  '0f 94 c3', // sete %bl
  'b8 01 00 00 00', // mov $0x1,%eax
  'bf 02 00 00 00', // mov $0x2,%edi
  '48 8b 75 18', // mov 0x18(%rbp),%rsi
  '48 8b 55 20', // mov 0x20(%rbp),%rdx
  '0f 05', // syscall
  '8d 7b 7e', // lea 0x7e(%rbx),%edi
  'eb 05', // jmp c0 <exit>
  // quit:
  'bf 7d 00 00 00', // mov $0x7d,%edi
  // exit:
  'b8 e7 00 00 00', // mov $0xe7,%eax
  '0f 05', // syscall
];

/** The program as a static ELF file. */
export function starter(): Uint8Array {
  return staticProgram(CODE, MEMORY_BYTES);
}

const LIMIT = { cpu: 0, fileSize: 1, data: 2, core: 4, processes: 6, openFiles: 7, lockedMemory: 8 } as const;

/**
 * [resource, soft, hard]. They are set inside the user namespace: outside it the number of processes would be shared by every
 * sandbox of the account.
 */
export function limitsInside(
  { limits }: SandboxCommand,
  options: { readonly withCgroup: boolean },
): (readonly [number, number, number])[] {
  const cpuSeconds = Math.ceil(limits.cpuMs / 1_000);
  // With a cgroup this is the second line: the first one also says that it refused.
  const processes = options.withCgroup ? limits.pids + 1 : limits.pids;
  return [
    [LIMIT.processes, processes, processes],
    [LIMIT.openFiles, limits.openFiles, limits.openFiles],
    [LIMIT.core, 0, 0],
    [LIMIT.fileSize, limits.fileBytes, limits.fileBytes],
    [LIMIT.lockedMemory, 0, 0],
    [LIMIT.cpu, cpuSeconds, cpuSeconds + 1], // the soft one says SIGXCPU, the hard one ends what ignores it
    // Address space would be too blunt: V8 reserves gigabytes that it never touches.
    ...(options.withCgroup ? [] : [[LIMIT.data, limits.memoryBytes, limits.memoryBytes] as const]),
  ];
}

const HEAD_WORDS = 6;

/**
 * The command as the starter's memory, little-endian words of 8 bytes: own length, addresses of path, argv and complaint, length
 * of the complaint, number of limits; the limits; argv, ended by 0; then the texts. Exit code 127 means that there is no such
 * program, 126 that it or a limit was refused, 125 that the memory was not whole.
 */
export function starterMemory(command: SandboxCommand, options: { readonly withCgroup: boolean }): Uint8Array {
  const limits = limitsInside(command, options);
  const complaint = Buffer.from(`${command.argv[0]} cannot be started\n`);
  const texts = command.argv.map((text) => Buffer.from(`${text}\0`));
  const argvAt = 8 * (HEAD_WORDS + 3 * limits.length);
  const textsAt = argvAt + 8 * (texts.length + 1);
  const addresses: number[] = [];
  let end = MEMORY_ADDRESS + textsAt;
  for (const text of texts) {
    addresses.push(end);
    end += text.length;
  }
  const length = end + complaint.length - MEMORY_ADDRESS;
  assert(length < MEMORY_BYTES, 'a command within its bounds fits into the memory of its starter');
  const head = [length, addresses[0]!, MEMORY_ADDRESS + argvAt, end, complaint.length, limits.length];
  const words = new BigUint64Array([...head, ...limits.flat(), ...addresses, 0].map(BigInt));
  return Buffer.concat([Buffer.from(words.buffer), ...texts, complaint]);
}

assert(9 * ARGUMENTS_MAX_BYTES < MEMORY_BYTES, 'even empty arguments, each a pointer and a byte, fit');
