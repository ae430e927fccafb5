// The engine: one loaded model and its step loop, as the world sees it.
//
// Keep this header narrow. Tokens in, tokens out; nothing here knows tensors, threads of a pool, text, gRPC or Node.
// One engine thread owns the scheduler, the KV cache and the model. The world reaches it through a bounded inbox
// (submit, cancel, drain) and hears back through one callback per step.
//
// Thread safety: all methods may be called from any thread; the callback runs on the engine thread and must not block.
// Invariants: every request for which submit() returned ok ends with exactly one Finished event, also after cancel,
// deadline, close() or an internal error. Nothing allocates in a step once warmed up.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace quern {

enum class PriorityClass : uint8_t { kInvoked = 1, kAutomatic = 2, kChat = 3, kBatch = 4, kSpeculative = 5, kWarm = 6 };

enum class FinishReason : uint8_t {
  kStop = 1,
  kLength = 2,
  kCancelled = 3,
  kDeadline = 4,
  kSuperseded = 5,
  kError = 6,
};

// Sampling settings with defaults filled in. Ranges are checked by submit().
struct SamplingParams {
  uint32_t max_tokens = 0;  // 0 = prefill only
  uint32_t min_tokens = 0;
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;
  uint32_t top_k = 0;  // 0 = off
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  std::optional<uint64_t> seed;
  std::vector<std::pair<uint32_t, float>> logit_bias;
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<uint32_t> logprobs;         // top alternatives; 0 = the chosen token only
  std::optional<uint32_t> prompt_logprobs;
  uint32_t n = 1;
};

struct Request {
  uint64_t id = 0;  // chosen by the caller, unique among live requests
  std::vector<uint32_t> token_ids;
  std::vector<uint32_t> resume_token_ids;
  SamplingParams sampling;
  std::string tenant;
  std::string cache_salt;
  uint32_t public_prefix_tokens = 0;
  PriorityClass priority_class = PriorityClass::kChat;
  int32_t priority = 0;
  std::optional<uint32_t> timeout_ms;
  std::string supersede_key;
  std::string principal;
};

struct Logprob {
  uint32_t token_id = 0;
  float logprob = 0;
  uint32_t rank = 0;
};

// A new token of one choice; the id that stops it (EOS, stop_token_ids), too, which ChoiceEnd names again. logprobs:
// empty, or the chosen token then the alternatives. Views die with the callback.
struct TokenOut {
  uint64_t id = 0;
  uint32_t choice = 0;
  uint32_t token_id = 0;
  std::span<const Logprob> logprobs;
};

// Prompt log probabilities, once per request that asked, before its first token. positions[i] belongs to prompt token
// i + 1; the first prompt token has none.
struct PromptLogprobsOut {
  uint64_t id = 0;
  std::span<const Logprob> entries;      // all positions, concatenated
  std::span<const uint32_t> counts;      // entries per position, prompt length - 1 of them
};

struct ChoiceEnd {
  uint32_t choice = 0;
  FinishReason reason = FinishReason::kStop;
  std::optional<uint32_t> stop_token_id;
};

// One time that a choice waited after it had run: its blocks were taken, and what they held is computed again.
struct PreemptedOut {
  uint64_t after_ns = 0;  // since received_unix_ns
  uint64_t ns = 0;
  bool displaced = false;  // by a stronger class; else the KV cache was full
};
inline constexpr size_t kPreemptedOutMax = 4;

struct FinishedOut {
  uint64_t id = 0;
  std::span<const ChoiceEnd> choices;
  Status status;  // not ok when reason is kError, kDeadline at admission, ...
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  uint32_t completion_tokens = 0;
  uint64_t seed = 0;
  uint64_t received_unix_ns = 0;
  uint64_t queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  uint32_t prefill_chunks = 0, decode_steps = 0, preemptions = 0;
  std::array<PreemptedOut, kPreemptedOutMax> preempted;  // the first `preempted_count` are set
  uint32_t preempted_count = 0;
};

struct Load {
  uint32_t running = 0, waiting = 0, waiting_prompt_tokens = 0;
  uint32_t free_blocks = 0, cached_blocks = 0, num_blocks = 0;
  float generation_tokens_per_s = 0, prompt_tokens_per_s = 0;
  uint64_t steps = 0, last_step_unix_ns = 0, preemptions = 0;
  uint64_t prefix_query_tokens = 0, prefix_hit_tokens = 0;
  bool draining = false;
};

// One request's share of a step.
struct StepSlice {
  uint64_t id = 0;
  uint32_t tokens = 0;
  bool decode = false;
};

// How the model ran in a step. begin_unix_ns 0: it did not, the step only brought refusals and cancels.
struct StepRun {
  uint64_t begin_unix_ns = 0, forward_ns = 0;
  uint32_t prefill_tokens = 0, decode_tokens = 0;
  uint32_t held_blocks = 0;  // KV blocks that sequences hold after it
};

// All that one step produced.
struct StepOut {
  std::span<const TokenOut> tokens;
  std::span<const PromptLogprobsOut> prompt_logprobs;
  std::span<const FinishedOut> finished;
  uint32_t running = 0, waiting = 0;
  StepRun run;
  std::span<const StepSlice> slices;
};

struct EngineOptions {
  std::string model_dir;           // Hugging Face folder: config.json, *.safetensors
  std::string dtype = "auto";      // auto | f32 | bf16: weights in memory
  std::string backend = "auto";    // auto | cpu | cuda
  std::string isa = "auto";        // cpu: auto | portable | avx2 | avx512 | avx512bf16
  uint32_t threads = 0;            // 0 = what the machine and its cgroup allow
  uint32_t context_length = 0;     // 0 = the model's, lowered to what fits
  uint64_t kv_bytes = 0;           // 0 = a share of free memory
  uint32_t block_size = 16;
  uint32_t max_num_seqs = 16;
  uint32_t max_num_batched_tokens = 0;  // 0 = chosen by backend
  uint32_t max_waiting = 1024;
  bool prefix_cache = true;
};

struct ModelInfo {
  std::string architecture, dtype, backend, isa, model_hash;
  uint32_t context_length = 0, vocabulary_size = 0, block_size = 0, num_blocks = 0, max_num_seqs = 0,
           max_num_batched_tokens = 0, max_waiting = 0, threads = 0;
  std::vector<uint32_t> eos_token_ids;
  uint64_t parameter_count = 0, weight_bytes = 0, kv_bytes = 0;
};

class Engine {
 public:
  using StepCallback = std::function<void(const StepOut&)>;
  using ProgressCallback = std::function<void(const char* phase, uint64_t done, uint64_t total)>;

  // Loads the model (blocking) and starts the engine thread.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options, StepCallback on_step,
                                              ProgressCallback on_progress = nullptr);
  virtual ~Engine() = default;  // close()s

  virtual const ModelInfo& info() const = 0;
  // Validates against the model's limits and enqueues. Refusals name the field's path. kResourceExhausted: inbox full.
  virtual Status submit(Request request) = 0;
  virtual void cancel(uint64_t id) = 0;  // idempotent; unknown ids are ignored
  virtual Load load() const = 0;
  virtual void drain() = 0;  // refuse new work from now on
  virtual void close() = 0;  // cancel all, deliver every Finished, join
};

}  // namespace quern
