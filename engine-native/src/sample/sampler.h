// Sampler: from one row of logits to the next token.
//
// Order, per row in fp32 (vLLM's; llama.cpp applies temperature last, so equal settings differ there):
//   mask padding -> logit_bias -> mask EOS and stop ids before min_tokens -> repetition -> frequency, presence
//   -> temperature -> min_p -> top_k -> top_p -> draw
// Temperature below 1e-5 is greedy: the largest logit after penalties, the lowest id among equals. The draw uses
// Philox(seed, position, choice), so it does not depend on the batch, on preemption or on resuming.
//
// Thread safety: none; one sampler per engine thread. Invariant: sample() allocates nothing after construction. A row
// with NaN or without any allowed id is an error of that row, never a random token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "sample/row_scan.h"

namespace quern {

// One request's settings, checked and with defaults filled in.
struct SamplerSettings {
  float temperature = 1.0f;
  float top_p = 1.0f;
  uint32_t top_k = 0;  // 0 = off
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  uint64_t seed = 0;
  uint32_t min_tokens = 0;
  std::vector<std::pair<uint32_t, float>> logit_bias;  // unique ids
  std::vector<uint32_t> stop_ids;                      // EOS (unless ignored) and stop token ids

  bool greedy() const { return temperature < 1e-5f; }
};

// The sequence that the row belongs to.
struct SampleContext {
  std::span<const uint32_t> tokens;  // prompt, then output so far
  uint32_t prompt_count = 0;
  uint32_t choice = 0;
};

enum class SampleError : uint8_t { kNone, kNan, kInfinite, kAllMasked };

struct Sampled {
  uint32_t token_id = 0;
  SampleError error = SampleError::kNone;
};

// A token with its log probability under the raw logits, rank 1 = most likely.
struct RankedLogprob {
  uint32_t token_id = 0;
  float logprob = 0;
  uint32_t rank = 0;
};

inline constexpr uint32_t kLogprobsTopMax = 20;

class Sampler {
 public:
  // `columns`: width of a logits row. Ids from `num_ids` on are padding of the vocabulary and never chosen.
  Sampler(uint32_t columns, uint32_t num_ids);

  // Chooses the next token. The row is scratch afterwards.
  Sampled sample(std::span<float> row, const SamplerSettings& settings, const SampleContext& context);

  // Keeps a copy of the raw row, for logprobs() after sample() has changed it.
  void keep_raw(std::span<const float> row);
  // Appends to `out`: `chosen`, then the `top` most likely, under the row given to keep_raw(). False for a NaN row.
  bool logprobs(uint32_t chosen, uint32_t top, std::vector<RankedLogprob>* out);

  uint32_t num_ids() const { return num_ids_; }

 private:
  void apply_penalties(std::span<float> logits, const SamplerSettings& settings, const SampleContext& context);
  uint32_t draw_all(std::span<const float> logits, float max, float inverse_temperature, double uniform);
  uint32_t draw_filtered(std::span<const float> logits, float max, const SamplerSettings& settings, double uniform);
  size_t cut_top_p(std::span<const float> logits, float max, float floor, const SamplerSettings& settings);

  uint32_t num_ids_;
  std::vector<float> raw_;            // [num_ids]
  std::vector<float> weights_;        // [num_ids] unnormalised probabilities
  std::vector<uint32_t> seen_;        // [num_ids] epoch of the last visit
  std::vector<uint32_t> counts_;      // [num_ids] zero between calls
  std::vector<Candidate> candidates_; // reserved 2 x num_ids
  uint32_t epoch_ = 0;
};

}  // namespace quern
