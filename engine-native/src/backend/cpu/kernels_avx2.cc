// AVX2 + FMA: two registers per strip, sixteen registers: one strip x 6 tokens is 12 sums, 2 weights, 1 broadcast.
#include "backend/cpu/lanes_avx2.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/tile_kernel.h"

namespace quern::cpu {
namespace {

constexpr Kernels make_table() {
  Kernels table;
  table.isa = Isa::kAvx2;
  table.max_tokens = 6;
  register_tiles<LanesAvx2, 1, 6>(table);
  register_tiles<LanesAvx2, 2, 3>(table);
  register_tiles<LanesAvx2, 4, 1>(table);
  table.strips_for_tokens[1] = 4;
  table.strips_for_tokens[2] = 2;
  table.strips_for_tokens[3] = 2;
  for (uint32_t t = 4; t <= table.max_tokens; ++t) table.strips_for_tokens[t] = 1;
  register_rows<LanesAvx2>(table);
  return table;
}

}  // namespace

constinit const Kernels kAvx2Kernels = make_table();

}  // namespace quern::cpu
