/** Which CPU kernels the engine will choose, by the same rule as engine-native/src/backend/cpu/cpu_features.cc. */

export type InstructionSet = { kernels: string; fast: boolean; remedy?: string };

const AVX2 = ['avx', 'avx2', 'fma', 'f16c'];
const AVX512 = ['avx512f', 'avx512dq', 'avx512bw', 'avx512vl'];
const BF16 = 'avx512_bf16';

/** `arch` as process.arch; `flags` as in /proc/cpuinfo, where the kernel lists only what it lets programs use. */
export function describeInstructionSet(arch: string, flags: readonly string[]): InstructionSet {
  if (arch !== 'x64') {
    return {
      kernels: `portable kernels (${arch} has none of its own yet)`,
      fast: false,
      remedy: 'use an x86-64 machine',
    };
  }
  const has = new Set(flags);
  const all = (names: readonly string[]): boolean => names.every((name) => has.has(name));
  if (!all(AVX2)) {
    const lacks = AVX2.filter((name) => !has.has(name)).join(', ');
    return {
      kernels: `portable kernels, several times slower (lacks ${lacks})`,
      fast: false,
      remedy: "use a CPU made after 2013, or let the virtual machine see the host's (for QEMU: -cpu host)",
    };
  }
  if (!has.has('avx512f')) return { kernels: 'AVX2 kernels', fast: true };
  if (!all(AVX512)) {
    const lacks = AVX512.filter((name) => !has.has(name)).join(', ');
    return { kernels: `AVX2 kernels; its AVX-512 lacks ${lacks}`, fast: true };
  }
  if (has.has(BF16)) return { kernels: 'AVX-512 kernels with BF16', fast: true };
  return {
    kernels: 'AVX-512 kernels without BF16',
    fast: true,
    remedy:
      'nothing to do; prompts in bf16 are read faster where AVX-512 has BF16 (AMD Zen 4, Intel Sapphire Rapids and later)',
  };
}
