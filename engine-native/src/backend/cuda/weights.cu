#include <algorithm>

#include "backend/cuda/weights.cuh"
#include "base/float16.h"
#include "weights/tensor_values.h"

namespace quern::cuda {
namespace {

constexpr size_t kStagingElements = 1 << 22;

size_t element_size(WeightType type) { return type == WeightType::kF32 ? sizeof(float) : sizeof(uint16_t); }

// Converts and copies the rows of one part to row `first_row` of the matrix, some rows at a time.
Status upload_rows(const HostTensor& part, WeightType type, DeviceMatrix& matrix, uint64_t first_row) {
  const size_t stride = padded(matrix.cols);
  const size_t rows_at_once = std::max<size_t>(1, kStagingElements / stride);
  std::vector<float> values(part.cols), wide;
  std::vector<uint16_t> narrow;
  for (uint64_t row = 0; row < part.rows; row += rows_at_once) {
    const size_t count = std::min<uint64_t>(rows_at_once, part.rows - row);
    wide.assign(type == WeightType::kF32 ? count * stride : 0, 0.0f);
    narrow.assign(type == WeightType::kBF16 ? count * stride : 0, 0);
    for (size_t i = 0; i < count; ++i) {
      tensor_values(part, values, (row + i) * part.cols);
      if (type == WeightType::kF32) {
        std::copy(values.begin(), values.end(), wide.begin() + static_cast<std::ptrdiff_t>(i * stride));
      } else {
        std::transform(values.begin(), values.end(), narrow.begin() + static_cast<std::ptrdiff_t>(i * stride),
                       f32_to_bf16);
      }
    }
    const void* from = type == WeightType::kF32 ? static_cast<const void*>(wide.data()) : narrow.data();
    std::byte* to = matrix.values.as<std::byte>() + (first_row + row) * stride * element_size(type);
    QUERN_RETURN_IF_ERROR(to_status(cudaMemcpy(to, from, count * stride * element_size(type), cudaMemcpyHostToDevice),
                                    "copying weights"));
  }
  return finish_load();
}

}  // namespace

Result<DeviceMemory> upload_vector(const HostTensor& source) {
  std::vector<float> values(source.count());
  tensor_values(source, values);
  Result<DeviceMemory> memory = DeviceMemory::allocate(values.size() * sizeof(float));
  QUERN_RETURN_IF_ERROR(memory.status());
  QUERN_RETURN_IF_ERROR(
      to_status(cudaMemcpy(memory->as<float>(), values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice),
                "copying weights"));
  QUERN_RETURN_IF_ERROR(finish_load());
  return Result<DeviceMemory>(std::move(*memory));
}

Result<DeviceMatrix> upload_linear(const LinearSource& source, WeightType type) {
  if (source.parts.empty()) return invalid_argument("a linear needs at least one part");
  DeviceMatrix matrix;
  matrix.cols = static_cast<uint32_t>(source.parts[0].cols);
  for (const HostTensor& part : source.parts) {
    if (part.cols != matrix.cols)
      return invalid_argument("parts of one linear: expected " + std::to_string(matrix.cols) + " columns, got " +
                              std::to_string(part.cols));
    matrix.rows += static_cast<uint32_t>(part.rows);
  }
  Result<DeviceMemory> values = DeviceMemory::allocate(size_t{matrix.rows} * padded(matrix.cols) * element_size(type));
  QUERN_RETURN_IF_ERROR(values.status());
  matrix.values = std::move(*values);
  uint64_t row = 0;
  std::vector<float> bias(matrix.rows);
  for (size_t i = 0; i < source.parts.size(); ++i) {
    QUERN_RETURN_IF_ERROR(upload_rows(source.parts[i], type, matrix, row));
    if (i < source.bias.size() && source.bias[i]) {
      if (source.bias[i]->count() != source.parts[i].rows)
        return invalid_argument("a bias needs one value per output row");
      tensor_values(*source.bias[i], std::span(bias).subspan(row, source.parts[i].rows));
      matrix.has_bias = true;
    }
    row += source.parts[i].rows;
  }
  if (!matrix.has_bias) return Result<DeviceMatrix>(std::move(matrix));
  HostTensor host;
  host.rows = bias.size(), host.data = reinterpret_cast<const std::byte*>(bias.data());
  Result<DeviceMemory> device_bias = upload_vector(host);
  QUERN_RETURN_IF_ERROR(device_bias.status());
  matrix.bias = std::move(*device_bias);
  return Result<DeviceMatrix>(std::move(matrix));
}

Result<DeviceMatrix> upload_matrix(const HostTensor& source, WeightType type) {
  return upload_linear(LinearSource{{source}, {}, 1}, type);
}

}  // namespace quern::cuda
