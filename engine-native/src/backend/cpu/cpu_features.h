// Which instruction sets this machine and its operating system offer, found by cpuid at run time.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace quern::cpu {

enum class Isa : uint8_t { kPortable, kAvx2, kAvx512 };

const char* isa_name(Isa isa);  // portable, avx2, avx512bf16
bool isa_supported(Isa isa);
// "auto" = the widest supported. Error: unknown name, or one that this machine lacks.
Result<Isa> choose_isa(const std::string& name);
std::string cpu_model_name();

}  // namespace quern::cpu
