// A program of a few hundred bytes that does the system calls it is told and says what came back: the self-test's hands
// inside a sandbox. Machine code, so that it needs no interpreter and no compiler, and hides nothing behind a library.
import { assert } from '#kit/assert.ts';
import { MEMORY_ADDRESS, staticProgram } from './static-program.ts';

/** Where the program keeps its record; the data of its orders lies behind. */
const MEMORY_BYTES = 0x100000;
/** Free for buffers and structures that the orders point to. */
export const DATA_ADDRESS = MEMORY_ADDRESS + 0x1000;
export const DATA_BYTES = MEMORY_BYTES - 0x1000;

/** Operation codes; every one but `load` answers with 8 bytes, the result as the kernel returns it. */
const OPERATION = { call: 0, load: 1, int80: 2, touch: 3, fork: 4 } as const;

/** x86_64, AT&T notation beside it; made with GNU as from those lines. */
const CODE: readonly string[] = [
  // _start:
  '31 db', // xor %ebx,%ebx
  // fill:
  '31 c0', // xor %eax,%eax
  '31 ff', // xor %edi,%edi
  'be 00 00 60 00', // mov $0x600000,%esi
  '48 01 de', // add %rbx,%rsi
  'ba 40 00 00 00', // mov $0x40,%edx
  '29 da', // sub %ebx,%edx
  '0f 05', // syscall
  '48 85 c0', // test %rax,%rax
  '0f 8e ae 00 00 00', // jle ce <quit>
  '01 c3', // add %eax,%ebx
  '83 fb 40', // cmp $0x40,%ebx
  '72 db', // jb 2 <fill>
  '41 bf 00 00 60 00', // mov $0x600000,%r15d
  '49 8b 47 08', // mov 0x8(%r15),%rax
  '49 8b 7f 10', // mov 0x10(%r15),%rdi
  '49 8b 77 18', // mov 0x18(%r15),%rsi
  '49 8b 57 20', // mov 0x20(%r15),%rdx
  '4d 8b 57 28', // mov 0x28(%r15),%r10
  '4d 8b 47 30', // mov 0x30(%r15),%r8
  '4d 8b 4f 38', // mov 0x38(%r15),%r9
  '41 8b 1f', // mov (%r15),%ebx
  '83 fb 01', // cmp $0x1,%ebx
  '74 1f', // je 70 <load>
  '83 fb 02', // cmp $0x2,%ebx
  '74 3e', // je 94 <int80>
  '83 fb 03', // cmp $0x3,%ebx
  '74 41', // je 9c <touch>
  '0f 05', // syscall
  '83 fb 04', // cmp $0x4,%ebx
  '75 4e', // jne b0 <answer>
  '48 85 c0', // test %rax,%rax
  '75 49', // jne b0 <answer>
  // sleep:
  'b8 22 00 00 00', // mov $0x22,%eax
  '0f 05', // syscall
  'eb f7', // jmp 67 <sleep>
  // load:
  '49 89 fc', // mov %rdi,%r12
  '49 89 f5', // mov %rsi,%r13
  // more:
  '4d 85 ed', // test %r13,%r13
  '74 85', // je 0 <_start>
  '31 c0', // xor %eax,%eax
  '31 ff', // xor %edi,%edi
  '4c 89 e6', // mov %r12,%rsi
  '4c 89 ea', // mov %r13,%rdx
  '0f 05', // syscall
  '48 85 c0', // test %rax,%rax
  '7e 42', // jle ce <quit>
  '49 01 c4', // add %rax,%r12
  '49 29 c5', // sub %rax,%r13
  'eb e2', // jmp 76 <more>
  // int80:
  '89 fb', // mov %edi,%ebx
  '89 f1', // mov %esi,%ecx
  'cd 80', // int $0x80
  'eb 14', // jmp b0 <answer>
  // touch:
  '48 01 fe', // add %rdi,%rsi
  'c6 07 01', // movb $0x1,(%rdi)
  '48 81 c7 00 10 00 00', // add $0x1000,%rdi
  '48 39 f7', // cmp %rsi,%rdi
  '72 f1', // jb 9f <touch+0x3>
  '31 c0', // xor %eax,%eax
  // answer:
  '49 89 47 40', // mov %rax,0x40(%r15)
  'b8 01 00 00 00', // mov $0x1,%eax
  'bf 01 00 00 00', // mov $0x1,%edi
  '49 8d 77 40', // lea 0x40(%r15),%rsi
  'ba 08 00 00 00', // mov $0x8,%edx
  '0f 05', // syscall
  'e9 32 ff ff ff', // jmp 0 <_start>
  // quit:
  'b8 e7 00 00 00', // mov $0xe7,%eax
  '31 ff', // xor %edi,%edi
  '0f 05', // syscall
];

/** The program as a static ELF file. */
export function syscallRunner(): Uint8Array {
  return staticProgram(CODE, MEMORY_BYTES);
}

/** Six at most; a text or bytes stand for the address at which they are put. */
export type Argument = number | bigint | string | Uint8Array;

/** A call's result, negative for an error, and the bytes that it wrote to stdout. */
export type Answer = { readonly result: number; readonly data: Uint8Array };

const SYS_WRITE = 1;

/** What the program is told, in order, and how to read what it says. */
export class SyscallOrders {
  readonly #parts: Uint8Array[] = [];
  /** Bytes before each answer. */
  readonly #dumped: number[] = [];
  #used = 0;

  /** A system call by its number. */
  call(number: number | bigint, ...args: Argument[]): this {
    return this.#order(OPERATION.call, number, args);
  }

  /** The same through int 0x80, with i386's numbers; two arguments at most. */
  int80(number: number, ...args: Argument[]): this {
    return this.#order(OPERATION.int80, number, args);
  }

  /** A call that makes a process: the new one sleeps for ever. */
  fork(number: number, ...args: Argument[]): this {
    return this.#order(OPERATION.fork, number, args);
  }

  /** Writes one byte per page, from an address that mmap gave. */
  touch(address: number | bigint, bytes: number): this {
    return this.#order(OPERATION.touch, 0, [address, bytes]);
  }

  /** Sends memory to stdout: it comes with the answer of this call. */
  dump(address: number, bytes: number): this {
    this.call(SYS_WRITE, 1, address, bytes);
    this.#dumped[this.#dumped.length - 1] = bytes;
    return this;
  }

  /** Room for `bytes` that a call fills; returns its address. */
  room(bytes: number): number {
    const address = DATA_ADDRESS + this.#used;
    this.#used += Math.ceil(bytes / 8) * 8;
    assert(this.#used <= DATA_BYTES, 'the orders need more memory than the program has');
    return address;
  }

  encode(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  /** The answers in what the program wrote; fewer than orders when it was stopped. */
  decode(output: Uint8Array): Answer[] {
    const view = Buffer.from(output);
    const answers: Answer[] = [];
    let at = 0;
    for (const bytes of this.#dumped) {
      if (at + bytes + 8 > view.length) break;
      answers.push({ result: Number(view.readBigInt64LE(at + bytes)), data: view.subarray(at, at + bytes) });
      at += bytes + 8;
    }
    return answers;
  }

  #order(operation: number, number: number | bigint, args: readonly Argument[]): this {
    const values = args.map((argument) => this.#place(argument));
    this.#parts.push(record(operation, number, values));
    this.#dumped.push(0);
    return this;
  }

  /** A number as it is; a text with its terminator or bytes by their address, which the program loads first. */
  #place(argument: Argument): number | bigint {
    if (typeof argument === 'number' || typeof argument === 'bigint') return argument;
    const bytes = typeof argument === 'string' ? Buffer.from(`${argument}\0`) : Buffer.from(argument);
    const address = this.room(bytes.length);
    this.#parts.push(record(OPERATION.load, 0, [address, bytes.length]), bytes);
    return address;
  }
}

function record(operation: number, number: number | bigint, args: readonly (number | bigint)[]): Uint8Array {
  const bytes = Buffer.alloc(64);
  [operation, number, ...args].forEach((value, index) => {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 8 * index);
  });
  return bytes;
}
