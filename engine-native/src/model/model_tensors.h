// Which tensors of the weight files a config asks for, found and checked before anything is uploaded.
#pragma once

#include <optional>
#include <vector>

#include "backend/backend.h"
#include "base/status.h"
#include "model/config.h"
#include "weights/weight_files.h"

namespace quern {

struct LayerTensors {
  HostTensor input_norm, post_attention_norm;  // [hidden]
  std::optional<HostTensor> q_norm, k_norm;    // [head_dim]
  LinearSource qkv;                            // [(q + 2 kv heads) * head_dim, hidden]
  LinearSource o;                              // [hidden, q heads * head_dim]
  LinearSource gate_up;                        // [2 * ffn, hidden]
  LinearSource down;                           // [hidden, ffn]
};

// Views into the weight files.
struct ModelTensors {
  HostTensor embedding;            // [vocabulary, hidden]
  std::optional<HostTensor> head;  // [vocabulary, hidden]; absent = tied to the embedding
  HostTensor final_norm;           // [hidden]
  std::vector<LayerTensors> layers;
  uint64_t parameter_count = 0;
  uint64_t bytes = 0;
};

// Errors name the tensor: missing, another shape or dtype than expected, or one that the config gives no place.
// Passed over: `*.rotary_emb.inv_freq`, and an lm_head that repeats a tied embedding bit for bit.
Result<ModelTensors> find_model_tensors(const ModelConfig& config, const WeightFiles& weights);

}  // namespace quern
