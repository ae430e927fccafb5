// The table that runs everywhere: 128-bit vectors, no run-time requirements.
#include "backend/cpu/lanes_portable.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/tile_kernel.h"
#include "base/check.h"

namespace quern::cpu {
namespace {

// Four registers per strip: three tokens are twelve sums, and sixteen registers hold no more.
constexpr Kernels make_table() {
  Kernels table;
  table.isa = Isa::kPortable;
  table.max_tokens = 3;
  register_tiles<LanesPortable, 1, 3>(table);
  register_tiles<LanesPortable, 2, 1>(table);
  table.strips_for_tokens[1] = 2;
  table.strips_for_tokens[2] = 1;
  table.strips_for_tokens[3] = 1;
  register_rows<LanesPortable>(table);
  return table;
}

}  // namespace

constinit const Kernels kPortableKernels = make_table();

const Kernels& kernels_for(Isa isa) {
  CHECK(isa_supported(isa), "kernels of an instruction set that this machine lacks");
#if defined(__x86_64__)
  // fp32 work is the same; only products with bf16 weights differ.
  static const Kernels with_dot = [] {
    Kernels table = kAvx512Kernels;
    table.isa = Isa::kAvx512Bf16;
    table.dot = &kAvx512Bf16Dot;
    return table;
  }();
  if (isa == Isa::kAvx512Bf16) return with_dot;
  if (isa == Isa::kAvx512) return kAvx512Kernels;
  if (isa == Isa::kAvx2) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace quern::cpu
