// Device memory with an owner, and the one place where CUDA errors become words.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace quern::cuda {

// What a CUDA call answered, as a Status that names what we were doing. Takes the error out of the runtime's memory:
// the next launch would find it there and take it for its own.
inline Status to_status(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return Status();
  cudaGetLastError();
  std::string message =
      std::string("CUDA: ") + doing + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
  return error == cudaErrorMemoryAllocation ? resource_exhausted(std::move(message))
                                            : internal_error(std::move(message));
}

// For steps, which do not fail: a broken device ends the process with the error's name.
inline void must(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) check_failed(doing, 0, cudaGetErrorName(error), cudaGetErrorString(error));
}

// Waits for what loading put on the default stream. Steps run on a stream that does not wait for it, and neither
// cudaMemset nor cudaMemcpy from pageable memory need have reached the device when it returns.
inline Status finish_load() { return to_status(cudaDeviceSynchronize(), "finishing a load"); }

// Zeroed device memory. Move-only.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  static Result<DeviceMemory> allocate(size_t bytes) {
    DeviceMemory memory;
    if (bytes == 0) bytes = 16;
    QUERN_RETURN_IF_ERROR(to_status(cudaMalloc(&memory.data_, bytes), "allocating device memory"));
    memory.size_ = bytes;
    QUERN_RETURN_IF_ERROR(to_status(cudaMemset(memory.data_, 0, bytes), "clearing device memory"));
    QUERN_RETURN_IF_ERROR(finish_load());
    return Result<DeviceMemory>(std::move(memory));
  }
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, size_t{0})) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() {
    if (data_ != nullptr) cudaFree(data_);
  }

  size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Columns of every matrix and buffer are padded with zeros to this many elements, so that kernels read 16 bytes at a
// time.
inline constexpr uint32_t kColumnUnit = 8;
__host__ __device__ constexpr uint32_t padded(uint32_t cols) {
  return (cols + kColumnUnit - 1) / kColumnUnit * kColumnUnit;
}

}  // namespace quern::cuda
