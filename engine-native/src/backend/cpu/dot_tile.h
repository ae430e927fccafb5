// The tile of bf16 dot products: S strips of 16 rows times T tokens, weights and activations both bf16, sums in fp32.
//
//   acc[t][s][lane] = dot(acc[t][s][lane], (w[s][k], w[s][k + 1])[lane], (x[t][k], x[t][k + 1]))   for k = 0, 2, 4, ...
//
// Two multiply-adds per lane and instruction: products of bf16 are exact in fp32, each addition rounds to nearest, and
// denormals count as zero. The strip layout is as for fp32 tiles: a pair of columns is one dword per lane, and a pair of x is
// one dword to broadcast. Every output has one chain over ascending pairs whatever S and T are, so a row of a GEMM has the
// bits of the GEMV; that is why one token takes this path, too, though memory bounds it.
//
// Error: x is rounded to 8 bits, by at most 2^-8 of each activation; the fp32 tiles keep it whole. Models whose weights are
// bf16 were trained with such activations.
// Bytes moved: as tile_kernel.h, and half of it for x. Bound: T <= 3 by memory, above by the dot product's ports.
#pragma once

#include "backend/cpu/kernels.h"

namespace quern::cpu {

template <class Lanes, uint32_t S, uint32_t T>
void dot_tile(const TileArgs& a) {
  Lanes acc[T][S];
#pragma GCC unroll 12
  for (uint32_t t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) {
      acc[t][s] = a.accumulate ? Lanes::load(a.acc + t * a.acc_token_stride + s * a.acc_strip_stride) : Lanes::zero();
    }
  }
  const uint16_t* x = static_cast<const uint16_t*>(a.x);
  const size_t x_stride = a.x_stride;
  const uint16_t* w[S];
#pragma GCC unroll 4
  for (uint32_t s = 0; s < S; ++s) w[s] = static_cast<const uint16_t*>(a.panels[s]);
  const char* next = static_cast<const char*>(a.prefetch);
  for (uint32_t k = 0; k < a.k_count; k += 2, x += 2) {
    typename Lanes::Pairs strip[S];
    if constexpr (T > kStreamTokens) {
      __builtin_prefetch(next, 0, 2);
      next += a.prefetch_step;
    }
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) {
      if constexpr (T <= kStreamTokens) __builtin_prefetch(reinterpret_cast<const char*>(w[s]) + 1024);
      strip[s] = Lanes::pairs(w[s]);
      w[s] += 2 * kStripRows;
    }
#pragma GCC unroll 12
    for (uint32_t t = 0; t < T; ++t) {
      const typename Lanes::Pairs pair = Lanes::broadcast_pair(x + t * x_stride);
#pragma GCC unroll 4
      for (uint32_t s = 0; s < S; ++s) acc[t][s].add_dot(strip[s], pair);
    }
  }
#pragma GCC unroll 12
  for (uint32_t t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) acc[t][s].store(a.acc + t * a.acc_token_stride + s * a.acc_strip_stride);
  }
}

// Fills table.tile for one strip count and tokens 1..T.
template <class Lanes, uint32_t S, uint32_t T>
constexpr void register_dot_tiles(DotKernels& table) {
  table.tile[S][T] = dot_tile<Lanes, S, T>;
  if constexpr (T > 1) register_dot_tiles<Lanes, S, T - 1>(table);
}

}  // namespace quern::cpu
