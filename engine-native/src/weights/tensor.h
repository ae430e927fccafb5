// Host tensors: what the format readers yield. Borrowed views into mapped files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"

namespace quern {

enum class DType : uint8_t { kF32, kF16, kBF16 };

inline uint32_t dtype_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
inline const char* dtype_name(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kF16 ? "f16" : "bf16";
}

// A matrix [rows, cols] row-major, or a vector [rows] with cols = 1. Data may be unaligned and outlives the loader
// only.
struct HostTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  uint64_t rows = 0;
  uint64_t cols = 1;
  const std::byte* data = nullptr;

  uint64_t count() const { return rows * cols; }
};

}  // namespace quern
