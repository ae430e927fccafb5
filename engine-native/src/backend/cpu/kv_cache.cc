#include "backend/cpu/kv_cache.h"

#include <utility>

#include "base/float16.h"

namespace quern::cpu {
namespace {

void store(float* p, float value) { *p = value; }
void store(uint16_t* p, float value) { *p = f32_to_bf16(value); }

// Element (k, lane) of a strip with `lanes` lanes; see kernels.h.
size_t strip_offset(const float*, uint32_t k, uint32_t lane, uint32_t lanes) { return size_t{k} * lanes + lane; }
size_t strip_offset(const uint16_t*, uint32_t k, uint32_t lane, uint32_t lanes) {
  return (size_t{k / 2} * lanes + lane) * 2 + k % 2;
}

template <typename T>
void write_token(const KvShape& shape, T* k_run, T* v_run, uint32_t offset, const float* k, const float* v) {
  const uint32_t lanes = shape.strip_tokens();
  T* strip = k_run + size_t{offset / lanes} * lanes * shape.head_dim;
  for (uint32_t d = 0; d < shape.head_dim; ++d) store(strip + strip_offset(strip, d, offset % lanes, lanes), k[d]);
  for (uint32_t d = 0; d < shape.head_dim; ++d) {
    T* v_strip = v_run + size_t{d / kStripRows} * kStripRows * shape.block_size;
    store(v_strip + strip_offset(v_strip, offset, d % kStripRows, kStripRows), v[d]);
  }
}

}  // namespace

Result<KvCache> KvCache::create(const KvShape& shape) {
  KvCache cache;
  cache.shape_ = shape;
  Result<MappedMemory> memory =
      MappedMemory::allocate(shape.bytes_per_token() * shape.block_size * shape.num_blocks, "the KV cache");
  if (!memory.ok()) return memory.status();
  cache.memory_ = std::move(*memory);
  return cache;
}

std::byte* KvCache::run(uint32_t layer, uint32_t block, uint32_t head) const {
  const size_t index = (size_t{layer} * shape_.num_blocks + block) * shape_.num_kv_heads + head;
  return memory_.as<std::byte>() + index * (shape_.k_elements() + shape_.v_elements()) * weight_size(shape_.type);
}

void KvCache::write(uint32_t layer, uint32_t slot, uint32_t head, const float* k, const float* v) {
  std::byte* k_run = run(layer, slot / shape_.block_size, head);
  std::byte* v_run = k_run + shape_.k_elements() * weight_size(shape_.type);
  const uint32_t offset = slot % shape_.block_size;
  if (shape_.type == WeightType::kF32) {
    write_token(shape_, reinterpret_cast<float*>(k_run), reinterpret_cast<float*>(v_run), offset, k, v);
  } else {
    write_token(shape_, reinterpret_cast<uint16_t*>(k_run), reinterpret_cast<uint16_t*>(v_run), offset, k, v);
  }
}

}  // namespace quern::cpu
