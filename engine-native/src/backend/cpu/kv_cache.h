// The paged KV cache of all layers. One block holds, for each KV head, `block_size` tokens:
//
//   K strips of 16 tokens over head_dim, then V strips of 16 dimensions over block_size (strip layout: kernels.h).
//   Blocks of 8 tokens hold half a K strip: rows of 8 tokens; attention joins two of them.
//
// Both are read front to back by attention: one contiguous run per (block, head), 4 KiB at 16 tokens x 64 dims bf16.
//
// Thread safety: write() and reads of different slots may run at once; a slot is written before it is read.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels.h"
#include "backend/cpu/mapped_memory.h"

namespace quern::cpu {

struct KvShape {
  uint32_t num_layers = 0;
  uint32_t num_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t block_size = 0;  // a power of two, 8..64
  uint32_t num_blocks = 0;
  WeightType type = WeightType::kF32;

  uint32_t padded_dim() const { return (head_dim + kStripRows - 1) / kStripRows * kStripRows; }  // of V
  uint32_t strip_tokens() const { return block_size < kStripRows ? block_size : kStripRows; }
  size_t k_elements() const { return size_t{block_size} * head_dim; }    // of one block and head
  size_t v_elements() const { return size_t{block_size} * padded_dim(); }
  uint64_t bytes_per_token() const {
    return uint64_t{num_layers} * num_kv_heads * (head_dim + padded_dim()) * weight_size(type);
  }
};

class KvCache {
 public:
  // Error: no memory.
  static Result<KvCache> create(const KvShape& shape);

  const KvShape& shape() const { return shape_; }
  uint64_t bytes() const { return memory_.size_bytes(); }
  const std::byte* k_block(uint32_t layer, uint32_t block, uint32_t head) const { return run(layer, block, head); }
  const std::byte* v_block(uint32_t layer, uint32_t block, uint32_t head) const {
    return run(layer, block, head) + shape_.k_elements() * weight_size(shape_.type);
  }
  // Stores k and v [head_dim] of one token and head.
  void write(uint32_t layer, uint32_t slot, uint32_t head, const float* k, const float* v);

 private:
  std::byte* run(uint32_t layer, uint32_t block, uint32_t head) const;

  KvShape shape_;
  MappedMemory memory_;  // [layer][block][head][k | v]
};

}  // namespace quern::cpu
