// The kernels' host entries. Row strides are padded(cols); all pointers are device pointers; nothing waits.
//
// Every kernel gives a row the same bits whatever other rows are in the launch: sums run in an order fixed by the
// shape.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/numbers.cuh"

namespace quern::cuda {

// Whether this build holds code for the current device. Asked at load time: a launch could only end the process.
bool device_code_fits();

// y [rows, out] = x [rows, in] W^T + b. W [out, padded(in)] bf16 or fp32, b [out] or null.
template <typename W>
void linear(const float* x, const W* weight, const float* bias, float* y, uint32_t rows, uint32_t in, uint32_t out,
            cudaStream_t stream);

// out [tokens, cols] = rows of table [vocabulary, padded(cols)] at token_ids.
template <typename W>
void embed(const W* table, const uint32_t* token_ids, float* out, uint32_t tokens, uint32_t cols, cudaStream_t stream);

// residual += delta where delta is given; out = residual * rsqrt(mean(residual^2) + eps) * weight.
void rmsnorm(float* residual, const float* delta, const float* weight, float eps, float* out, uint32_t rows,
             uint32_t cols, cudaStream_t stream);

// out [rows, ffn] = silu(gate) * up of gate_up [rows, 2 ffn].
void swiglu(const float* gate_up, float* out, uint32_t rows, uint32_t ffn, cudaStream_t stream);

// out row i = x row rows[i].
void gather_rows(const float* x, const uint32_t* rows, float* out, uint32_t count, uint32_t cols, cudaStream_t stream);

// What attention and the cache share. One layer's cache: [slots][2][kv_heads * head_dim], K then V.
struct CacheLayout {
  uint32_t q_heads, kv_heads, head_dim, block_size;
};

struct RopeArguments {
  float* qkv;                 // [tokens, (q + 2 kv) * head_dim], q is turned in place
  const uint32_t* positions;  // [tokens]
  const uint32_t* slots;      // [tokens]
  const float* inv_freq;      // [head_dim / 2]
  const float* q_norm;        // [head_dim] or null
  const float* k_norm;        // [head_dim] or null
  float eps;
};
template <typename T>
void rope_and_cache(const RopeArguments& arguments, const CacheLayout& layout, T* cache, uint32_t tokens,
                    cudaStream_t stream);

struct AttentionArguments {
  const float* qkv;             // [tokens, (q + 2 kv) * head_dim]
  const uint32_t* visible;      // [tokens] how many positions this token sees, itself included
  const uint32_t* block_begin;  // [tokens] where its sequence's block table begins
  const uint32_t* block_tables;
  float scale;
  float* out;  // [tokens, q * head_dim]
};
inline constexpr uint32_t kHeadDimMax = 256;
// REQUIRES: head_dim <= kHeadDimMax.
template <typename T>
void attention(const AttentionArguments& arguments, const CacheLayout& layout, const T* cache, uint32_t tokens,
               cudaStream_t stream);

}  // namespace quern::cuda
