// Device-side numbers: stored types to fp32 and back, sums over a warp and a block in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace quern::cuda {

// bf16 as its bits: loads widen exactly, stores round to nearest even.
struct Bf16 {
  uint16_t bits;
};

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(Bf16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

template <typename T>
__device__ inline T narrow(float value);
template <>
__device__ inline float narrow<float>(float value) {
  return value;
}
template <>
__device__ inline Bf16 narrow<Bf16>(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return Bf16{static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return Bf16{static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

// Eight consecutive elements from a 16-byte aligned address.
__device__ inline void load8(const float* from, float (&out)[8]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
  out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
  out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
}
__device__ inline void load8(const Bf16* from, float (&out)[8]) {
  const uint4 words = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(pairs[i] << 16);
    out[2 * i + 1] = __uint_as_float(pairs[i] & 0xFFFF0000u);
  }
}

inline constexpr uint32_t kWarp = 32;

// All lanes get the sum. REQUIRES: all 32 lanes call it.
__device__ inline float warp_sum(float value) {
  for (int step = 16; step > 0; step >>= 1) value += __shfl_xor_sync(0xFFFFFFFFu, value, step);
  return value;
}

// All threads get the sum. `scratch` has a float per warp. REQUIRES: all threads of the block call it, whole warps.
__device__ inline float block_sum(float value, float* scratch) {
  value = warp_sum(value);
  __syncthreads();  // scratch may still be read by an earlier call
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  float total = 0;
  for (uint32_t warp = 0; warp < blockDim.x / kWarp; ++warp) total += scratch[warp];
  return total;
}

}  // namespace quern::cuda
