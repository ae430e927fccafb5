// Programs of a few hundred bytes as static ELF files, for the two places where nothing else will do: they need no
// interpreter, no compiler and no library (System V ABI, chapters 4 and 5).

/** Where a program's own memory begins; zeroed at its start. */
export const MEMORY_ADDRESS = 0x600000;

const CODE_ADDRESS = 0x400000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const READ_EXECUTE = 5;
const READ_WRITE = 6;

/**
 * An executable for x86_64: one segment of code, one of memory. `code` is machine code in hexadecimal, an instruction
 * each; it is entered at its first byte.
 */
export function staticProgram(instructions: readonly string[], memoryBytes: number): Uint8Array {
  const code = Buffer.from(instructions.join('').replaceAll(' ', ''), 'hex');
  const codeOffset = ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
  const bytes = Buffer.alloc(codeOffset + code.length);
  bytes.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  bytes.writeUInt16LE(2, 16); // executable
  bytes.writeUInt16LE(62, 18); // x86_64
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(CODE_ADDRESS + codeOffset), 24); // entry
  bytes.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // program headers
  bytes.writeUInt16LE(ELF_HEADER_BYTES, 52);
  bytes.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  bytes.writeUInt16LE(2, 56);
  const segment = (index: number, flags: number, address: number, fileSize: number, memorySize: number): void => {
    const at = ELF_HEADER_BYTES + index * PROGRAM_HEADER_BYTES;
    bytes.writeUInt32LE(1, at); // PT_LOAD
    bytes.writeUInt32LE(flags, at + 4);
    [address, address, fileSize, memorySize, 0x1000].forEach((value, field) => {
      bytes.writeBigUInt64LE(BigInt(value), at + 16 + 8 * field);
    });
  };
  segment(0, READ_EXECUTE, CODE_ADDRESS, bytes.length, bytes.length);
  segment(1, READ_WRITE, MEMORY_ADDRESS, 0, memoryBytes);
  code.copy(bytes, codeOffset);
  return bytes;
}
