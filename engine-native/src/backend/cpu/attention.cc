#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/mutant.h"

namespace quern::cpu {
namespace {

constexpr uint32_t kSmallestBlock = 8;
constexpr uint32_t kStepBlocks = Attention::kStepTokens / kSmallestBlock;
constexpr uint32_t kStepStrips = Attention::kStepTokens / kStripRows;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// rows x strips of sums; panel(strip, index) is where panel `index` of a strip starts.
struct Product {
  WeightType type;
  uint32_t strips;
  uint32_t num_panels;
  uint32_t k_per_panel;
  uint32_t k_count;
  const float* x;
  size_t x_stride;
  float* acc;
  size_t acc_stride;
  bool accumulate;
};

template <typename Panel>
void multiply(const Kernels& kernels, const Product& p, uint32_t rows, const Panel& panel) {
  const void* panels[kMaxTileStrips * kStepBlocks];
  const uint32_t tiles = (rows + kernels.max_tokens - 1) / kernels.max_tokens;
  const uint32_t widest = (rows + tiles - 1) / tiles;
  TileArgs args;
  args.panels = panels;
  args.num_panels = p.num_panels;
  args.k_per_panel = p.k_per_panel;
  args.k_count = p.k_count;
  args.x_stride = p.x_stride;
  args.acc_token_stride = p.acc_stride;
  args.acc_strip_stride = kStripRows;
  args.accumulate = p.accumulate;
  for (uint32_t strip = 0; strip < p.strips;) {
    const uint32_t wanted = kernels.strips_for_tokens[widest];
    const uint32_t count = p.strips - strip >= wanted ? wanted : 1;
    for (uint32_t i = 0; i < p.num_panels; ++i) {
      for (uint32_t s = 0; s < count; ++s) panels[i * count + s] = panel(strip + s, i);
    }
    for (uint32_t t = 0; t < tiles; ++t) {
      const uint32_t first = rows * t / tiles;
      args.x = p.x + first * p.x_stride;
      args.acc = p.acc + first * p.acc_stride + size_t{strip} * kStripRows;
      kernels.tile[static_cast<int>(p.type)][count][rows * (t + 1) / tiles - first](args);
    }
    strip += count;
  }
}

void prefetch(const std::byte* p, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

}  // namespace

Result<Attention> Attention::create(const AttentionShape& shape, const RunnerLimits& limits, uint32_t threads) {
  Attention a;
  a.num_kv_heads_ = shape.num_kv_heads;
  a.group_ = shape.num_q_heads / shape.num_kv_heads;
  a.head_dim_ = shape.head_dim;
  a.padded_dim_ = static_cast<uint32_t>(round_up(shape.head_dim, kStripRows));
  a.scale_ = shape.attention_scale;
  a.block_size_ = limits.block_size;
  a.tile_queries_ = std::max(1u, kTileRows / a.group_);
  a.rows_max_ = a.tile_queries_ * a.group_;
  a.segments_max_ = (limits.context_length + kSegmentTokens - 1) / kSegmentTokens;
  a.tiles_.reserve(limits.max_num_tokens / a.tile_queries_ + limits.max_num_seqs + 1);
  const size_t state = a.rows_max_ * size_t{a.padded_dim_ + 2};
  const size_t joined = size_t{kStepTokens} * a.head_dim_;
  a.scratch_floats_ = round_up(a.rows_max_ * size_t{a.head_dim_ + kStepTokens} + 2 * state + joined, 1024) + 16;
  Result<MappedMemory> scratch = MappedMemory::allocate(a.scratch_floats_ * threads * sizeof(float), "attention scratch");
  if (!scratch.ok()) return scratch.status();
  a.scratch_ = std::move(*scratch);
  // Segments are shared out only where tiles alone would leave threads idle: fewer than two per thread.
  a.state_floats_ = a.group_ * size_t{a.padded_dim_ + 2};
  a.stored_max_ = 2 * threads * a.segments_max_;
  Result<MappedMemory> stored =
      MappedMemory::allocate(a.state_floats_ * a.stored_max_ * sizeof(float), "attention partial results");
  if (!stored.ok()) return stored.status();
  a.stored_ = std::move(*stored);
  return a;
}

void Attention::plan(const Batch& batch) {
  block_tables_ = batch.block_tables;
  tiles_.clear();
  all_single_ = true;
  for (const SequenceSlice& slice : batch.sequences) {
    for (uint32_t i = 0; i < slice.query_count; i += tile_queries_) {
      const uint32_t queries = std::min(tile_queries_, slice.query_count - i);
      CHECK(tiles_.size() < tiles_.capacity(), "a batch exceeds the limits that the attention was sized for");
      tiles_.push_back({slice.query_begin + i, queries, slice.context_count - slice.query_count + i, slice.block_begin});
      all_single_ &= queries == 1;
    }
  }
}

Attention::Scratch Attention::scratch(uint32_t thread) const {
  float* p = scratch_.as<float>() + thread * scratch_floats_;
  const auto take = [&p](size_t floats) { return std::exchange(p, p + floats); };
  Scratch s{};
  s.strips = reinterpret_cast<std::byte*>(take(size_t{kStepTokens} * head_dim_));
  s.scores = take(size_t{rows_max_} * kStepTokens);
  for (State* state : {&s.total, &s.part}) {
    state->out = take(size_t{rows_max_} * padded_dim_);
    state->max = take(rows_max_);
    state->sum = take(rows_max_);
  }
  s.q = take(size_t{rows_max_} * head_dim_);
  return s;
}

Attention::State Attention::stored(uint32_t item) const {
  float* p = stored_.as<float>() + item * state_floats_;
  return {p + size_t{group_} * padded_dim_, p + size_t{group_} * (padded_dim_ + 1), p};
}

uint32_t Attention::segments(const Tile& tile) const {
  return (tile.context_before + tile.queries + kSegmentTokens - 1) / kSegmentTokens;
}

void Attention::load_queries(const Call& call, const Tile& tile, uint32_t head, const Scratch& s) const {
  for (uint32_t i = 0; i < tile.queries; ++i) {
    const float* in = call.qkv.data + (tile.row + i) * call.qkv.stride + size_t{head} * group_ * head_dim_;
    call.kernels.scale_row(in, scale_, group_ * head_dim_, s.q + size_t{i} * group_ * head_dim_);
  }
}

// scores[row][token] for the step's tokens.
void Attention::score(const Call& call, const Tile& tile, uint32_t head, const Step& step, const Scratch& s) const {
  const KvShape& shape = call.cache.shape();
  const size_t element = weight_size(shape.type);
  const uint32_t strips = (step.tokens + kStripRows - 1) / kStripRows;
  const uint32_t first_row = step.first_query * group_;
  const uint32_t* blocks = block_tables_.data() + tile.block_begin;
  const std::byte* starts[kStepStrips];
  for (uint32_t i = 0; i < strips; ++i) {
    const uint32_t token = step.begin + i * kStripRows;
    if (block_size_ >= kStripRows) {
      starts[i] = call.cache.k_block(call.layer, blocks[token / block_size_], head) +
                  size_t{token % block_size_} * head_dim_ * element;
      continue;
    }
    // Two half strips side by side. The second may not exist; then its lanes are not looked at.
    constexpr size_t row_bytes = size_t{kSmallestBlock} * 4;  // of one k in fp32, of a pair in bf16
    const size_t num_rows = size_t{kSmallestBlock} * head_dim_ * element / row_bytes;
    std::byte* joined = s.strips + i * kStripRows * head_dim_ * element;
    for (uint32_t half = 0; half < 2 && token + half * kSmallestBlock < step.begin + step.tokens; ++half) {
      const std::byte* in = call.cache.k_block(call.layer, blocks[token / kSmallestBlock + half], head);
      for (size_t r = 0; r < num_rows; ++r) std::memcpy(joined + (2 * r + half) * row_bytes, in + r * row_bytes, row_bytes);
    }
    starts[i] = joined;
  }
  const Product product{.type = shape.type, .strips = strips, .num_panels = 1, .k_per_panel = 0, .k_count = head_dim_,
                        .x = s.q + size_t{first_row} * head_dim_, .x_stride = head_dim_,
                        .acc = s.scores + size_t{first_row} * kStepTokens, .acc_stride = kStepTokens, .accumulate = false};
  multiply(call.kernels, product, tile.queries * group_ - first_row,
           [&](uint32_t strip, uint32_t) -> const void* { return starts[strip]; });
}

// out[row] += scores[row] V over the step's tokens.
void Attention::weigh(const Call& call, const Tile& tile, uint32_t head, const Step& step, const Scratch& s,
                      State state) const {
  const KvShape& shape = call.cache.shape();
  const size_t strip_bytes = size_t{kStripRows} * block_size_ * weight_size(shape.type);
  const uint32_t num_blocks = (step.tokens + block_size_ - 1) / block_size_;
  const uint32_t first_row = step.first_query * group_;
  const uint32_t* blocks = block_tables_.data() + tile.block_begin + step.begin / block_size_;
  const Product product{.type = shape.type, .strips = padded_dim_ / kStripRows, .num_panels = num_blocks,
                        .k_per_panel = block_size_, .k_count = step.tokens,
                        .x = s.scores + size_t{first_row} * kStepTokens, .x_stride = kStepTokens,
                        .acc = state.out + size_t{first_row} * padded_dim_, .acc_stride = padded_dim_, .accumulate = true};
  multiply(call.kernels, product, tile.queries * group_ - first_row, [&](uint32_t strip, uint32_t i) -> const void* {
    return call.cache.v_block(call.layer, blocks[i], head) + strip * strip_bytes;
  });
}

void Attention::attend_segment(const Call& call, const Tile& tile, uint32_t head, uint32_t segment, const Scratch& s,
                               State state) const {
  const uint32_t rows = tile.queries * group_;
  const uint32_t segment_begin = segment * kSegmentTokens;
  const uint32_t end = std::min(segment_begin + kSegmentTokens, tile.context_before + tile.queries);
  std::fill_n(state.max, rows, -INFINITY);
  std::fill_n(state.sum, rows, 0.0f);
  std::fill_n(state.out, size_t{rows} * padded_dim_, 0.0f);
  for (uint32_t begin = segment_begin; begin < end; begin += kStepTokens) {
    const uint32_t first_query = begin > tile.context_before ? begin - tile.context_before : 0;
    const Step step{begin, std::min(kStepTokens, end - begin), first_query};
    for (uint32_t token = begin + kStepTokens; token < std::min(begin + 2 * kStepTokens, end); token += block_size_) {
      const uint32_t block = block_tables_[tile.block_begin + token / block_size_];
      const KvShape& shape = call.cache.shape();
      prefetch(call.cache.k_block(call.layer, block, head), (shape.k_elements() + shape.v_elements()) * weight_size(shape.type));
    }
    score(call, tile, head, step, s);
    for (uint32_t query = first_query; query < tile.queries; ++query) {
      const uint32_t seen = mutant(9) ? tile.context_before + tile.queries : tile.context_before + query + 1;
      const uint32_t valid = std::min(step.tokens, seen - begin);
      for (uint32_t row = query * group_; row < (query + 1) * group_; ++row) {
        call.kernels.softmax_step({.scores = s.scores + size_t{row} * kStepTokens,
                                   .strips = (step.tokens + kStripRows - 1) / kStripRows,
                                   .valid = valid,
                                   .max = state.max + row,
                                   .sum = state.sum + row,
                                   .out = state.out + size_t{row} * padded_dim_,
                                   .dims = padded_dim_});
      }
    }
    weigh(call, tile, head, step, s, state);
  }
}

void Attention::merge(const Kernels& kernels, const Tile& tile, uint32_t segment, State total, State part) const {
  const uint32_t begin = segment * kSegmentTokens;
  const uint32_t first_query = begin > tile.context_before ? begin - tile.context_before : 0;
  for (uint32_t row = first_query * group_; row < tile.queries * group_; ++row) {
    kernels.softmax_merge(total.max + row, total.sum + row, total.out + size_t{row} * padded_dim_, part.max[row],
                          part.sum[row], part.out + size_t{row} * padded_dim_, padded_dim_);
  }
}

void Attention::finish(const Call& call, const Tile& tile, uint32_t head, State total) const {
  for (uint32_t row = 0; row < tile.queries * group_; ++row) {
    const size_t column = (size_t{head} * group_ + row % group_) * head_dim_;
    float* out = call.out.data + (tile.row + row / group_) * call.out.stride + column;
    call.kernels.scale_row(total.out + size_t{row} * padded_dim_, 1.0f / total.sum[row], head_dim_, out);
  }
}

void Attention::attend_tile(const Call& call, const Tile& tile, uint32_t head, const Scratch& s) const {
  load_queries(call, tile, head, s);
  attend_segment(call, tile, head, 0, s, s.total);
  for (uint32_t segment = 1; segment < segments(tile); ++segment) {
    attend_segment(call, tile, head, segment, s, s.part);
    merge(call.kernels, tile, segment, s.total, s.part);
  }
  finish(call, tile, head, s.total);
}

// A decode step with few sequences: segments are the unit of work, joined afterwards in the same order.
void Attention::run_split(ThreadPool& pool, WorkShares& shares, const Call& call) {
  const uint32_t num_tiles = static_cast<uint32_t>(tiles_.size());
  uint32_t most = 0;
  for (const Tile& tile : tiles_) most = std::max(most, segments(tile));
  shares.reset(num_tiles * num_kv_heads_ * most, 1);
  pool.run([&](uint32_t thread) {
    const Scratch s = scratch(thread);
    for (uint32_t item = 0, end = 0; shares.next(thread, &item, &end);) {
      const uint32_t segment = item % most, head = item / most % num_kv_heads_;
      const Tile& tile = tiles_[item / most / num_kv_heads_];
      if (segment >= segments(tile)) continue;
      load_queries(call, tile, head, s);
      attend_segment(call, tile, head, segment, s, stored(item));
    }
  });
  for (uint32_t i = 0; i < num_tiles * num_kv_heads_; ++i) {
    const Tile& tile = tiles_[i / num_kv_heads_];
    const State total = stored(i * most);
    for (uint32_t segment = 1; segment < segments(tile); ++segment) {
      merge(call.kernels, tile, segment, total, stored(i * most + segment));
    }
    finish(call, tile, i % num_kv_heads_, total);
  }
}

void Attention::run(ThreadPool& pool, WorkShares& shares, const Kernels& kernels, const KvCache& cache, uint32_t layer,
                    RowsIn qkv, RowsOut out) {
  const Call call{kernels, cache, layer, qkv, out};
  const uint32_t items = static_cast<uint32_t>(tiles_.size()) * num_kv_heads_;
  uint32_t most = 0;
  for (const Tile& tile : tiles_) most = std::max(most, segments(tile));
  if (all_single_ && items < 2 * pool.size() && most > 1) return run_split(pool, shares, call);
  if (items == 1) {
    attend_tile(call, tiles_[0], 0, scratch(0));
    return;
  }
  shares.reset(items, 1);
  pool.run([&](uint32_t thread) {
    const Scratch s = scratch(thread);
    for (uint32_t item = 0, end = 0; shares.next(thread, &item, &end);) {
      attend_tile(call, tiles_[item / num_kv_heads_], item % num_kv_heads_, s);
    }
  });
}

}  // namespace quern::cpu
