// AVX-512: one register per strip, 32 registers: two strips x 12 tokens are 24 sums, 2 weights; a broadcast is an
// operand of the multiply-add.

// GCC 12's own header leaves "undefined" registers uninitialised on purpose and then warns about them here.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include "backend/cpu/lanes_avx512.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/tile_kernel.h"

namespace quern::cpu {
namespace {

constexpr Kernels make_table() {
  Kernels table;
  table.isa = Isa::kAvx512;
  table.max_tokens = 12;
  register_tiles<LanesAvx512, 1, 12>(table);
  register_tiles<LanesAvx512, 2, 12>(table);
  register_tiles<LanesAvx512, 4, 3>(table);
  for (uint32_t t = 1; t <= table.max_tokens; ++t) table.strips_for_tokens[t] = t <= 3 ? 4 : 2;
  register_rows<LanesAvx512>(table);
  return table;
}

}  // namespace

constinit const Kernels kAvx512Kernels = make_table();

}  // namespace quern::cpu
