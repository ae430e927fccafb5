// Enough of CUDA to run backend/cuda/*.cu on the CPU, in the target emulation_tests: the contract suite and the
// parity tests then check the kernels' logic (indexing, barriers, shuffles) on machines without a GPU. It says nothing
// about speed, memory ordering between blocks, or what nvcc makes of the code.
//
// Blocks run one after another; the threads of a block are fibers that switch at __syncthreads and warp shuffles. A
// barrier that not all threads reach, or a shuffle that not all 32 lanes reach, ends the process with a message.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../emulated_device_memory.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();
float __shfl_xor_sync(unsigned mask, float value, int lanes);

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum { cudaStreamNonBlocking = 1 };
using cudaStream_t = void*;
inline cudaStream_t const cudaStreamLegacy = nullptr;
struct cudaDeviceProp {
  char name[256];
  int major, minor;
};
struct cudaFuncAttributes {
  int numRegs;
};

inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

using quern::test::emulated_device_memory;

inline cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* memory) { return std::free(memory), cudaSuccess; }
// The 256 bytes before an allocation hold its size.
inline cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const size_t rounded = (bytes + 255) / 256 * 256;
  void* start = nullptr;
  if (rounded > emulated_device_memory.total - std::min(emulated_device_memory.total, emulated_device_memory.used) ||
      cudaMallocHost(&start, rounded + 256) != cudaSuccess)
    return cudaErrorMemoryAllocation;
  std::memcpy(start, &rounded, sizeof rounded);
  emulated_device_memory.used += rounded;
  *memory = static_cast<char*>(start) + 256;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  char* start = static_cast<char*>(memory) - 256;
  size_t rounded = 0;
  std::memcpy(&rounded, start, sizeof rounded);
  emulated_device_memory.used -= rounded;
  return cudaFreeHost(start);
}
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = emulated_device_memory.total;
  *free = *total - std::min(*total, emulated_device_memory.used);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* memory, int value, size_t bytes) { return std::memset(memory, value, bytes), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows,
                                     cudaMemcpyKind, cudaStream_t) {
  for (size_t row = 0; row < rows; ++row)
    std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = nullptr, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated");
  properties->major = 9, properties->minor = 0;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel) {
  return cudaSuccess;
}
