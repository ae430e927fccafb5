// A fake model for the step loop: KV slots hold token ids, logits are a hash of the whole prefix read through the block
// table. A stale, foreign or unwritten block changes the output, so equal outputs prove that the loop keeps the cache
// right. Also a recorder of the engine's callbacks.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine_loop.h"
#include "test.h"

namespace quern::test {

inline constexpr uint32_t kFakeVocabulary = 96;  // of which the last six are padding
inline constexpr uint32_t kFakeIds = 90;
inline constexpr uint32_t kFakeEos = 0;

// What one row of the fake model's logits looks like after a prefix.
inline void fake_logits(uint64_t prefix_hash, std::span<float> row) {
  uint64_t state = prefix_hash;
  for (uint32_t i = 0; i < kFakeVocabulary; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    row[i] = static_cast<float>(state >> 40) / static_cast<float>(1 << 22);  // 0..4
  }
  row[kFakeEos] = -50.0f;      // EOS does not come by chance
  row[kFakeVocabulary - 1] = 99.0f;  // padding must never win
}

inline uint64_t hash_step(uint64_t hash, uint32_t token) { return (hash ^ token) * 0x100000001b3ULL + 0x9e3779b9; }

class FakeRunner final : public ModelRunner {
 public:
  explicit FakeRunner(const RunnerLimits& limits)
      : limits_(limits), kv_(size_t{limits.num_blocks} * limits.block_size, UINT32_MAX) {}

  uint32_t vocabulary_size() const override { return kFakeVocabulary; }

  Status forward(const Batch& batch, std::span<float> logits, const std::atomic<bool>* interrupt) override {
    ++steps;
    if (before_step) {
      const Status status = before_step(batch, interrupt);
      if (!status.ok()) return status;
    }
    if (batch.token_ids.size() > limits_.max_num_tokens || batch.sequences.size() > limits_.max_num_seqs ||
        batch.logit_rows.size() > limits_.max_logit_rows) {
      return internal_error("batch exceeds its limits");
    }
    for (size_t i = 0; i < batch.token_ids.size(); ++i) kv_[batch.slot_mapping[i]] = batch.token_ids[i];
    size_t row = 0;
    for (const SequenceSlice& slice : batch.sequences) {
      uint64_t hash = 7;
      const uint32_t first_new = slice.context_count - slice.query_count;
      for (uint32_t p = 0; p < slice.context_count; ++p) {
        const uint32_t block = batch.block_tables[slice.block_begin + p / limits_.block_size];
        hash = hash_step(hash, kv_[size_t{block} * limits_.block_size + p % limits_.block_size]);
        if (p < first_new) continue;
        const uint32_t index = slice.query_begin + p - first_new;
        if (batch.positions[index] != p) return internal_error("wrong position");
        if (row < batch.logit_rows.size() && batch.logit_rows[row] == index) {
          fake_logits(hash, logits.subspan(row * kFakeVocabulary, kFakeVocabulary));
          ++row;
        }
      }
    }
    if (row != batch.logit_rows.size()) return internal_error("logit rows out of order");
    if (after_step) after_step(batch, logits);
    return Status();
  }

  std::function<Status(const Batch&, const std::atomic<bool>*)> before_step;
  std::function<void(const Batch&, std::span<float>)> after_step;
  std::atomic<uint64_t> steps{0};

 private:
  RunnerLimits limits_;
  std::vector<uint32_t> kv_;
};

// What the fake model continues a prompt with, greedily.
inline std::vector<uint32_t> fake_greedy(const std::vector<uint32_t>& prompt, uint32_t count) {
  uint64_t hash = 7;
  for (uint32_t token : prompt) hash = hash_step(hash, token);
  std::vector<uint32_t> out;
  std::vector<float> row(kFakeVocabulary);
  for (uint32_t i = 0; i < count; ++i) {
    fake_logits(hash, row);
    out.push_back(static_cast<uint32_t>(std::max_element(row.begin(), row.begin() + kFakeIds) - row.begin()));
    hash = hash_step(hash, out.back());
  }
  return out;
}

struct Finish {
  FinishedOut event;  // its spans are dead
  std::vector<ChoiceEnd> choices;
};

// Gathers what the engine says, by request id.
class Recorder {
 public:
  void operator()(const StepOut& step) {
    std::lock_guard lock(mutex);
    ++callbacks;
    for (const TokenOut& token : step.tokens) {
      if (finished.contains(token.id)) fail(__FILE__, __LINE__, "a token after Finished");
      tokens[{token.id, token.choice}].push_back(token.token_id);
      auto& list = logprobs[{token.id, token.choice}];
      list.emplace_back(token.logprobs.begin(), token.logprobs.end());
    }
    for (const PromptLogprobsOut& prompt : step.prompt_logprobs) {
      if (prompts.contains(prompt.id)) fail(__FILE__, __LINE__, "prompt logprobs came twice");
      prompts[prompt.id] = {{prompt.entries.begin(), prompt.entries.end()}, {prompt.counts.begin(), prompt.counts.end()}};
    }
    for (const FinishedOut& end : step.finished) {
      if (finished.contains(end.id)) fail(__FILE__, __LINE__, "Finished came twice");
      finished[end.id] = {end, {end.choices.begin(), end.choices.end()}};
    }
    changed.notify_all();
  }

  // False after ten seconds.
  template <typename Predicate>
  bool wait(Predicate predicate) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(10), predicate);
  }
  bool wait_finished(uint64_t id) {
    return wait([&] { return finished.contains(id); });
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<uint64_t, uint32_t>, std::vector<uint32_t>> tokens;
  std::map<std::pair<uint64_t, uint32_t>, std::vector<std::vector<Logprob>>> logprobs;
  std::map<uint64_t, std::pair<std::vector<Logprob>, std::vector<uint32_t>>> prompts;
  std::map<uint64_t, Finish> finished;
  uint64_t callbacks = 0;
};

struct FakeEngineOptions {
  uint32_t num_blocks = 64;
  uint32_t block_size = 4;
  uint32_t max_num_seqs = 4;
  uint32_t max_num_tokens = 32;
  uint32_t max_waiting = 64;
  bool prefix_cache = true;
};

// Engine + fake model + recorder. Configure `runner` before start().
class FakeEngine {
 public:
  explicit FakeEngine(FakeEngineOptions options = {}) : options_(options) {
    limits_.max_num_tokens = options.max_num_tokens;
    limits_.max_num_seqs = options.max_num_seqs;
    limits_.max_logit_rows = options.max_num_seqs + 6;
    limits_.context_length = options.num_blocks * options.block_size;
    limits_.block_size = options.block_size;
    limits_.num_blocks = options.num_blocks;
    owned_ = std::make_unique<FakeRunner>(limits_);
    runner = owned_.get();
  }

  void start() {
    EngineParts parts;
    parts.runner = std::move(owned_);
    parts.limits = limits_;
    parts.num_ids = kFakeIds;
    parts.info.eos_token_ids = {kFakeEos};
    parts.info.max_waiting = options_.max_waiting;
    parts.prefix_cache = options_.prefix_cache;
    parts.check_integrity = counts_allocations() == false || check_integrity;
    engine = make_engine(std::move(parts), [this](const StepOut& step) { recorder(step); });
  }

  bool check_integrity = true;
  FakeRunner* runner = nullptr;
  Recorder recorder;
  std::unique_ptr<Engine> engine;

 private:
  FakeEngineOptions options_;
  RunnerLimits limits_;
  std::unique_ptr<FakeRunner> owned_;
};

inline Request greedy_request(uint64_t id, std::vector<uint32_t> prompt, uint32_t max_tokens) {
  Request request;
  request.id = id;
  request.token_ids = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.tenant = "local";
  return request;
}

inline std::vector<uint32_t> fake_prompt(uint32_t length, uint32_t seed) {
  std::vector<uint32_t> out(length);
  for (uint32_t i = 0; i < length; ++i) out[i] = 1 + (seed * 37 + i * 11) % (kFakeIds - 1);
  return out;
}

}  // namespace quern::test
