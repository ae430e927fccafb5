// Every bound and time constant of the scheduler, named once.
#pragma once

#include <cstdint>

namespace quern::limits {

inline constexpr uint64_t kNsPerMs = 1'000'000;

// A step holds about this much work where prefill shares it with decodes: what a reader of a stream feels as one pause.
inline constexpr uint64_t kMixedStepNs = 80 * kNsPerMs;
// ... and where nobody decodes: longer, for throughput; still short enough for an arrival to get in soon.
inline constexpr uint64_t kPrefillStepNs = 150 * kNsPerMs;
// A prefill chunk is never smaller, so that prefill moves even where the target is too tight: beside decodes, and alone,
// where a larger one makes reading the weights worth it.
inline constexpr uint32_t kMixedChunkMin = 8;
inline constexpr uint32_t kPrefillChunkMin = 32;
// The first chunk, before anything was measured.
inline constexpr uint32_t kPrefillChunkFirst = 64;

// A sequence that waited this long is promoted above all classes ...
inline constexpr uint64_t kStarvationNs = 10'000 * kNsPerMs;
// ... but only one per interval, or a flood would promote itself wholesale.
inline constexpr uint64_t kPromotionIntervalNs = 1'000 * kNsPerMs;

// Share of the blocks that sequences may hold before the weakest class gives way to stronger ones, and the share up to
// which a weaker class is admitted beside stronger ones (lower, or it would be admitted and put out in turns).
inline constexpr uint32_t kKvPressurePercent = 90;
inline constexpr uint32_t kKvAdmitWeakerPercent = 80;

// Fairness: cost units per token. A decode step reads all weights for one token; prefill shares them.
inline constexpr uint64_t kPrefillTokenCost = 1;
inline constexpr uint64_t kDecodeTokenCost = 2;

// Work is refused as infeasible only when this share of its estimated time already exceeds what is left.
inline constexpr uint32_t kInfeasiblePercent = 80;
// Measured prefill steps before the estimate may refuse anything.
inline constexpr uint32_t kCostSamplesMin = 3;

}  // namespace quern::limits
