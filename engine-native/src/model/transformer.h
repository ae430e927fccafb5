// The transformer, written once over Backend: pre-norm blocks, grouped-query attention with RoPE, SwiGLU.
//
// Covers what ModelConfig can express (qwen2, qwen3, llama). Life: load() uploads the weights, reserve() sizes the KV
// cache and the activations, then forward() runs steps. The split lets the engine plan memory between the first two.
//
// Thread safety: none, see ModelRunner. The backend must outlive the transformer.
// Invariants: forward() allocates nothing and tests `interrupt` before every layer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/runner.h"
#include "weights/weight_files.h"

namespace quern {

// phase: "weights". done and total in bytes.
using LoadProgress = std::function<void(const char* phase, uint64_t done, uint64_t total)>;

class Transformer final : public ModelRunner {
 public:
  // Errors: a tensor that is missing, has another shape, or that the config gives no place; whatever the backend says.
  static Result<std::unique_ptr<Transformer>> load(const ModelConfig& config, const WeightFiles& weights,
                                                   Backend& backend, const LoadProgress& progress = nullptr);

  // Once, before the first forward(). Columns from token_count on are padding rows of the vocabulary: their logits are
  // -infinity. REQUIRES: token_count <= vocabulary_size().
  Status reserve(const RunnerLimits& limits, uint32_t token_count);

  uint32_t vocabulary_size() const override { return config_.vocabulary_size; }
  Status forward(const Batch& batch, std::span<float> logits, const std::atomic<bool>* interrupt) override;

  const ModelConfig& config() const { return config_; }
  uint64_t parameter_count() const { return parameter_count_; }
  // For Backend::kv_bytes_per_token and reserve().
  static AttentionShape attention_shape(const ModelConfig& config);
  // Of the buffers that reserve() asks for, in fp32; needs max_num_tokens and max_logit_rows.
  static uint64_t activation_bytes(const ModelConfig& config, const RunnerLimits& limits);

 private:
  struct Layer {
    VectorId input_norm, post_attention_norm;
    std::optional<VectorId> q_norm, k_norm;
    LinearId qkv, o, gate_up, down;
  };
  struct Buffers {
    BufferId residual, normed, qkv, attention, delta, gate_up, ffn, last, logits;
  };

  Transformer(const ModelConfig& config, Backend& backend) : config_(config), backend_(backend) {}

  Status load_weights(const WeightFiles& weights, const LoadProgress& progress);
  void run_layer(uint32_t index, const Layer& layer);

  ModelConfig config_;
  Backend& backend_;
  std::vector<Layer> layers_;
  EmbeddingId embedding_{};
  VectorId final_norm_{};
  LinearId head_{};
  std::optional<Buffers> buffers_;
  RunnerLimits limits_;
  uint32_t token_count_ = 0;
  uint64_t parameter_count_ = 0;
};

}  // namespace quern
