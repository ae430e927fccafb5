// The instruction-set-specific part of the CPU backend: a table of leaf functions, one table per instruction set.
//
// Everything above it (linear.h, attention.h) is written once. All tables are instantiations of the same templates
// (tile_kernel.h, row_kernels.h) over one small vector type of 16 fp32 lanes, so they perform the same operations in
// the same order; what differs between instruction sets is only whether a multiply-add rounds once or twice. The one
// exception are the dot tiles of AVX-512 BF16 (dot_tile.h), which multiply bf16 by bf16.
//
// The matrix layout that every tile reads is the strip: 16 output rows side by side,
//   fp32  [K][16]           bf16  [K/2][16][2]   (element (k, lane) at (k/2 * 16 + lane) * 2 + k % 2).
// Weights are [N/16] strips; a K block is strips of 16 tokens over the head's dimensions; a V block is strips of 16
// dimensions over the block's tokens. One kernel therefore serves GEMV, GEMM, Q K^T and P V.
//
// Thread safety: pure functions over caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/cpu_features.h"

namespace quern::cpu {

inline constexpr uint32_t kStripRows = 16;
inline constexpr uint32_t kMaxTileStrips = 4;
inline constexpr uint32_t kMaxTileTokens = 12;
// Tiles up to this many tokens are bound by memory and prefetch their own panels.
inline constexpr uint32_t kStreamTokens = 3;

enum class WeightType : uint8_t { kF32 = 0, kBF16 = 1 };
inline constexpr uint32_t weight_size(WeightType type) { return type == WeightType::kF32 ? 4 : 2; }

// acc[token][strip][lane] (+)= sum over k, in ascending order, of strip[k][lane] * x[token][k], one multiply-add each.
struct TileArgs {
  const void* const* panels = nullptr;  // [num_panels][strips]: each panel continues its strip along k
  uint32_t num_panels = 1;
  uint32_t k_per_panel = 0;  // of all panels but the last; even
  uint32_t k_count = 0;      // over all panels
  const void* x = nullptr;   // fp32; bf16 for dot tiles
  size_t x_stride = 0;       // elements from token to token
  float* acc = nullptr;
  size_t acc_token_stride = 0;
  size_t acc_strip_stride = 0;
  bool accumulate = false;   // start from acc instead of zero
  // Where to prefetch from, and how far to go per pair of columns; tiles of more than kStreamTokens tokens only.
  const void* prefetch = nullptr;
  size_t prefetch_step = 0;  // bytes
};
using TileFunction = void (*)(const TileArgs& args);

// One row of scores of one online-softmax step, see row_kernels.h.
struct SoftmaxStep {
  float* scores = nullptr;  // [strips * 16] in: scaled scores, out: exp(score - max), 0 from `valid` on
  uint32_t strips = 0;
  uint32_t valid = 0;       // leading tokens that the query may see, > 0
  float* max = nullptr;     // running maximum
  float* sum = nullptr;     // running sum of exponentials
  float* out = nullptr;     // [dims] running weighted sum of V, rescaled here
  uint32_t dims = 0;        // multiple of 16
};

// Products of bf16 strips with activations that were rounded to bf16: for weights, never for the KV cache.
struct DotKernels {
  // [strips][tokens]: every combination of the fp32 table. acc as there, but k goes in pairs, see dot_tile.h. One panel per
  // strip; a last odd column is paired with zeros on both sides.
  TileFunction tile[kMaxTileStrips + 1][kMaxTileTokens + 1] = {};
  // out = in to the nearest bf16, ties to even, over n columns; zeros up to the next multiple of 16, for which `out` has room.
  void (*narrow_row)(const float* in, uint32_t n, uint16_t* out) = nullptr;
};

struct Kernels {
  Isa isa = Isa::kPortable;
  uint32_t max_tokens = 0;                            // widest tile
  uint8_t strips_for_tokens[kMaxTileTokens + 1] = {};  // strips in flight for a tile of that many tokens
  // [weight type][strips][tokens]; null where the combination would not fit the registers. One strip is always there,
  // and so is every narrower tile of the same strip count.
  TileFunction tile[2][kMaxTileStrips + 1][kMaxTileTokens + 1] = {};
  const DotKernels* dot = nullptr;  // null where the instruction set has no bf16 dot product

  // out = x / sqrt(mean(x^2) + eps) * weight over n columns; x = residual += delta first where delta is given.
  void (*rmsnorm_row)(float* x, const float* delta, const float* weight, uint32_t n, float eps, float* out) = nullptr;
  // out = silu(gate) * up over n columns.
  void (*swiglu_row)(const float* gate, const float* up, uint32_t n, float* out) = nullptr;
  void (*softmax_step)(const SoftmaxStep& step) = nullptr;
  // Joins (max, sum, out) of a later part of the context into the running ones.
  void (*softmax_merge)(float* max, float* sum, float* out, float part_max, float part_sum, const float* part_out,
                        uint32_t dims) = nullptr;
  // out = in * factor over n columns.
  void (*scale_row)(const float* in, float factor, uint32_t n, float* out) = nullptr;
  // out = exp(in) over n columns, for tests of its accuracy.
  void (*exp_row)(const float* in, uint32_t n, float* out) = nullptr;
};

// REQUIRES: isa_supported(isa).
const Kernels& kernels_for(Isa isa);

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const DotKernels kAvx512Bf16Dot;
#endif

}  // namespace quern::cpu
