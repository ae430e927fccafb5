// Rows of fp32 activations that one operation writes and the next one reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "backend/cpu/mapped_memory.h"
#include "backend/cpu/packed_matrix.h"
#include "base/status.h"

namespace quern::cpu {

// Elements of `element_bytes` from one row to the next: whole strips, and not a multiple of 4 KiB, for such rows would compete for
// the same cache sets.
inline size_t padded_stride(uint32_t cols, size_t element_bytes) {
  size_t stride = (size_t{cols} + kStripRows - 1) / kStripRows * kStripRows;
  if (stride * element_bytes % 4096 == 0) stride += kStripRows;
  return stride;
}

struct ActivationBuffer {
  uint32_t cols = 0;
  size_t stride = 0;
  uint32_t rows = 0;
  MappedMemory memory;  // [rows][stride]

  float* row(uint32_t i) const { return memory.as<float>() + i * stride; }

  static Result<ActivationBuffer> allocate(uint32_t cols, uint32_t rows) {
    ActivationBuffer buffer;
    buffer.cols = cols;
    buffer.rows = rows;
    buffer.stride = padded_stride(cols, sizeof(float));
    Result<MappedMemory> memory = MappedMemory::allocate(buffer.stride * rows * sizeof(float), "an activation buffer");
    if (!memory.ok()) return memory.status();
    buffer.memory = std::move(*memory);
    return buffer;
  }
};

}  // namespace quern::cpu
