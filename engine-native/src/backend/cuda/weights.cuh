// Weights on the device: matrices [rows, padded(cols)] in the weight type, vectors in fp32.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/device.cuh"
#include "weights/tensor.h"

namespace quern::cuda {

enum class WeightType : uint8_t { kF32, kBF16 };

struct DeviceMatrix {
  DeviceMemory values;
  uint32_t rows = 0, cols = 0;
  DeviceMemory bias;  // fp32 [rows]
  bool has_bias = false;
};

// Stacks the parts; columns of all parts must agree.
Result<DeviceMatrix> upload_linear(const LinearSource& source, WeightType type);
Result<DeviceMatrix> upload_matrix(const HostTensor& source, WeightType type);
Result<DeviceMemory> upload_vector(const HostTensor& source);

}  // namespace quern::cuda
