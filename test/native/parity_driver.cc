#include "parity_driver.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace quern::test {

size_t ModelDriver::add_sequence() {
  sequences_.emplace_back();
  return sequences_.size() - 1;
}

void ModelDriver::append(const Feed& feed) {
  Sequence& sequence = sequences_[feed.sequence];
  SequenceSlice slice;
  slice.query_begin = static_cast<uint32_t>(token_ids_.size());
  slice.query_count = static_cast<uint32_t>(feed.tokens.size());
  for (const uint32_t token : feed.tokens) {
    const uint32_t position = sequence.length++;
    if (position / limits_.block_size >= sequence.blocks.size()) {
      uint32_t stride = limits_.num_blocks / 3 * 2 + 1;
      while (std::gcd(stride, limits_.num_blocks) != 1) ++stride;
      CHECK(blocks_used_ < limits_.num_blocks, "the driver is out of blocks");
      sequence.blocks.push_back((blocks_used_++ * stride + 5) % limits_.num_blocks);
    }
    token_ids_.push_back(token);
    positions_.push_back(position);
    slots_.push_back(sequence.blocks[position / limits_.block_size] * limits_.block_size +
                     position % limits_.block_size);
  }
  slice.context_count = sequence.length;
  slice.block_begin = static_cast<uint32_t>(tables_.size());
  tables_.insert(tables_.end(), sequence.blocks.begin(), sequence.blocks.end());
  slices_.push_back(slice);
  for (const uint32_t offset : feed.logit_offsets) logit_rows_.push_back(slice.query_begin + offset);
}

Result<std::span<const float>> ModelDriver::step(std::span<const Feed> feeds) {
  token_ids_.clear(), positions_.clear(), slots_.clear(), tables_.clear(), logit_rows_.clear(), slices_.clear();
  for (const Feed& feed : feeds) append(feed);
  logits_.assign(logit_rows_.size() * runner_.vocabulary_size(), 0.0f);
  Batch batch;
  batch.token_ids = token_ids_, batch.positions = positions_, batch.slot_mapping = slots_;
  batch.sequences = slices_, batch.block_tables = tables_, batch.logit_rows = logit_rows_;
  QUERN_RETURN_IF_ERROR(runner_.forward(batch, logits_, nullptr));
  return std::span<const float>(logits_);
}

RunnerLimits parity_limits(uint32_t block_size) {
  RunnerLimits limits;
  limits.max_num_tokens = 1024, limits.max_num_seqs = 16, limits.max_logit_rows = 128;
  limits.context_length = 512, limits.block_size = block_size;
  limits.num_blocks = 2048 / block_size + 16;
  return limits;
}

uint32_t argmax(std::span<const float> row) {
  return static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace quern::test
