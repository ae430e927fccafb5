// RateWindow: events per second over the last ten seconds, in one-second buckets.
//
// Thread safety: none.
#pragma once

#include <array>
#include <cstdint>

#include "engine/limits.h"

namespace quern {

class RateWindow {
 public:
  void add(uint64_t now_ns, uint64_t count) {
    advance(now_ns / kSecondNs);
    counts_[second_ % limits::kRateWindowS] += count;
  }

  float per_second(uint64_t now_ns) {
    advance(now_ns / kSecondNs);
    uint64_t sum = 0;
    for (uint64_t count : counts_) sum += count;
    return static_cast<float>(sum) / static_cast<float>(limits::kRateWindowS);
  }

 private:
  static constexpr uint64_t kSecondNs = 1'000'000'000;

  void advance(uint64_t second) {
    if (second <= second_) return;
    const uint64_t passed = second - second_;
    for (uint64_t i = 1; i <= passed && i <= limits::kRateWindowS; ++i) counts_[(second_ + i) % limits::kRateWindowS] = 0;
    second_ = second;
  }

  std::array<uint64_t, limits::kRateWindowS> counts_{};
  uint64_t second_ = 0;
};

}  // namespace quern
