#include "engine/step_batch.h"

namespace quern {

StepBatch::StepBatch(const RunnerLimits& limits) : block_size_(limits.block_size) {
  token_ids_.reserve(limits.max_num_tokens);
  positions_.reserve(limits.max_num_tokens);
  slots_.reserve(limits.max_num_tokens);
  slices_.reserve(limits.max_num_seqs);
  rows_.reserve(limits.max_logit_rows);
  // Shared prefix blocks stand in several tables, so the bound is per sequence, not the pool's size.
  const size_t per_sequence = (size_t{limits.context_length} + limits.block_size - 1) / limits.block_size;
  tables_.reserve(per_sequence * limits.max_num_seqs);
}

const Batch& StepBatch::build(std::span<const PlannedSlice> plan) {
  token_ids_.clear();
  positions_.clear();
  slots_.clear();
  slices_.clear();
  tables_.clear();
  rows_.clear();
  for (const PlannedSlice& planned : plan) {
    const Sequence& s = *planned.sequence;
    const uint32_t query_begin = static_cast<uint32_t>(token_ids_.size());
    const uint32_t context = planned.begin + planned.count;
    slices_.push_back({query_begin, planned.count, context, static_cast<uint32_t>(tables_.size())});
    for (uint32_t i = planned.begin; i < context; ++i) {
      token_ids_.push_back(s.tokens[i]);
      positions_.push_back(i);
      slots_.push_back(s.block_table[i / block_size_] * block_size_ + i % block_size_);
    }
    for (uint32_t b = 0; b * block_size_ < context; ++b) tables_.push_back(s.block_table[b]);
    for (uint32_t r = 0; r < planned.row_count; ++r) rows_.push_back(query_begin + planned.row_begin - planned.begin + r);
  }
  batch_ = {token_ids_, positions_, slots_, slices_, tables_, rows_};
  return batch_;
}

}  // namespace quern
