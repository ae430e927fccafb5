// Drives a ModelRunner by hand: sequences with block tables, batches of any composition. What the engine's loop does,
// without scheduler or cache, so that a failure points at the model.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/runner.h"

namespace quern::test {

// One sequence's new tokens in a step, and which of them (by offset) want logits.
struct Feed {
  size_t sequence = 0;
  std::span<const uint32_t> tokens;
  std::vector<uint32_t> logit_offsets;
};

class ModelDriver {
 public:
  // REQUIRES: limits are those the runner was reserved with.
  ModelDriver(ModelRunner& runner, const RunnerLimits& limits) : runner_(runner), limits_(limits) {}

  // A new empty sequence. Blocks are handed out scattered, never in ascending order.
  size_t add_sequence();
  uint32_t length(size_t sequence) const { return sequences_[sequence].length; }

  // Runs one batch. The logits of all wanted offsets in order, [rows, vocabulary]; valid until the next step.
  Result<std::span<const float>> step(std::span<const Feed> feeds);

 private:
  struct Sequence {
    std::vector<uint32_t> blocks;
    uint32_t length = 0;
  };
  void append(const Feed& feed);

  ModelRunner& runner_;
  RunnerLimits limits_;
  std::vector<Sequence> sequences_;
  uint32_t blocks_used_ = 0;
  std::vector<uint32_t> token_ids_, positions_, slots_, tables_, logit_rows_;
  std::vector<SequenceSlice> slices_;
  std::vector<float> logits_;
};

// The limits that the parity tests reserve: room for all prompts of a fixture at once.
RunnerLimits parity_limits(uint32_t block_size);

uint32_t argmax(std::span<const float> row);

}  // namespace quern::test
