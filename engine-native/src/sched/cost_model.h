// CostModel: what a step costs on this machine, measured while serving. Time of a step = decode time + prefill tokens x
// time per prefill token; both learn from every finished step and forget old ones.
//
// Thread safety: none; the engine thread owns it. Integers in, integers out (nanoseconds).
#pragma once

#include <cstdint>

namespace quern {

class CostModel {
 public:
  // One finished step.
  void observe(uint32_t decode_count, uint32_t prefill_tokens, uint64_t step_ns);

  // True once estimates may refuse work.
  bool trusted() const;
  // Time to prefill that many tokens on an idle engine; 0 while nothing was measured.
  uint64_t prefill_ns(uint64_t tokens) const;
  // Prefill tokens that fit beside `decode_count` decodes into a step of target_ns, at least the minimum chunk.
  uint32_t prefill_budget(uint32_t decode_count, uint64_t target_ns) const;
  uint64_t decode_step_ns() const { return static_cast<uint64_t>(decode_ns_); }
  double prefill_token_ns() const { return prefill_tokens_ > 0 ? prefill_ns_ / prefill_tokens_ : 0; }

 private:
  double decode_ns_ = 0;       // moving average of a step without prefill
  double prefill_ns_ = 0;      // decayed sums; their ratio is the time per token
  double prefill_tokens_ = 0;
  uint32_t samples_ = 0;       // prefill steps seen
};

}  // namespace quern
