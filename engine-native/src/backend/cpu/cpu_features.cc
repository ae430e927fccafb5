#include "backend/cpu/cpu_features.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#else
#include <cstdio>
#endif

namespace quern::cpu {
namespace {

#if defined(__x86_64__)
struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return Registers{};
  return r;
}

bool bit(uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

// What the operating system saves on a context switch (XCR0); registers it does not save must not be used.
uint64_t enabled_state() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool has_avx2() {
  constexpr uint64_t kYmmState = 0x6;
  const Registers basic = cpuid(1, 0);
  const bool fma = bit(basic.ecx, 12), f16c = bit(basic.ecx, 29), avx = bit(basic.ecx, 28);
  return (enabled_state() & kYmmState) == kYmmState && avx && fma && f16c && bit(cpuid(7, 0).ebx, 5);
}

bool has_avx512() {
  constexpr uint64_t kZmmState = 0xe6;
  const uint32_t seven = cpuid(7, 0).ebx;
  const bool f = bit(seven, 16), dq = bit(seven, 17), bw = bit(seven, 30), vl = bit(seven, 31);
  return has_avx2() && (enabled_state() & kZmmState) == kZmmState && f && dq && bw && vl;
}

bool has_avx512_bf16() { return has_avx512() && bit(cpuid(7, 1).eax, 5); }
#endif

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
  }
  return "unknown";
}

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return has_avx2();
  if (isa == Isa::kAvx512) return has_avx512();
  if (isa == Isa::kAvx512Bf16) return has_avx512_bf16();
#endif
  return isa == Isa::kPortable;
}

Result<Isa> choose_isa(const std::string& name) {
  if (name == "auto") {
    Isa widest = Isa::kPortable;
    for (Isa isa : kEveryIsa) {
      if (isa_supported(isa)) widest = isa;
    }
    return widest;
  }
  for (Isa isa : kEveryIsa) {
    if (name != isa_name(isa)) continue;
    if (isa_supported(isa)) return isa;
    return failed_precondition("cpu backend: isa '" + name + "' was asked for, but this processor (" + cpu_model_name() +
                               ") lacks it; use 'auto'");
  }
  return invalid_argument("cpu backend: isa '" + name + "' is unknown; expected auto, portable, avx2, avx512 or avx512bf16");
}

std::string cpu_model_name() {
#if defined(__x86_64__)
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    const uint32_t words[4] = {r.eax, r.ebx, r.ecx, r.edx};
    std::memcpy(text + 16 * i, words, sizeof words);
  }
  const std::string name(text);
  const size_t first = name.find_first_not_of(' ');
  const size_t last = name.find_last_not_of(' ');
  return first == std::string::npos ? "unknown x86-64" : name.substr(first, last - first + 1);
#else
  return "not x86-64";
#endif
}

}  // namespace quern::cpu
