// The AVX-512 kernel tables on machines without AVX-512: the same source over emulated intrinsics.
#pragma once

#include "backend/cpu/kernels.h"

namespace quern::test {

// The emulated table of kAvx512 or kAvx512Bf16; null where not even the emulation runs (it needs AVX2 and FMA).
const cpu::Kernels* emulated_kernels(cpu::Isa isa);

}  // namespace quern::test
