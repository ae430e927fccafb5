// Drives a Scheduler on a virtual clock with a fake model. The fake KV cache stores token ids by slot, so a step that
// reads a stale, foreign or unwritten block is seen at once; the next token is a hash of the whole prefix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/block_pool.h"
#include "cache/prefix_hasher.h"
#include "sched/scheduler.h"
#include "test.h"

namespace quern::test {

inline constexpr uint64_t kMs = 1'000'000;

inline uint32_t next_token(std::span<const uint32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (uint32_t token : tokens) hash = (hash ^ token) * 0x100000001b3ULL;
  return static_cast<uint32_t>((hash >> 20) % 1000);
}

struct Spec {
  std::vector<uint32_t> prompt;
  uint32_t max_tokens = 4;
  uint32_t tenant = 0;
  uint8_t priority_class = 3;
  int32_t priority = 0;
  uint64_t timeout_ns = 0;  // 0 = none
  uint64_t supersede = 0;
  uint32_t n = 1;
  bool prompt_logprobs = false;
};

inline std::vector<uint32_t> prompt_of(uint32_t length, uint32_t seed) {
  std::vector<uint32_t> out(length);
  for (uint32_t i = 0; i < length; ++i) out[i] = (seed * 7919 + i * 31) % 1000;
  return out;
}

// What a lone sequence would generate.
inline std::vector<uint32_t> expected_output(std::vector<uint32_t> tokens, uint32_t count) {
  const size_t prompt = tokens.size();
  for (uint32_t i = 0; i < count; ++i) tokens.push_back(next_token(tokens));
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt), tokens.end()};
}

class Simulation {
 public:
  struct End {
    EndCause cause;
    uint64_t at_ns;
    std::vector<uint32_t> output;
    uint64_t wait_ns;  // to the first scheduled step; UINT64_MAX when never
    uint32_t preemptions, cached;
  };

  explicit Simulation(SchedulerOptions options, uint32_t num_blocks)
      : options_(options), pool_(num_blocks), hasher_(Hash128{11, 22}), scheduler_(options, &pool_, &hasher_),
        kv_(size_t{num_blocks} * options.block_size, UINT32_MAX) {}

  uint64_t submit(const Spec& spec) {
    const uint64_t id = next_id_++;
    auto choices = std::make_unique<std::vector<Sequence>>(spec.n);
    for (uint32_t c = 0; c < spec.n; ++c) {
      Sequence& s = (*choices)[c];
      s.request_id = id;
      s.choice = c;
      s.tenant = spec.tenant;
      s.priority_class = spec.priority_class;
      s.priority = spec.priority;
      s.arrival = next_arrival_++;
      s.arrival_ns = now_ns;
      if (spec.timeout_ns != 0) s.deadline_ns = now_ns + spec.timeout_ns;
      s.supersede = Hash128{spec.supersede, 0};
      s.salt = hasher_.salt(std::to_string(spec.tenant), "");
      s.prompt_logprobs = spec.prompt_logprobs && c == 0;
      s.leader = c > 0 ? &choices->front() : nullptr;
      s.tokens = spec.prompt;
      s.prompt_count = static_cast<uint32_t>(spec.prompt.size());
      s.token_limit = s.prompt_count + spec.max_tokens;
      s.tokens.reserve(s.token_limit);
    }
    live_[id] = std::move(choices);
    scheduler_.add(*live_[id], now_ns);
    collect();
    return id;
  }

  void cancel(uint64_t id) {
    scheduler_.cancel(id, EndCause::kCancelled);
    collect();
  }

  // One step; false when nothing ran. The step takes fixed_ns + token_ns per token of virtual time.
  bool step() {
    const auto plan = scheduler_.schedule(now_ns);
    collect();
    last_plan.assign(plan.begin(), plan.end());
    if (plan.empty()) return false;
    check_plan();
    uint64_t tokens = 0;
    for (const PlannedSlice& slice : last_plan) {
      tokens += slice.count;
      run(slice);
    }
    const uint64_t step_ns = fixed_ns + tokens * token_ns;
    now_ns += step_ns;
    scheduler_.commit(step_ns);
    for (const PlannedSlice& slice : last_plan) {
      Sequence* s = slice.sequence;
      if (slice.samples) {
        s->tokens.push_back(next_token(s->tokens));
        if (s->first_token_ns == 0) s->first_token_ns = now_ns;
      }
      if (!s->samples() && s->remaining_count() <= (slice.samples ? 1u : 0u)) scheduler_.finish(s, EndCause::kFinished);
    }
    collect();
    const std::string violation = scheduler_.check_integrity();
    if (!violation.empty()) fail(__FILE__, __LINE__, violation);
    return true;
  }

  void run_until_idle(int steps_max = 100000) {
    while (!live_.empty() && steps_max-- > 0) {
      if (!step() && !live_.empty()) fail(__FILE__, __LINE__, "live sequences, but nothing was planned");
    }
    EXPECT(live_.empty());
  }

  Scheduler& scheduler() { return scheduler_; }
  BlockPool& pool() { return pool_; }
  bool is_live(uint64_t id) const { return live_.contains(id); }
  const Sequence& sequence(uint64_t id) const { return live_.at(id)->front(); }
  size_t live_count() const { return live_.size(); }

  uint64_t now_ns = 1000 * kMs;
  uint64_t fixed_ns = 2 * kMs;
  uint64_t token_ns = kMs / 10;
  std::map<std::pair<uint64_t, uint32_t>, End> ends;  // by id and choice
  std::vector<PlannedSlice> last_plan;

 private:
  void check_plan() {
    uint32_t tokens = 0, rows = 0;
    for (const PlannedSlice& slice : last_plan) {
      tokens += slice.count;
      rows += slice.row_count;
      if (slice.begin != slice.sequence->computed_count) fail(__FILE__, __LINE__, "slice does not start at computed_count");
      if (slice.row_begin + slice.row_count > slice.begin + slice.count && slice.row_count > 0)
        fail(__FILE__, __LINE__, "logit rows beyond the slice");
      if (slice.row_count > 0 && slice.row_begin < slice.begin) fail(__FILE__, __LINE__, "logit rows before the slice");
    }
    EXPECT_LE(tokens, options_.max_num_batched_tokens);
    EXPECT_LE(rows, options_.max_logit_rows);
    EXPECT_LE(last_plan.size(), size_t{options_.max_num_seqs});
  }

  void run(const PlannedSlice& slice) {
    const Sequence& s = *slice.sequence;
    const auto slot = [&](uint32_t i) {
      return size_t{s.block_table[i / options_.block_size]} * options_.block_size + i % options_.block_size;
    };
    for (uint32_t i = slice.begin; i < slice.begin + slice.count; ++i) kv_[slot(i)] = s.tokens[i];
    for (uint32_t i = 0; i < slice.begin + slice.count; ++i) {
      if (kv_[slot(i)] != s.tokens[i]) {
        fail(__FILE__, __LINE__, "request " + std::to_string(s.request_id) + " reads a wrong token at position " + std::to_string(i));
        return;
      }
    }
  }

  void collect() {
    for (const EndedSequence& ended : scheduler_.ended()) {
      const Sequence& s = *ended.sequence;
      const auto key = std::make_pair(s.request_id, s.choice);
      if (ends.contains(key)) fail(__FILE__, __LINE__, "a sequence ended twice");
      ends[key] = {ended.cause, now_ns, {s.tokens.begin() + s.prompt_count, s.tokens.end()},
                   s.admitted_once ? s.first_scheduled_ns - s.arrival_ns : UINT64_MAX, s.preemptions, s.cached_count};
    }
    scheduler_.clear_ended();
    for (auto it = live_.begin(); it != live_.end();) {
      const bool over = std::all_of(it->second->begin(), it->second->end(),
                                    [](const Sequence& s) { return s.state == SequenceState::kEnded; });
      if (over) over_.push_back(std::move(it->second));
      it = over ? live_.erase(it) : std::next(it);
    }
  }

  SchedulerOptions options_;
  BlockPool pool_;
  PrefixHasher hasher_;
  Scheduler scheduler_;
  std::vector<uint32_t> kv_;  // token id by slot
  std::map<uint64_t, std::unique_ptr<std::vector<Sequence>>> live_;
  std::vector<std::unique_ptr<std::vector<Sequence>>> over_;  // kept: last_plan may point to them
  uint64_t next_id_ = 1, next_arrival_ = 1;
};

// Limits that a few requests fill.
inline SchedulerOptions small_options() {
  SchedulerOptions options;
  options.block_size = 4;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.max_logit_rows = 12;
  options.max_live_sequences = 512;
  options.max_tenants = 16;
  return options;
}

inline Spec spec(std::vector<uint32_t> prompt, uint32_t max_tokens, uint32_t tenant = 0, uint8_t priority_class = 3) {
  Spec out;
  out.prompt = std::move(prompt);
  out.max_tokens = max_tokens;
  out.tenant = tenant;
  out.priority_class = priority_class;
  return out;
}

}  // namespace quern::test
