// y [rows, out] = x [rows, in] W^T + b, the plain way.
//
// Layout: W [out, padded(in)], x [rows, padded(in)]; padding is zero on both sides, so it adds nothing.
// Grid: (out / 4, rows / 8); a block is 4 warps, a warp computes one output column for 8 rows: lane l reads elements
// 8 l + 256 j of the weight row once for all 8 rows, then the warp sums over its lanes.
// Bytes: W once per 8 rows, x once per output column (from L2). Bound: memory for few rows, far from the tensor cores'
// rate for many; this is the correct kernel that faster ones are compared with.
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

namespace quern::cuda {
namespace {

constexpr uint32_t kWarpsPerBlock = 4;
constexpr uint32_t kRowsPerWarp = 8;

template <typename W>
__global__ void linear_kernel(const float* x, const W* weight, const float* bias, float* y, uint32_t rows, uint32_t in,
                              uint32_t out) {
  const uint32_t lane = threadIdx.x % kWarp, column = blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp;
  const uint32_t first_row = blockIdx.y * kRowsPerWarp, stride = padded(in), out_stride = padded(out);
  if (column >= out) return;  // a whole warp leaves together
  float sums[kRowsPerWarp] = {};
  const W* weight_row = weight + static_cast<size_t>(column) * stride;
  for (uint32_t k = lane * 8; k < stride; k += kWarp * 8) {
    float w[8];
    load8(weight_row + k, w);
#pragma unroll
    for (uint32_t r = 0; r < kRowsPerWarp; ++r) {
      if (first_row + r >= rows) continue;
      float values[8];
      load8(x + static_cast<size_t>(first_row + r) * stride + k, values);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[r] = fmaf(values[i], w[i], sums[r]);
    }
  }
#pragma unroll
  for (uint32_t r = 0; r < kRowsPerWarp; ++r) {
    const float sum = warp_sum(sums[r]);
    if (lane == 0 && first_row + r < rows)
      y[static_cast<size_t>(first_row + r) * out_stride + column] = sum + (bias == nullptr ? 0.0f : bias[column]);
  }
}

}  // namespace

template <typename W>
void linear(const float* x, const W* weight, const float* bias, float* y, uint32_t rows, uint32_t in, uint32_t out,
            cudaStream_t stream) {
  if (rows == 0) return;
  const dim3 grid((out + kWarpsPerBlock - 1) / kWarpsPerBlock, (rows + kRowsPerWarp - 1) / kRowsPerWarp);
  launch(linear_kernel<W>, grid, dim3(kWarpsPerBlock * kWarp), stream, x, weight, bias, y, rows, in, out);
}

template void linear<float>(const float*, const float*, const float*, float*, uint32_t, uint32_t, uint32_t,
                            cudaStream_t);
template void linear<Bf16>(const float*, const Bf16*, const float*, float*, uint32_t, uint32_t, uint32_t, cudaStream_t);

}  // namespace quern::cuda
