#include "sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "sample/philox.h"

namespace quern {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
// Below e^-40 of the most likely token a whole vocabulary together weighs less than one step of the 53-bit draw.
constexpr float kNegligible = -40.0f;
// top_p looks at this many candidates first; most rows need fewer.
constexpr uint32_t kFirstCandidates = 64;

}  // namespace

Sampler::Sampler(uint32_t columns, uint32_t num_ids)
    : num_ids_(num_ids), raw_(num_ids), weights_(num_ids), seen_(num_ids, 0), counts_(num_ids, 0) {
  CHECK(num_ids > 0 && num_ids <= columns, "sampler: expected 1 <= num_ids <= columns");
  candidates_.reserve(size_t{num_ids} * 2);
}

void Sampler::apply_penalties(std::span<float> logits, const SamplerSettings& settings, const SampleContext& context) {
  const auto output = context.tokens.subspan(context.prompt_count);
  if (settings.repetition_penalty != 1.0f) {
    if (++epoch_ == 0) {  // wrapped: no stamp may look current
      std::fill(seen_.begin(), seen_.end(), 0);
      epoch_ = 1;
    }
    for (uint32_t id : context.tokens) {
      if (id >= num_ids_ || seen_[id] == epoch_) continue;
      seen_[id] = epoch_;
      float& logit = logits[id];
      logit = logit > 0 ? logit / settings.repetition_penalty : logit * settings.repetition_penalty;
    }
  }
  if (settings.frequency_penalty != 0.0f || settings.presence_penalty != 0.0f) {
    for (uint32_t id : output) {
      if (id < num_ids_) ++counts_[id];
    }
    for (uint32_t id : output) {
      if (id >= num_ids_ || counts_[id] == 0) continue;
      logits[id] -= settings.frequency_penalty * static_cast<float>(counts_[id]) + settings.presence_penalty;
      counts_[id] = 0;
    }
  }
}

Sampled Sampler::sample(std::span<float> row, const SamplerSettings& settings, const SampleContext& context) {
  const std::span<float> logits = row.first(num_ids_);
  for (const auto& [id, bias] : settings.logit_bias) {
    if (id < num_ids_) logits[id] += bias;
  }
  const uint32_t output_count = static_cast<uint32_t>(context.tokens.size()) - context.prompt_count;
  if (output_count < settings.min_tokens) {
    for (uint32_t id : settings.stop_ids) {
      if (id < num_ids_) logits[id] = kMasked;
    }
  }
  apply_penalties(logits, settings, context);

  const RowMax max = row_max(logits);
  if (max.has_nan) return {0, SampleError::kNan};
  if (max.value == kMasked) return {0, SampleError::kAllMasked};
  if (std::isinf(max.value)) return {0, SampleError::kInfinite};
  if (settings.greedy()) return {first_index_of(logits, max.value), SampleError::kNone};

  const double uniform = philox_uniform(settings.seed, output_count, context.choice);
  const bool filtered = settings.top_k > 0 || settings.top_p < 1.0f || settings.min_p > 0.0f;
  const uint32_t id = filtered ? draw_filtered(logits, max.value, settings, uniform)
                               : draw_all(logits, max.value, 1.0f / settings.temperature, uniform);
  return {id, SampleError::kNone};
}

uint32_t Sampler::draw_all(std::span<const float> logits, float max, float inverse_temperature, double uniform) {
  double mass = 0;
  for (uint32_t id = 0; id < num_ids_; ++id) {
    const float scaled = (logits[id] - max) * inverse_temperature;
    weights_[id] = scaled >= kNegligible ? std::exp(scaled) : 0.0f;
    mass += static_cast<double>(weights_[id]);
  }
  const double target = uniform * mass;
  double sum = 0;
  uint32_t last = 0;
  for (uint32_t id = 0; id < num_ids_; ++id) {
    if (weights_[id] == 0.0f) continue;
    sum += static_cast<double>(weights_[id]);
    last = id;
    if (sum > target) return id;
  }
  return last;  // rounding: the sum met the target from below
}

// Leaves in candidates_ the sorted candidates of which a prefix is kept; returns that prefix's length.
size_t Sampler::cut_top_p(std::span<const float> logits, float max, float floor, const SamplerSettings& settings) {
  const float inverse = 1.0f / settings.temperature;
  const auto weight = [&](float logit) { return static_cast<double>(std::exp((logit - max) * inverse)); };
  const bool limited = settings.top_k > 0 && settings.top_k < num_ids_;
  if (limited) select_top(logits, settings.top_k, floor, &candidates_);
  double total = 0;
  if (settings.top_p < 1.0f) {
    if (limited) {
      for (const Candidate& candidate : candidates_) total += weight(candidate.logit);
    } else {
      for (float logit : logits) {
        if (logit >= floor) total += weight(logit);
      }
    }
  }
  uint32_t count = limited ? settings.top_k : (settings.top_p < 1.0f ? std::min(kFirstCandidates, num_ids_) : num_ids_);
  for (;;) {
    if (!limited) select_top(logits, count, floor, &candidates_);
    if (settings.top_p >= 1.0f) return candidates_.size();
    double sum = 0;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      sum += weight(candidates_[i].logit);
      if (sum >= static_cast<double>(settings.top_p) * total) return i + 1;
    }
    if (limited || count >= num_ids_ || candidates_.size() < count) return candidates_.size();
    count = std::min(num_ids_, count * 8);
  }
}

uint32_t Sampler::draw_filtered(std::span<const float> logits, float max, const SamplerSettings& settings,
                                double uniform) {
  // min_p in log space: p >= min_p * p_max is (logit - max) / temperature >= log(min_p).
  float cut = kNegligible;
  if (settings.min_p > 0.0f) cut = std::max(cut, std::log(settings.min_p));
  const float floor = std::min(max, max + cut * settings.temperature);
  const size_t kept = cut_top_p(logits, max, floor, settings);
  CHECK(kept > 0 && kept <= candidates_.size(), "the filters must keep at least the most likely token");

  const float inverse = 1.0f / settings.temperature;
  double mass = 0;
  for (size_t i = 0; i < kept; ++i) {
    weights_[i] = std::exp((candidates_[i].logit - max) * inverse);
    mass += static_cast<double>(weights_[i]);
  }
  const double target = uniform * mass;
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    sum += static_cast<double>(weights_[i]);
    if (sum > target) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

void Sampler::keep_raw(std::span<const float> row) { std::copy_n(row.begin(), num_ids_, raw_.begin()); }

bool Sampler::logprobs(uint32_t chosen, uint32_t top, std::vector<RankedLogprob>* out) {
  CHECK(chosen < num_ids_ && top <= kLogprobsTopMax, "logprobs: chosen id or top count out of range");
  const RowMax max = row_max(raw_);
  if (max.has_nan || std::isinf(max.value)) return false;
  const double total = log_sum_exp(raw_, max.value);
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - total); };
  uint32_t rank = 1;
  const float logit = raw_[chosen];
  for (uint32_t id = 0; id < num_ids_; ++id) {
    rank += raw_[id] > logit || (raw_[id] == logit && id < chosen) ? 1 : 0;
  }
  out->push_back({chosen, logprob(logit), rank});
  select_top(raw_, std::min(top, num_ids_), kMasked, &candidates_);
  uint32_t next_rank = 1;
  for (const Candidate& candidate : candidates_) out->push_back({candidate.id, logprob(candidate.logit), next_rank++});
  return true;
}

}  // namespace quern
