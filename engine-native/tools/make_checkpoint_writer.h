// Writes a model folder whose weights follow from a seed, so that tests and benchmarks need no download.
//
// The algorithm is that of test/golden/engine/README.md; its fixtures hold what transformers computes for such folders.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "weights/tensor.h"

namespace quern {

struct CheckpointOptions {
  uint64_t seed = 1;
  DType dtype = DType::kBF16;
  uint64_t shard_bytes = 0;             // data bytes per file; 0 = one file without an index
  std::map<std::string, double> gains;  // embed q k v o gate up down lm_head; those absent take a default
};

struct CheckpointTensor {
  std::string name;
  uint64_t rows = 0;
  uint64_t cols = 0;  // 0 = a vector

  uint64_t count() const { return cols == 0 ? rows : rows * cols; }
};

// The tensors that a model of this config has, in file order.
std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config);

// Element `first + i` of the tensor for i < values.size(), as bf16 bits.
void make_weights(const CheckpointTensor& tensor, const CheckpointOptions& options, uint64_t first,
                  std::span<uint16_t> values);

// The gains used where options.gains is silent.
std::map<std::string, double> default_gains(const ModelConfig& config);

// Writes config.json (the given text) and the weight files into an existing folder. Holds a few MiB at a time.
Status write_checkpoint(const std::string& folder, const std::string& config_json, const CheckpointOptions& options);

// The config.json of a named shape: tiny, qwen2.5-0.5b, qwen2.5-1.5b, qwen3-0.6b. Empty if unknown.
std::string config_of_shape(const std::string& name);

}  // namespace quern
