// StepBatch: turns the scheduler's plan into the integer arrays that the model reads. Owns them; sized at load.
//
// Thread safety: none; the engine thread owns it. Invariant: build() allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/runner.h"
#include "sched/sequence.h"

namespace quern {

class StepBatch {
 public:
  explicit StepBatch(const RunnerLimits& limits);

  // The views live until the next build().
  const Batch& build(std::span<const PlannedSlice> plan);

 private:
  uint32_t block_size_;
  std::vector<uint32_t> token_ids_, positions_, slots_;  // [num_tokens]
  std::vector<SequenceSlice> slices_;                    // [num_seqs]
  std::vector<uint32_t> tables_;                         // flattened block tables
  std::vector<uint32_t> rows_;                           // [num_logit_rows]
  Batch batch_;
};

}  // namespace quern
