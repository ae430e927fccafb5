// RoPE with optional q/k norm into the paged cache, and attention over it.
//
// Layout: one layer's cache is [slots][2][kv_heads * head_dim]; slot = block * block_size + offset.
// rope_and_cache: grid (tokens, q + 2 kv heads), one warp per head, lane l owns pairs l, l + 32, ... of (i, i + half).
// attention: grid (tokens, q heads); 4 warps walk the positions p = warp, warp + 4, ... with a running softmax (Milakov
// and Gimelshein 2018), lane l owns elements l, l + 32, ...; then warp order 0..3 merges. The order depends on position
// and head only, so a token's bits do not depend on its batch.
// Bytes: each query reads its whole K and V once per q head (GQA groups share through L2). Bound: memory.
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

namespace quern::cuda {
namespace {

constexpr uint32_t kWarpsPerBlock = 4;
constexpr uint32_t kElementsPerLane = kHeadDimMax / kWarp;

template <typename T>
__global__ void rope_kernel(RopeArguments a, CacheLayout layout, T* cache) {
  const uint32_t token = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, d = layout.head_dim, half = d / 2;
  const uint32_t width = layout.kv_heads * d, heads = layout.q_heads + 2 * layout.kv_heads;
  float* values = a.qkv + static_cast<size_t>(token) * padded(heads * d) + head * d;
  const bool is_q = head < layout.q_heads, is_v = head >= layout.q_heads + layout.kv_heads;
  // K heads, then V heads, lie in the slot as they lie in the row.
  T* slot = cache + static_cast<size_t>(a.slots[token]) * 2 * width + (is_q ? 0 : head - layout.q_heads) * d;
  if (is_v) {
    for (uint32_t i = lane; i < d; i += kWarp) slot[i] = narrow<T>(values[i]);
    return;
  }
  const float* weight = is_q ? a.q_norm : a.k_norm;
  float scale = 1;
  if (weight != nullptr) {
    float squares = 0;
    for (uint32_t i = lane; i < d; i += kWarp) squares = fmaf(values[i], values[i], squares);
    scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(d) + a.eps);
  }
  const float position = static_cast<float>(a.positions[token]);
  for (uint32_t i = lane; i < half; i += kWarp) {
    float x = values[i], y = values[i + half], sine, cosine;
    if (weight != nullptr) x = x * scale * weight[i], y = y * scale * weight[i + half];
    sincosf(position * a.inv_freq[i], &sine, &cosine);
    const float turned_x = x * cosine - y * sine, turned_y = y * cosine + x * sine;
    if (is_q) {
      values[i] = turned_x, values[i + half] = turned_y;
    } else {
      slot[i] = narrow<T>(turned_x), slot[i + half] = narrow<T>(turned_y);
    }
  }
}

// One warp's share of a softmax-weighted sum: weights exp(score - largest), their total, and the sum of V.
struct Partial {
  float largest = -INFINITY, total = 0;
  float sum[kElementsPerLane] = {};
};

template <typename T>
__device__ void walk(const AttentionArguments& a, const CacheLayout& layout, const T* cache, const float* q,
                     uint32_t token, uint32_t kv_head, Partial& p) {
  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, d = layout.head_dim;
  const size_t width = static_cast<size_t>(layout.kv_heads) * d;
  const uint32_t* table = a.block_tables + a.block_begin[token];
  for (uint32_t position = warp; position < a.visible[token]; position += kWarpsPerBlock) {
    const size_t slot =
        static_cast<size_t>(table[position / layout.block_size]) * layout.block_size + position % layout.block_size;
    const T* k = cache + slot * 2 * width + kv_head * d;
    const T* v = k + width;
    float dot = 0;
#pragma unroll
    for (uint32_t j = 0; j < kElementsPerLane; ++j)
      if (const uint32_t i = lane + j * kWarp; i < d) dot = fmaf(q[j], widen(k[i]), dot);
    const float score = warp_sum(dot) * a.scale;
    const float largest = fmaxf(p.largest, score), keep = expf(p.largest - largest), weight = expf(score - largest);
    p.largest = largest;
    p.total = p.total * keep + weight;
#pragma unroll
    for (uint32_t j = 0; j < kElementsPerLane; ++j)
      if (const uint32_t i = lane + j * kWarp; i < d) p.sum[j] = p.sum[j] * keep + weight * widen(v[i]);
  }
}

template <typename T>
__global__ void attention_kernel(AttentionArguments a, CacheLayout layout, const T* cache) {
  __shared__ float largest[kWarpsPerBlock], total[kWarpsPerBlock], sums[kWarpsPerBlock][kHeadDimMax];
  const uint32_t token = blockIdx.x, head = blockIdx.y, d = layout.head_dim;
  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const uint32_t heads = layout.q_heads + 2 * layout.kv_heads, kv_head = head / (layout.q_heads / layout.kv_heads);
  const float* from = a.qkv + static_cast<size_t>(token) * padded(heads * d) + head * d;
  float q[kElementsPerLane] = {};
#pragma unroll
  for (uint32_t j = 0; j < kElementsPerLane; ++j)
    if (const uint32_t i = lane + j * kWarp; i < d) q[j] = from[i];
  Partial p;
  walk(a, layout, cache, q, token, kv_head, p);
  if (lane == 0) largest[warp] = p.largest, total[warp] = p.total;
#pragma unroll
  for (uint32_t j = 0; j < kElementsPerLane; ++j)
    if (const uint32_t i = lane + j * kWarp; i < d) sums[warp][i] = p.sum[j];
  __syncthreads();
  float most = largest[0], all = 0;
  for (uint32_t w = 1; w < kWarpsPerBlock; ++w) most = fmaxf(most, largest[w]);
  float scale[kWarpsPerBlock];
  for (uint32_t w = 0; w < kWarpsPerBlock; ++w) {
    scale[w] = expf(largest[w] - most);  // 0 for a warp that saw no position
    all += total[w] * scale[w];
  }
  float* out = a.out + static_cast<size_t>(token) * padded(layout.q_heads * d) + head * d;
  for (uint32_t i = threadIdx.x; i < d; i += blockDim.x) {
    float sum = 0;
    for (uint32_t w = 0; w < kWarpsPerBlock; ++w) sum += sums[w][i] * scale[w];
    out[i] = sum / all;
  }
}

}  // namespace

template <typename T>
void rope_and_cache(const RopeArguments& arguments, const CacheLayout& layout, T* cache, uint32_t tokens,
                    cudaStream_t stream) {
  if (tokens == 0) return;
  launch(rope_kernel<T>, dim3(tokens, layout.q_heads + 2 * layout.kv_heads), dim3(kWarp), stream, arguments, layout,
         cache);
}
template void rope_and_cache<float>(const RopeArguments&, const CacheLayout&, float*, uint32_t, cudaStream_t);
template void rope_and_cache<Bf16>(const RopeArguments&, const CacheLayout&, Bf16*, uint32_t, cudaStream_t);

template <typename T>
void attention(const AttentionArguments& arguments, const CacheLayout& layout, const T* cache, uint32_t tokens,
               cudaStream_t stream) {
  if (tokens == 0) return;
  launch(attention_kernel<T>, dim3(tokens, layout.q_heads), dim3(kWarpsPerBlock * kWarp), stream, arguments, layout,
         cache);
}
template void attention<float>(const AttentionArguments&, const CacheLayout&, const float*, uint32_t, cudaStream_t);
template void attention<Bf16>(const AttentionArguments&, const CacheLayout&, const Bf16*, uint32_t, cudaStream_t);

}  // namespace quern::cuda
