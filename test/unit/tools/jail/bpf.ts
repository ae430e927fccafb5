/** A tiny interpreter of the classic BPF that the seccomp filter uses, written from the kernel's documentation. */

/** struct seccomp_data, without the instruction pointer. Arguments are 64 bits. */
export type SeccompData = { number: number; arch: number; args: readonly bigint[] };

/** Runs a filter over one call; returns its 32-bit verdict. Throws on an unknown code or a jump past the end. */
export function runFilter(filter: Uint8Array, { number, arch, args }: SeccompData): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, number >>> 0, true);
  data.setUint32(4, arch >>> 0, true);
  for (let i = 0; i < 6; i++) data.setBigUint64(16 + 8 * i, BigInt.asUintN(64, args[i] ?? 0n), true);
  const program = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  let accumulator = 0;
  for (let at = 0; at < filter.length / 8; at++) {
    const code = program.getUint16(at * 8, true);
    const k = program.getUint32(at * 8 + 4, true);
    const jump = (taken: boolean): number => program.getUint8(at * 8 + (taken ? 2 : 3));
    if (code === 0x06) return k;
    else if (code === 0x20) accumulator = data.getUint32(k, true);
    else if (code === 0x15) at += jump(accumulator === k);
    else if (code === 0x35) at += jump(accumulator >= k);
    else if (code === 0x45) at += jump((accumulator & k) !== 0);
    else throw new Error(`unknown code 0x${code.toString(16)} at ${at}`);
  }
  throw new Error('the program ran past its end');
}
