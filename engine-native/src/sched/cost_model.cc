#include "sched/cost_model.h"

#include <algorithm>

#include "sched/limits.h"

namespace quern {
namespace {

constexpr double kDecodeBlend = 0.2;   // weight of the newest decode step
constexpr double kPrefillDecay = 0.9;  // what older prefill steps keep at each new one
constexpr double kOutlierFactor = 4;   // one slow step (a stolen CPU, a page fault storm) counts at most this much

}  // namespace

void CostModel::observe(uint32_t decode_count, uint32_t prefill_tokens, uint64_t step_ns) {
  const double step = static_cast<double>(step_ns);
  if (prefill_tokens == 0) {
    if (decode_count == 0) return;
    const double bounded = decode_ns_ > 0 ? std::min(step, decode_ns_ * kOutlierFactor) : step;
    decode_ns_ = decode_ns_ > 0 ? decode_ns_ + kDecodeBlend * (bounded - decode_ns_) : bounded;
    return;
  }
  // What a step costs before its first prefill token (reading the weights once) is in decode_ns_; without decodes in
  // the step at most half of it is taken off, because a large chunk hides the reading behind arithmetic.
  const double base = decode_count > 0 ? std::min(decode_ns_, step * 0.9) : std::min(decode_ns_, step * 0.5);
  double marginal = std::max(step - base, 1.0);
  if (samples_ >= limits::kCostSamplesMin) {
    marginal = std::min(marginal, prefill_token_ns() * prefill_tokens * kOutlierFactor);
  }
  prefill_ns_ = prefill_ns_ * kPrefillDecay + marginal;
  prefill_tokens_ = prefill_tokens_ * kPrefillDecay + prefill_tokens;
  if (samples_ < UINT32_MAX) ++samples_;
}

bool CostModel::trusted() const { return samples_ >= limits::kCostSamplesMin; }

uint64_t CostModel::prefill_ns(uint64_t tokens) const {
  return static_cast<uint64_t>(prefill_token_ns() * static_cast<double>(tokens));
}

uint32_t CostModel::prefill_budget(uint32_t decode_count, uint64_t target_ns) const {
  const double per_token = prefill_token_ns();
  if (per_token <= 0) return limits::kPrefillChunkFirst;
  const bool mixed = decode_count > 0;
  const double smallest = mixed ? limits::kMixedChunkMin : limits::kPrefillChunkMin;
  // Where decodes alone fill the target, prefill still gets as much time as they do.
  const double left = mixed ? std::max(static_cast<double>(target_ns) - decode_ns_, decode_ns_) : static_cast<double>(target_ns);
  return static_cast<uint32_t>(std::clamp(left / per_token, smallest, 1e6));
}

}  // namespace quern
