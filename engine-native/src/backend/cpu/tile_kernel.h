// The tile: S strips of 16 rows times T tokens, all sums in registers.
//
//   acc[t][s][lane] = fma(w[s][k][lane], x[t][k], acc[t][s][lane])   for k = 0, 1, 2, ...
//
// Every output has exactly one chain of multiply-adds in ascending k, whatever S and T are. That is why a row of a
// GEMM has the bits of the GEMV, and why S and T may be chosen by speed alone.
//
// Bytes moved: weights once per tile of T tokens (from L1 after the first tile), T broadcasts of 4 bytes per k from L1.
// Bound: T <= 3 by the memory that the weights come from; above, by the two FMA ports (S * T * registers per strip
// >= 8 chains hide the FMA latency). bf16 becomes fp32 by a shift (even k) or a mask (odd k) in registers.
//
// `Lanes` (lanes_*.h) is 16 fp32 in as many registers as the instruction set needs. Headers of this kind may call no
// inline function of the standard library: a copy compiled with wide instructions could be linked into baseline code.
#pragma once

#include "backend/cpu/kernels.h"

namespace quern::cpu {

template <class Lanes, class Weight, uint32_t S, uint32_t T>
[[gnu::always_inline]] inline void tile_step(Lanes (&acc)[T][S], const Lanes (&w)[S], const float* x, size_t x_stride) {
#pragma GCC unroll 12
  for (uint32_t t = 0; t < T; ++t) {
    const Lanes b = Lanes::broadcast(x + t * x_stride);
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) acc[t][s].add_product(w[s], b);
  }
}

template <class Lanes, class Weight, uint32_t S, uint32_t T>
void tile(const TileArgs& a) {
  Lanes acc[T][S];
#pragma GCC unroll 12
  for (uint32_t t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) {
      acc[t][s] = a.accumulate ? Lanes::load(a.acc + t * a.acc_token_stride + s * a.acc_strip_stride) : Lanes::zero();
    }
  }
  const float* x = static_cast<const float*>(a.x);
  const size_t x_stride = a.x_stride;
  const char* next = static_cast<const char*>(a.prefetch);
  const size_t next_step = a.prefetch_step;
  uint32_t left = a.k_count;
  for (uint32_t p = 0; p < a.num_panels; ++p) {
    const Weight* w[S];
#pragma GCC unroll 4
    for (uint32_t s = 0; s < S; ++s) w[s] = static_cast<const Weight*>(a.panels[p * S + s]);
    const uint32_t count = p + 1 < a.num_panels ? a.k_per_panel : left;
    left -= count;
    Lanes strip[S];
    for (uint32_t k = 0; k + 2 <= count; k += 2, x += 2) {
      if constexpr (T > kStreamTokens) {
        __builtin_prefetch(next, 0, 2);
        next += next_step;
      }
#pragma GCC unroll 4
      for (uint32_t s = 0; s < S; ++s) {
        if constexpr (T <= kStreamTokens) __builtin_prefetch(reinterpret_cast<const char*>(w[s]) + 1024);
        strip[s] = Lanes::even(w[s]);
      }
      tile_step<Lanes, Weight, S, T>(acc, strip, x, x_stride);
#pragma GCC unroll 4
      for (uint32_t s = 0; s < S; ++s) {
        strip[s] = Lanes::odd(w[s]);
        w[s] += 2 * kStripRows;
      }
      tile_step<Lanes, Weight, S, T>(acc, strip, x + 1, x_stride);
    }
    if (count % 2 != 0) {
#pragma GCC unroll 4
      for (uint32_t s = 0; s < S; ++s) strip[s] = Lanes::even(w[s]);
      tile_step<Lanes, Weight, S, T>(acc, strip, x, x_stride);
      ++x;
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
constexpr void register_tiles(Kernels& table) {
  table.tile[static_cast<int>(WeightType::kF32)][S][T] = tile<Lanes, float, S, T>;
  table.tile[static_cast<int>(WeightType::kBF16)][S][T] = tile<Lanes, uint16_t, S, T>;
  if constexpr (T > 1) register_tiles<Lanes, S, T - 1>(table);
}

}  // namespace quern::cpu
