// Row-wise kernels: embedding, RMSNorm (with the residual add), SwiGLU, gather.
//
// Grid: one block per row, threads stride over the columns. Bytes: each element read and written once; bound by memory
// and, for small batches, by launch time.
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

namespace quern::cuda {
namespace {

constexpr uint32_t kThreads = 256;

template <typename W>
__global__ void embed_kernel(const W* table, const uint32_t* token_ids, float* out, uint32_t cols) {
  const size_t stride = padded(cols);
  const W* from = table + token_ids[blockIdx.x] * stride;
  for (uint32_t c = threadIdx.x; c < cols; c += blockDim.x) out[blockIdx.x * stride + c] = widen(from[c]);
}

__global__ void rmsnorm_kernel(float* residual, const float* delta, const float* weight, float eps, float* out,
                               uint32_t cols) {
  __shared__ float scratch[kThreads / kWarp];
  const size_t begin = static_cast<size_t>(blockIdx.x) * padded(cols);
  float squares = 0;
  for (uint32_t c = threadIdx.x; c < cols; c += blockDim.x) {
    float value = residual[begin + c];
    if (delta != nullptr) {
      value += delta[begin + c];
      residual[begin + c] = value;
    }
    squares = fmaf(value, value, squares);
  }
  const float scale = 1.0f / sqrtf(block_sum(squares, scratch) / static_cast<float>(cols) + eps);
  for (uint32_t c = threadIdx.x; c < cols; c += blockDim.x) out[begin + c] = residual[begin + c] * scale * weight[c];
}

__global__ void swiglu_kernel(const float* gate_up, float* out, uint32_t ffn) {
  const float* row = gate_up + static_cast<size_t>(blockIdx.x) * padded(2 * ffn);
  float* out_row = out + static_cast<size_t>(blockIdx.x) * padded(ffn);
  for (uint32_t c = threadIdx.x; c < ffn; c += blockDim.x) {
    const float gate = row[c];
    out_row[c] = gate / (1.0f + expf(-gate)) * row[ffn + c];
  }
}

__global__ void gather_kernel(const float* x, const uint32_t* rows, float* out, uint32_t cols) {
  const size_t stride = padded(cols);
  for (uint32_t c = threadIdx.x; c < cols; c += blockDim.x)
    out[blockIdx.x * stride + c] = x[rows[blockIdx.x] * stride + c];
}

}  // namespace

// All kernels are compiled for the same architectures, so one answers for all.
bool device_code_fits() {
  cudaFuncAttributes attributes{};
  return to_status(cudaFuncGetAttributes(&attributes, gather_kernel), "looking for device code").ok();
}

template <typename W>
void embed(const W* table, const uint32_t* token_ids, float* out, uint32_t tokens, uint32_t cols, cudaStream_t stream) {
  if (tokens > 0) launch(embed_kernel<W>, dim3(tokens), dim3(kThreads), stream, table, token_ids, out, cols);
}
template void embed<float>(const float*, const uint32_t*, float*, uint32_t, uint32_t, cudaStream_t);
template void embed<Bf16>(const Bf16*, const uint32_t*, float*, uint32_t, uint32_t, cudaStream_t);

void rmsnorm(float* residual, const float* delta, const float* weight, float eps, float* out, uint32_t rows,
             uint32_t cols, cudaStream_t stream) {
  if (rows > 0) launch(rmsnorm_kernel, dim3(rows), dim3(kThreads), stream, residual, delta, weight, eps, out, cols);
}

void swiglu(const float* gate_up, float* out, uint32_t rows, uint32_t ffn, cudaStream_t stream) {
  if (rows > 0) launch(swiglu_kernel, dim3(rows), dim3(kThreads), stream, gate_up, out, ffn);
}

void gather_rows(const float* x, const uint32_t* rows, float* out, uint32_t count, uint32_t cols, cudaStream_t stream) {
  if (count > 0) launch(gather_kernel, dim3(count), dim3(kThreads), stream, x, rows, out, cols);
}

}  // namespace quern::cuda
