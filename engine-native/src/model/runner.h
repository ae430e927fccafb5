// The seam between the step loop and the model: one batch of tokens in, logits out.
//
// The engine (engine/) builds a Batch from what the scheduler chose and calls forward() once per step. The transformer
// over a Backend implements it (model/transformer.h); tests of the loop implement it with a fake.
//
// Thread safety: all calls come from the engine thread, but `interrupt` may be set by any thread.
// Invariants: forward() allocates nothing; a row of logits depends only on its own sequence's tokens (no result may
// depend on who shares the batch).
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace quern {

// One sequence's share of a batch. Its new tokens are token_ids[query_begin, query_begin + query_count); their K and V
// are written before attention reads them. It attends to context_count tokens (those included), found through
// block_tables[block_begin, ...): ceil(context_count / block_size) entries.
struct SequenceSlice {
  uint32_t query_begin = 0;
  uint32_t query_count = 0;
  uint32_t context_count = 0;
  uint32_t block_begin = 0;
};

// Borrowed views of arrays that the engine owns and sized at load. Everything is integers.
struct Batch {
  std::span<const uint32_t> token_ids;       // [num_tokens]
  std::span<const uint32_t> positions;       // [num_tokens] 0-based position in its sequence
  std::span<const uint32_t> slot_mapping;    // [num_tokens] block * block_size + offset: where this token's K and V go
  std::span<const SequenceSlice> sequences;  // [num_seqs], slices tile token_ids in order
  std::span<const uint32_t> block_tables;    // flattened, see SequenceSlice
  std::span<const uint32_t> logit_rows;      // [num_logit_rows] indices into token_ids, ascending
};

// Bounds fixed at load; a batch never exceeds them.
struct RunnerLimits {
  uint32_t max_num_tokens = 0;  // per batch (token budget)
  uint32_t max_num_seqs = 0;    // per batch
  uint32_t max_logit_rows = 0;  // per batch
  uint32_t context_length = 0;  // tokens per sequence
  uint32_t block_size = 16;     // tokens per KV block
  uint32_t num_blocks = 0;      // KV blocks in the pool
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual uint32_t vocabulary_size() const = 0;  // columns of a logits row

  // Runs the batch; fills logits [num_logit_rows, vocabulary_size] fp32 in host memory, row i for logit_rows[i].
  // When *interrupt becomes true it may return early with Code::kCancelled, leaving KV slots of this batch undefined.
  virtual Status forward(const Batch& batch, std::span<float> logits, const std::atomic<bool>* interrupt) = 0;
};

}  // namespace quern
