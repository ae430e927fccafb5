// Runs a model without scheduler or cache: one sequence, greedy. What engine_cli --logits shows; a first aid when the
// engine's answer looks wrong, since it takes everything above the transformer away.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace quern {

struct RunnerOptions {
  std::string model_dir, backend = "auto", isa = "auto", dtype = "auto";
  uint32_t threads = 0;
  std::vector<uint32_t> ids;  // at least one
  uint32_t max_tokens = 0;    // greedy tokens to add
};

// The logits after `ids` and each added token, and the tokens chosen from them.
struct RunnerResult {
  uint32_t vocabulary_size = 0;
  std::vector<std::vector<float>> logits;  // [max_tokens + 1][vocabulary]
  std::vector<uint32_t> ids;               // [max_tokens]
};

Result<RunnerResult> run_directly(const RunnerOptions& options);

}  // namespace quern
