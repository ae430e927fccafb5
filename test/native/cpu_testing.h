// What the CPU backend's tests share: reproducible numbers, host tensors, and a naive product in double precision.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/float16.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/packed_matrix.h"
#include "reference_avx512.h"
#include "weights/tensor.h"

namespace quern::cpu {

inline std::vector<float> random_floats(size_t count, uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 engine(seed);
  std::vector<float> values(count);
  for (float& v : values) v = scale * (static_cast<float>(engine() >> 40) * 0x1p-23f - 1.0f);
  return values;
}

// Owns the bytes of a host tensor; values are what the backend will see, after rounding to the dtype.
struct TestTensor {
  TestTensor(const std::vector<float>& source, uint64_t rows, uint64_t cols, DType dtype) : values(source) {
    bytes.resize(values.size() * dtype_size(dtype) + 1);
    std::byte* p = bytes.data() + 1;  // unaligned, as files may be
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(p + 4 * i, &values[i], 4);
      } else {
        const uint16_t bits = f32_to_bf16(values[i]);
        std::memcpy(p + 2 * i, &bits, 2);
        values[i] = bf16_to_f32(bits);
      }
    }
    tensor = {"test", dtype, rows, cols, p};
  }
  TestTensor(TestTensor&&) = delete;

  std::vector<float> values;
  std::vector<std::byte> bytes;
  HostTensor tensor;
};

// Every table that this machine can run; those of AVX-512 emulated where it has none.
inline std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> found;
  for (Isa isa : kEveryIsa) {
    const Kernels* kernels = isa_supported(isa) ? &kernels_for(isa) : test::emulated_kernels(isa);
    if (kernels != nullptr) found.push_back(kernels);
  }
  return found;
}

inline bool same_bits(const float* a, const float* b, size_t count) { return std::memcmp(a, b, count * sizeof(float)) == 0; }

}  // namespace quern::cpu
