// What config.json says about the maths of a model: the families qwen2, qwen3 and llama.
//
// The config decides, never the model's name. A key that changes the maths and is not implemented is an error that
// names the key, what was expected and what came. Formats: Hugging Face config.json with
// rope_theta/rope_scaling/torch_dtype or the newer rope_parameters/dtype, and generation_config.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace quern {

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;                 // kLinear, kLlama3
  double low_freq_factor = 1.0;        // kLlama3
  double high_freq_factor = 4.0;       // kLlama3
  double original_context_length = 0;  // kLlama3
};

struct ModelConfig {
  std::string model_type;        // qwen2, qwen3, llama
  std::string architecture;      // architectures[0], e.g. Qwen2ForCausalLM
  std::string dtype;             // as written: float32, bfloat16, float16; empty if absent
  uint32_t vocabulary_size = 0;  // rows of the embedding, padding rows included
  uint32_t hidden_size = 0;
  uint32_t ffn_size = 0;
  uint32_t num_layers = 0;
  uint32_t num_q_heads = 0;
  uint32_t num_kv_heads = 0;
  uint32_t head_dim = 0;  // q width is num_q_heads * head_dim, not hidden_size
  uint32_t context_length = 0;
  float rms_norm_eps = 0;
  RopeConfig rope;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over head_dim of each q and k head, before RoPE
  bool tied_embeddings = false;
  std::vector<uint32_t> eos_token_ids;  // union of both files, ascending
};

// Reads the text of config.json and, where it is not empty, of generation_config.json. `path` is for messages.
Result<ModelConfig> parse_model_config(const std::string& path, std::string_view config_json,
                                       std::string_view generation_config_json);

// The same from a model folder.
Result<ModelConfig> read_model_config(const std::string& folder);

// RoPE frequencies [head_dim / 2] after scaling; element i turns the pair (i, i + head_dim / 2).
// llama3: long waves are divided by `factor`, short ones kept, those between blended (Llama 3.1 reference code).
std::vector<float> rope_frequencies(const ModelConfig& config);

// Ids that a tokenizer.json in the folder defines: largest id + 1. Ids from there to vocabulary_size are padding rows
// of the embedding that must never be sampled. Without the file: vocabulary_size.
Result<uint32_t> defined_token_count(const std::string& folder, const ModelConfig& config);

}  // namespace quern
