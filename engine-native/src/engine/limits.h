// Bounds of the engine's boundary and loop, named once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern::limits {

inline constexpr uint32_t kChoicesMax = 16;
inline constexpr size_t kLogitBiasMax = 1024;
inline constexpr float kLogitBiasAbsMax = 100.0f;
inline constexpr size_t kStopTokenIdsMax = 64;
inline constexpr uint32_t kLogprobsMax = 20;
inline constexpr size_t kNameBytesMax = 256;  // tenant, principal, cache salt, supersede key
inline constexpr float kTemperatureMax = 2.0f;
inline constexpr float kPenaltyAbsMax = 2.0f;
inline constexpr uint32_t kTimeoutMsMax = 24u * 3600 * 1000;

// Tenants whose token counters are remembered. Idle ones are forgotten first.
inline constexpr uint32_t kTenantsMax = 4096;
// A full inbox still takes requests of tenants that have none, up to this share beyond its bound.
inline constexpr uint32_t kInboxReserveDivisor = 4;

inline constexpr uint32_t kMaxNumSeqsMax = 1024;
inline constexpr uint32_t kMaxWaitingMax = 65536;
inline constexpr uint32_t kMaxBatchedTokensMax = 16384;
// Logit rows of a step beyond one per sequence; they serve prompt logprobs.
inline constexpr uint32_t kPromptLogitRows = 16;

// Memory: the KV cache takes at most this share of what is free, unless told; and at most the second share when the
// first cannot hold one context.
inline constexpr uint32_t kKvSharePercent = 25;
inline constexpr uint32_t kKvShareMaxPercent = 70;
// A GPU is ours alone: weights, workspace and KV cache together take this share of what is free before loading. The rest is
// for the driver, fragmentation and other processes' small change.
inline constexpr uint32_t kDeviceSharePercent = 90;
// A context lowered below this is no service; refuse to start instead.
inline constexpr uint32_t kContextLengthMin = 256;
inline constexpr uint32_t kCpuBatchedTokens = 512;
inline constexpr uint32_t kCudaBatchedTokens = 2048;

// Steps that may fail in a row before the process gives up: a device that is gone fails all of them, and only a new process
// gets it back.
inline constexpr uint32_t kFailedStepsMax = 16;

// Throughput figures cover this many seconds.
inline constexpr uint32_t kRateWindowS = 10;

}  // namespace quern::limits
