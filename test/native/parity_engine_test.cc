// The whole engine against transformers: scheduler, chunked prefill, prefix cache and preemption must not change a
// token.
#include <condition_variable>
#include <map>
#include <mutex>

#include "engine/engine.h"
#include "parity_fixture.h"
#include "reference_backend.h"
#include "test.h"

namespace quern::test {
namespace {

struct Finished {
  std::vector<uint32_t> token_ids;
  FinishReason reason = FinishReason::kError;
  uint32_t cached_tokens = 0, preemptions = 0, prefill_chunks = 0;
  bool done = false;
};

// Collects what the engine says; wait() blocks until `count` requests have finished or 60 s have passed.
class Collector {
 public:
  Engine::StepCallback callback() {
    return [this](const StepOut& step) {
      std::lock_guard lock(mutex_);
      for (const TokenOut& token : step.tokens) requests_[token.id].token_ids.push_back(token.token_id);
      for (const FinishedOut& end : step.finished) {
        Finished& request = requests_[end.id];
        EXPECT(!request.done);
        EXPECT_OK(end.status);
        request.done = true;
        request.reason = end.choices.empty() ? FinishReason::kError : end.choices[0].reason;
        request.cached_tokens = end.cached_tokens, request.preemptions = end.preemptions;
        request.prefill_chunks = end.prefill_chunks;
        ++finished_;
      }
      changed_.notify_all();
    };
  }
  bool wait(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return finished_ >= count; });
  }
  Finished take(uint64_t id) {
    std::lock_guard lock(mutex_);
    return requests_[id];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Finished> requests_;
  size_t finished_ = 0;
};

// One engine over a fixture's model.
struct Served {
  Fixture fixture;
  Collector collector;
  std::unique_ptr<Engine> engine;  // closed before the collector goes
  uint64_t next_id = 1;
  size_t expected = 0;

  // Submits all prompts at once and waits. Returns what came, by prompt.
  std::vector<Finished> run_all() {
    std::vector<uint64_t> ids;
    for (const FixturePrompt& prompt : fixture.prompts) {
      Request request;
      request.id = next_id++;
      request.token_ids = prompt.ids;
      request.sampling.max_tokens = static_cast<uint32_t>(prompt.greedy_ids.size());
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      request.tenant = "local";
      EXPECT_OK(engine->submit(request));
      ids.push_back(request.id);
    }
    expected += ids.size();
    EXPECT(collector.wait(expected));
    std::vector<Finished> results;
    for (const uint64_t id : ids) results.push_back(collector.take(id));
    return results;
  }
};

Result<std::unique_ptr<Served>> serve(const std::string& family, const std::string& backend, EngineOptions options) {
  auto served = std::make_unique<Served>();
  Result<Fixture> fixture = read_fixture(family);
  QUERN_RETURN_IF_ERROR(fixture.status());
  served->fixture = std::move(*fixture);
  Result<std::string> folder = write_fixture_model(served->fixture, DType::kBF16);
  QUERN_RETURN_IF_ERROR(folder.status());
  options.model_dir = *folder;
  options.dtype = "f32";
  options.backend = backend.starts_with("cpu") ? "cpu" : "cuda";
  if (backend.starts_with("cpu:")) options.isa = backend.substr(4);
  if (options.kv_bytes == 0) options.kv_bytes = 16 << 20;
  Result<std::unique_ptr<Engine>> engine = Engine::open(options, served->collector.callback());
  QUERN_RETURN_IF_ERROR(engine.status());
  served->engine = std::move(*engine);
  return served;
}

void expect_tokens(const Fixture& fixture, const std::vector<Finished>& results, const std::string& where) {
  for (size_t i = 0; i < results.size(); ++i) {
    const std::string label = where + ", prompt of " + std::to_string(fixture.prompts[i].ids.size());
    EXPECT_MSG(results[i].done && results[i].reason == FinishReason::kLength, label + ": no proper end");
    EXPECT_MSG(results[i].token_ids == fixture.prompts[i].greedy_ids, label + ": tokens differ");
  }
}

// Engine::open chooses its kernels by the processor; emulated ones are for tests that bring their own backend.
std::vector<std::string> served_backends() {
  std::vector<std::string> names;
  for (const std::string& name : backend_names())
    if (name != "reference" && !name.ends_with(":emulated")) names.push_back(name);
  return names;
}

TEST(parity_engine_every_family) {
  for (const std::string& backend : served_backends())
    for (const std::string& family : fixture_families()) {
      auto served = serve(family, backend, {});
      REQUIRE_OK(served);
      expect_tokens((*served)->fixture, (*served)->run_all(), backend + ", " + family);
    }
}

TEST(parity_engine_one_at_a_time_and_in_small_chunks) {
  for (const std::string& backend : served_backends()) {
    EngineOptions alone;
    alone.max_num_seqs = 1;
    auto one = serve("qwen3", backend, alone);
    REQUIRE_OK(one);
    expect_tokens((*one)->fixture, (*one)->run_all(), backend + ", one at a time");
    EngineOptions chunked;
    chunked.max_num_seqs = 8, chunked.max_num_batched_tokens = 24;
    auto many = serve("qwen3", backend, chunked);
    REQUIRE_OK(many);
    const std::vector<Finished> results = (*many)->run_all();
    expect_tokens((*many)->fixture, results, backend + ", budget of 24 tokens");
    EXPECT_LT(5u, results.back().prefill_chunks);
  }
}

TEST(parity_engine_prefix_hits_change_nothing) {
  for (const std::string& backend : served_backends())
    for (const std::string& family : {std::string("qwen2"), std::string("llama3")}) {
      auto served = serve(family, backend, {});
      REQUIRE_OK(served);
      const std::vector<Finished> cold = (*served)->run_all(), warm = (*served)->run_all();
      expect_tokens((*served)->fixture, cold, backend + ", " + family + ", cold");
      expect_tokens((*served)->fixture, warm, backend + ", " + family + ", warm");
      EXPECT_LE(304u, warm.back().cached_tokens);  // 311 tokens: 19 full blocks of 16
      EngineOptions off;
      off.prefix_cache = false;
      auto uncached = serve(family, backend, off);
      REQUIRE_OK(uncached);
      (*uncached)->run_all();
      const std::vector<Finished> again = (*uncached)->run_all();
      expect_tokens((*uncached)->fixture, again, backend + ", " + family + ", no cache");
      EXPECT_EQ(again.back().cached_tokens, 0u);
    }
}

TEST(parity_engine_preemption_changes_nothing) {
  for (const std::string& backend : served_backends()) {
    EngineOptions options;
    // 512 tokens of context for eight requests that want 1,188 in all.
    options.context_length = 400, options.max_num_seqs = 8, options.prefix_cache = false;
    options.kv_bytes = 512ull * 2 * 3 * 2 * 32 * 4;
    auto served = serve("qwen3", backend, options);
    REQUIRE_OK(served);
    const std::vector<Finished> results = (*served)->run_all();
    expect_tokens((*served)->fixture, results, backend);
    uint32_t preemptions = 0;
    for (const Finished& result : results) preemptions += result.preemptions;
    EXPECT_LT(0u, preemptions);
  }
}

}  // namespace
}  // namespace quern::test
