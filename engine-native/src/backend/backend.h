// Backend: the dozen coarse operations that the transformer is written over.
//
// The CPU backend (backend/cpu) is the oracle; the CUDA backend (backend/cuda) implements the same contract and passes
// the same op suite (test/native/backend_contract). `cuda_absent.cc` answers for machines without it, so callers have
// no #ifdef. Weights are loaded once and named by handles; activations are buffers of [max_num_tokens, cols] that live
// as long as the backend. The activation type is the backend's own (CPU: fp32), visible only through read_rows().
//
// Thread safety: none; the engine thread owns it. Backends may use their own threads inside a call.
// Invariants: step operations allocate nothing and do not fail; an output row depends only on its own input row (and
// its own sequence's KV), whatever else is in the batch, bit for bit on the CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/runner.h"
#include "weights/tensor.h"

namespace quern {

struct LinearId { uint32_t index; };
struct EmbeddingId { uint32_t index; };
struct VectorId { uint32_t index; };   // norm weights
struct BufferId { uint32_t index; };   // activations [max_num_tokens, cols]

// y = x W^T + b. Parts are stacked along the output rows: q,k,v or gate,up become one matrix [sum out, in].
struct LinearSource {
  std::vector<HostTensor> parts;               // each [out_i, in], same in
  std::vector<std::optional<HostTensor>> bias; // per part [out_i] or absent; empty = none
  // Fixed number of K slices summed in order (o and down projections: 4), so that tensor-parallel ranks which own
  // whole slices give the same bits. 1 elsewhere. Slice borders are multiples of 32 columns where `in` allows it.
  uint32_t k_slices = 1;
};

// What attention needs to know; the same for all layers.
struct AttentionShape {
  uint32_t num_layers = 0;
  uint32_t num_q_heads = 0;
  uint32_t num_kv_heads = 0;   // divides num_q_heads
  uint32_t head_dim = 0;       // even
  std::vector<float> inv_freq; // [head_dim / 2] after scaling; element i pairs with i + head_dim / 2
  float attention_scale = 0;   // 1 / sqrt(head_dim)
};

struct BackendInfo {
  std::string name;        // cpu, cuda
  std::string isa;         // portable, avx2, avx512, avx512bf16, or the GPU's name
  std::string weight_type; // f32, bf16
  bool narrows_activations = false;  // matrix products round their inputs to bf16; never with f32 weights
  uint32_t threads = 0;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
};

struct BackendOptions {
  std::string isa = "auto";
  std::string dtype = "auto";  // f32 | bf16: type of weights in memory and of the KV cache
  uint32_t threads = 0;
};

struct DeviceMemoryState {
  uint64_t free_bytes = 0, total_bytes = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual BackendInfo info() const = 0;
  // Memory as it is now where weights and KV cache lie; nullopt where that is the host's, which has limits of its own to ask.
  virtual Result<std::optional<DeviceMemoryState>> device_memory() const { return std::optional<DeviceMemoryState>(); }

  // --- load time; may fail and allocate ---
  virtual Result<LinearId> load_linear(const LinearSource& source) = 0;
  virtual Result<VectorId> load_vector(const HostTensor& source) = 0;             // [n]
  virtual Result<EmbeddingId> load_embedding(const HostTensor& source) = 0;       // [vocab, hidden]
  virtual Result<EmbeddingId> tie_embedding(LinearId head) = 0;                   // rows of the head serve as embedding
  virtual Result<BufferId> new_buffer(uint32_t cols, bool logit_rows_only) = 0;   // after reserve()
  // Sizes the KV cache [num_layers][num_blocks * block_size][2][num_kv_heads, head_dim] and all workspaces.
  virtual Status reserve(const AttentionShape& shape, const RunnerLimits& limits) = 0;
  // Bytes of KV per token, for planning before reserve().
  virtual uint64_t kv_bytes_per_token(const AttentionShape& shape) const = 0;

  // --- one step; num_tokens rows of every buffer are live. REQUIRES: within the reserved limits ---
  virtual void begin_step(const Batch& batch) = 0;
  virtual void embed(EmbeddingId table, BufferId out) = 0;
  virtual void rmsnorm(BufferId x, VectorId weight, float eps, BufferId out) = 0;
  // residual += delta; out = rmsnorm(residual).
  virtual void add_rmsnorm(BufferId residual, BufferId delta, VectorId weight, float eps, BufferId out) = 0;
  virtual void linear(BufferId x, LinearId weight, BufferId out) = 0;
  // qkv [num_tokens, (q + 2 kv heads) * head_dim]: q/k RMSNorm per head where given, RoPE on q and k by position;
  // q stays in the buffer, k and v go to this layer's cache at slot_mapping.
  virtual void rope_and_cache(BufferId qkv, uint32_t layer, std::optional<VectorId> q_norm,
                              std::optional<VectorId> k_norm, float eps) = 0;
  // Causal attention of each slice's queries over its block table; reads q from qkv, out [num_tokens, q heads * head_dim].
  virtual void attention(BufferId qkv, uint32_t layer, BufferId out) = 0;
  virtual void swiglu(BufferId gate_up, BufferId out) = 0;  // [.., 2 f] -> [.., f]: silu(gate) * up
  // out rows 0..num_logit_rows-1 = x rows at logit_rows. `out` must be a logit_rows_only buffer.
  virtual void gather_logit_rows(BufferId x, BufferId out) = 0;
  virtual void linear_rows(BufferId x, LinearId weight, BufferId out) = 0;  // as linear over num_logit_rows rows
  virtual void rmsnorm_rows(BufferId x, VectorId weight, float eps, BufferId out) = 0;
  // Copies the first `rows` rows to host memory as fp32 [rows, cols]; waits for the device.
  virtual void read_rows(BufferId x, uint32_t rows, std::span<float> out) = 0;

  // Tests only: host access to whole buffers and to K/V of one slot.
  virtual void write_rows(BufferId x, uint32_t rows, std::span<const float> in) = 0;
};

Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options);
Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options);

}  // namespace quern
