// Reading a host tensor's elements as fp32, whatever its type and alignment.
#pragma once

#include <cstring>
#include <span>

#include "base/check.h"
#include "base/float16.h"
#include "weights/tensor.h"

namespace quern {

// out[i] = element first + i. REQUIRES: first + out.size() <= tensor.count().
inline void tensor_values(const HostTensor& tensor, std::span<float> out, uint64_t first = 0) {
  CHECK(first + out.size() <= tensor.count(), "reading past the end of a tensor");
  const std::byte* from = tensor.data + first * dtype_size(tensor.dtype);
  if (tensor.dtype == DType::kF32) {
    std::memcpy(out.data(), from, out.size() * sizeof(float));
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, from + 2 * i, 2);
    out[i] = tensor.dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
}

}  // namespace quern
