// A weight matrix in strips of 16 rows (layout: kernels.h), with its bias; and y = x W^T + b over it.
//
// Bytes moved: the matrix once per step up to `max_tokens` tokens per tile, then once per 96 tokens from L2/L3; x and y
// once per chunk of strips. Bound: batch 1 by memory bandwidth, from about 16 tokens by the FMA ports.
//
// Order of one output's sum: k ascending inside a K slice (dot tiles: pairs of k), the slices added in order, the bias last. It depends on
// nothing but the matrix, so GEMV, GEMM, any batch and any thread count give the same bits.
//
// Thread safety: immutable after pack(); multiply() may run on all threads at once over different strips.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/mapped_memory.h"
#include "backend/cpu/thread_pool.h"

namespace quern::cpu {

// Tokens that are multiplied by a chunk of strips before the next ones: their x columns of one K block stay in L2.
inline constexpr uint32_t kTokenBlock = 96;
// Columns after which the sums are parked, so that 16 rows of weights and 6 rows of x stay in L1.
inline constexpr uint32_t kColumnBlock = 512;
// Strips that one thread takes at a time: 64 rows.
inline constexpr uint32_t kStripChunk = 4;

// Parked sums of one thread: [kStripChunk][kTokenBlock][16].
inline constexpr uint32_t kSumFloats = kStripChunk * kTokenBlock * kStripRows;

// x or y: rows of fp32 with `stride` floats from row to row.
struct RowsIn {
  const float* data;
  size_t stride;
};
// The same rounded to bf16, for kernels with dot tiles: an even number of elements, zero beyond the matrix's columns.
struct NarrowRowsIn {
  const uint16_t* data;
  size_t stride;
};
struct RowsOut {
  float* data;
  size_t stride;  // at least rows rounded up to 16
};

class PackedMatrix {
 public:
  // Error: parts disagree on their columns, are empty, or a bias has the wrong length.
  static Result<PackedMatrix> pack(const LinearSource& source, WeightType type, ThreadPool& pool);

  uint32_t rows() const { return rows_; }
  uint32_t cols() const { return cols_; }
  uint32_t strips() const { return (rows_ + kStripRows - 1) / kStripRows; }
  WeightType type() const { return type_; }
  uint64_t bytes() const { return memory_.size_bytes() + bias_.size() * sizeof(float); }

  // y[0..tokens)[strips of the chunk] for strips [begin, end), end - begin <= kStripChunk. `sums` has kSumFloats.
  void multiply(const Kernels& kernels, RowsIn x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end, float* sums) const;
  // REQUIRES: kernels.dot and type() is bf16.
  void multiply(const Kernels& kernels, NarrowRowsIn x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end,
                float* sums) const;
  // out[0..cols) = row `row` in fp32.
  void read_row(uint32_t row, float* out) const;

 private:
  struct Columns {
    uint32_t begin, count;
    bool first, last;  // of their K slice
  };

  // x of either kind, and the tiles that take it: [strips][tokens].
  struct Input {
    const std::byte* data;
    size_t stride;  // elements
    size_t element;
    const TileFunction (*tile)[kMaxTileTokens + 1];

    const std::byte* at(size_t row, size_t column) const { return data + (row * stride + column) * element; }
  };

  void multiply_rows(const Kernels& kernels, Input x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end,
                     float* sums) const;
  const std::byte* panel(uint32_t strip, uint32_t column) const;
  const std::byte* next_panel(uint32_t strip, uint32_t begin, uint32_t end, Columns columns) const;
  void multiply_columns(const Kernels& kernels, Input x, uint32_t tokens, uint32_t begin, uint32_t end, Columns columns,
                        float* sums) const;
  void add_slice(RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end, bool first, bool last, const float* sums) const;
  void pack_strip(const LinearSource& source, uint32_t strip);

  WeightType type_ = WeightType::kF32;
  uint32_t rows_ = 0;
  uint32_t cols_ = 0;
  uint32_t padded_cols_ = 0;             // even
  std::vector<uint32_t> slice_borders_;  // [k_slices + 1]
  std::vector<float> bias_;              // [strips * 16] or empty
  MappedMemory memory_;                  // [strips][padded_cols * 16]
};

// Reads element `index` of a host tensor (unaligned) as fp32.
float tensor_element(const HostTensor& tensor, uint64_t index);

}  // namespace quern::cpu
