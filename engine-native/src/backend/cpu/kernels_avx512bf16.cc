// AVX-512 BF16: the fp32 table's tiles, two strips x 12 tokens, with two multiply-adds per lane and instruction.

// GCC 12's own header leaves "undefined" registers uninitialised on purpose and then warns about them here.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include "backend/cpu/dot_tile.h"
#include "backend/cpu/lanes_avx512bf16.h"

namespace quern::cpu {
namespace {

void narrow_row(const float* in, uint32_t n, uint16_t* out) {
  for (uint32_t i = 0; i < n; i += kStripRows) LanesAvx512Bf16::narrow(in + i, n - i, out + i);
}

constexpr DotKernels make_dot_table() {
  DotKernels table;
  register_dot_tiles<LanesAvx512Bf16, 1, 12>(table);
  register_dot_tiles<LanesAvx512Bf16, 2, 12>(table);
  register_dot_tiles<LanesAvx512Bf16, 4, 3>(table);
  table.narrow_row = narrow_row;
  return table;
}

}  // namespace

constinit const DotKernels kAvx512Bf16Dot = make_dot_table();

}  // namespace quern::cpu
