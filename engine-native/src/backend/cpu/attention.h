// Causal attention over the paged KV cache, for decode and prefill alike.
//
//   out = softmax(q K^T * scale) V, per query row, over the tokens up to and including its own
//
// One KV head's group of query heads shares each read of K and V: a tile is up to kTileRows rows of (query, head of
// the group). Tokens are taken kStepTokens at a time by online softmax, in segments of kSegmentTokens that are joined
// in order. Steps and segments are fixed lengths counted from token 0, and every row's arithmetic is its own, so a row
// has the same bits whether it comes alone, in a chunk or in a batch, and however many threads share the segments.
//
// Bytes moved: K and V of the context once per tile. Bound: decode by memory bandwidth, prefill by the FMA ports.
//
// Thread safety: plan() and run() from the engine thread. Invariant: neither allocates.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_cache.h"
#include "backend/cpu/packed_matrix.h"
#include "backend/cpu/thread_pool.h"

namespace quern::cpu {

class Attention {
 public:
  static constexpr uint32_t kStepTokens = 64;
  static constexpr uint32_t kSegmentTokens = 512;
  static constexpr uint32_t kTileRows = 64;

  // Error: no memory for the workspaces.
  static Result<Attention> create(const AttentionShape& shape, const RunnerLimits& limits, uint32_t threads);

  // Once per step: cuts the batch's sequences into tiles. The batch must live until the step's last run().
  void plan(const Batch& batch);
  void run(ThreadPool& pool, WorkShares& shares, const Kernels& kernels, const KvCache& cache, uint32_t layer, RowsIn qkv,
           RowsOut out);

 private:
  struct Tile {
    uint32_t row;             // first query in the batch
    uint32_t queries;
    uint32_t context_before;  // tokens of the sequence before the first query
    uint32_t block_begin;     // into block_tables
  };
  // Running softmax of a tile's rows.
  struct State {
    float* max;  // [rows]
    float* sum;  // [rows]
    float* out;  // [rows][padded_dim]
  };
  struct Call {
    const Kernels& kernels;
    const KvCache& cache;
    uint32_t layer;
    RowsIn qkv;
    RowsOut out;
  };
  struct Scratch {
    float* q;          // [rows][head_dim], scaled
    float* scores;     // [rows][kStepTokens]
    State total;
    State part;
    std::byte* strips; // joined K strips of blocks below 16 tokens
  };
  struct Step {
    uint32_t begin;       // first token
    uint32_t tokens;      // <= kStepTokens
    uint32_t first_query; // queries before it see nothing of this step
  };

  Attention() = default;
  Scratch scratch(uint32_t thread) const;
  State stored(uint32_t item) const;
  uint32_t segments(const Tile& tile) const;
  void load_queries(const Call& call, const Tile& tile, uint32_t head, const Scratch& s) const;
  void attend_segment(const Call& call, const Tile& tile, uint32_t head, uint32_t segment, const Scratch& s, State state) const;
  void score(const Call& call, const Tile& tile, uint32_t head, const Step& step, const Scratch& s) const;
  void weigh(const Call& call, const Tile& tile, uint32_t head, const Step& step, const Scratch& s, State state) const;
  void merge(const Kernels& kernels, const Tile& tile, uint32_t segment, State total, State part) const;
  void finish(const Call& call, const Tile& tile, uint32_t head, State total) const;
  void attend_tile(const Call& call, const Tile& tile, uint32_t head, const Scratch& s) const;
  void run_split(ThreadPool& pool, WorkShares& shares, const Call& call);

  uint32_t group_ = 1;  // query heads per KV head
  uint32_t num_kv_heads_ = 0;
  uint32_t head_dim_ = 0;
  uint32_t padded_dim_ = 0;
  float scale_ = 0;
  uint32_t block_size_ = 0;
  uint32_t tile_queries_ = 1;
  uint32_t rows_max_ = 0;
  uint32_t segments_max_ = 0;
  std::vector<Tile> tiles_;  // capacity fixed at create
  bool all_single_ = false;  // every tile is one query: a decode step
  std::span<const uint32_t> block_tables_;
  size_t scratch_floats_ = 0;
  size_t state_floats_ = 0;  // of one stored partial result
  uint32_t stored_max_ = 0;
  MappedMemory scratch_;
  MappedMemory stored_;
};

}  // namespace quern::cpu
