// From a model folder to a transformer on a backend.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "model/transformer.h"

namespace quern {

// A model whose weights are on the backend. Next: plan memory with attention_shape and the backend's
// kv_bytes_per_token(), then transformer->reserve(limits, token_count).
struct OpenedModel {
  ModelConfig config;
  std::unique_ptr<Transformer> transformer;
  AttentionShape attention_shape;
  uint32_t token_count = 0;  // ids the tokenizer defines; the rest of the vocabulary is padding
  uint64_t parameter_count = 0;
  std::string model_hash;  // 32 hex digits: config, weights' names, shapes and samples; not cryptographic
};

// Reads config.json, generation_config.json, tokenizer.json (for the number of ids) and the safetensors files of a
// Hugging Face folder. The files are unmapped again before it returns. `backend` must outlive the result.
Result<OpenedModel> open_model(const std::string& folder, Backend& backend, const LoadProgress& progress = nullptr);

}  // namespace quern
