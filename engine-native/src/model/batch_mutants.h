// The seeded bugs of the mutant build that garble a batch on its way to the backend. In every other build this is a
// reference to the batch.
#pragma once

#include "base/mutant.h"
#include "model/runner.h"

#if defined(QUERN_MUTANTS)
#include <vector>
#endif

namespace quern {

#if defined(QUERN_MUTANTS)
class BatchMutants {
 public:
  explicit BatchMutants(const Batch& given)
      : batch_(given),
        positions_(given.positions.begin(), given.positions.end()),
        tables_(given.block_tables.begin(), given.block_tables.end()) {
    for (const SequenceSlice& slice : given.sequences) {
      // A shift of all positions would not show: RoPE is relative. So only what is appended to a context is shifted.
      if (mutant(3) && slice.query_count < slice.context_count)
        for (uint32_t i = 0; i < slice.query_count; ++i) ++positions_[slice.query_begin + i];
      if (mutant(6) && slice.query_count < slice.context_count) {  // a table not updated since the last step
        const uint32_t size = slice.block_begin < tables_.size() ? end_of(given, slice) - slice.block_begin : 0;
        if (size > 1) tables_[slice.block_begin + size - 1] = tables_[slice.block_begin + size - 2];
      }
    }
    batch_.positions = positions_;
    batch_.block_tables = tables_;
  }
  const Batch& batch() const { return batch_; }

 private:
  static uint32_t end_of(const Batch& batch, const SequenceSlice& slice) {
    uint32_t end = static_cast<uint32_t>(batch.block_tables.size());
    for (const SequenceSlice& other : batch.sequences)
      if (other.block_begin > slice.block_begin && other.block_begin < end) end = other.block_begin;
    return end;
  }
  Batch batch_;
  std::vector<uint32_t> positions_, tables_;
};
#else
class BatchMutants {
 public:
  explicit BatchMutants(const Batch& given) : batch_(given) {}
  const Batch& batch() const { return batch_; }

 private:
  const Batch& batch_;
};
#endif

}  // namespace quern
