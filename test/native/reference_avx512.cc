// backend/cpu/kernels_avx512*.cc once more, with the intrinsics of avx512_emulation.h. Every name with linkage gets another
// one, and so do the Lanes types: templates over them may not be mixed up with those of the real tables.
#include "reference_avx512.h"

#if defined(__AVX2__) && defined(__FMA__)

#define kAvx512Kernels kEmulatedAvx512Kernels
#define kAvx512Bf16Dot kEmulatedAvx512Bf16Dot
#define LanesAvx512 LanesAvx512Emulated
#define LanesAvx512Bf16 LanesAvx512Bf16Emulated
#include "avx512_emulation.h"

namespace quern::cpu {
extern const Kernels kAvx512Kernels;
extern const DotKernels kAvx512Bf16Dot;
}  // namespace quern::cpu

#include "backend/cpu/kernels_avx512.cc"      // NOLINT
#include "backend/cpu/kernels_avx512bf16.cc"  // NOLINT

namespace quern::test {

const cpu::Kernels* emulated_kernels(cpu::Isa isa) {
  if (!cpu::isa_supported(cpu::Isa::kAvx2)) return nullptr;
  if (isa == cpu::Isa::kAvx512) return &cpu::kAvx512Kernels;
  if (isa != cpu::Isa::kAvx512Bf16) return nullptr;
  static cpu::Kernels with_dot = cpu::kAvx512Kernels;
  with_dot.isa = cpu::Isa::kAvx512Bf16;
  with_dot.dot = &cpu::kAvx512Bf16Dot;
  return &with_dot;
}

}  // namespace quern::test

#else

namespace quern::test {
const cpu::Kernels* emulated_kernels(cpu::Isa) { return nullptr; }
}  // namespace quern::test

#endif
