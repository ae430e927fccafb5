// Which instruction sets this machine and its operating system offer, found by cpuid at run time.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace quern::cpu {

// kAvx512: F, BW, DQ and VL, what every server part since Skylake-SP has. kAvx512Bf16: those and the bf16 dot product.
enum class Isa : uint8_t { kPortable, kAvx2, kAvx512, kAvx512Bf16 };
inline constexpr Isa kEveryIsa[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

const char* isa_name(Isa isa);  // portable, avx2, avx512, avx512bf16
bool isa_supported(Isa isa);
// "auto" = the widest supported. Error: unknown name, or one that this machine lacks.
Result<Isa> choose_isa(const std::string& name);
std::string cpu_model_name();

}  // namespace quern::cpu
