// Whether the model fits and how much KV cache beside it: what memory the machine and its cgroup leave, and how many blocks
// that makes.
//
// Thread safety: pure functions over the file system and their arguments.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "engine/limits.h"
#include "model/config.h"
#include "weights/weight_files.h"

namespace quern {

struct FreeMemory {
  uint64_t bytes = 0;
  std::string source;  // which bound was the tightest, for messages
  // Of `bytes`, for the KV cache: limits.h.
  uint32_t kv_share_percent = limits::kKvSharePercent;
  uint32_t kv_share_max_percent = limits::kKvShareMaxPercent;
};

// The smallest of MemAvailable and what each memory cgroup above this process leaves (v2 memory.max - memory.current,
// its reclaimable file cache not counted as used; v1 limit_in_bytes likewise). `root` prefixes all paths; for tests.
Result<FreeMemory> read_free_memory(const std::string& root = "");

// Bytes of a device that is not the host.
struct DeviceUse {
  uint64_t free = 0, total = 0;  // as the driver says now
  uint64_t loaded = 0;           // weights that are on it already
  uint64_t workspace = 0;        // what will go there besides the KV cache
};

// What a device leaves for the KV cache, all of which it may take: kDeviceSharePercent of what was free before the weights
// went there, less those and the workspace.
FreeMemory device_memory_left(const DeviceUse& use, const std::string& device);

// What a model takes at least, before anything of it is read.
struct ModelNeed {
  std::string dtype;             // f32 or bf16, of weights and KV cache in memory
  bool widened = false;          // f32 was asked for over 16-bit files
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes_per_token = 0;
  uint32_t context_length = 0;   // the model's
};

// From the files' headers; `dtype` is auto (f32 for fp32 files, bf16 for 16-bit ones), f32 or bf16.
ModelNeed measure_need(const ModelConfig& config, const WeightFiles& weights, const std::string& dtype);

// Refuses (kResourceExhausted) when weights and the least KV cache (kv_bytes, or `context_length` tokens, or where both are
// 0 the shortest context served) exceed what is free: the kernel would end the process in the middle of loading.
Status check_need(const ModelNeed& need, uint64_t kv_bytes, uint32_t context_length, const FreeMemory& memory);

struct KvRequest {
  uint64_t kv_bytes = 0;          // 0 = a share of free memory
  uint32_t context_length = 0;    // 0 = the model's, lowered to what fits
  uint32_t model_context_length = 0;
  uint32_t block_size = 16;
  uint32_t max_num_seqs = 16;
  uint64_t bytes_per_token = 0;
};

struct KvPlan {
  uint32_t num_blocks = 0;
  uint32_t context_length = 0;
  uint64_t kv_bytes = 0;
};

// Refuses (kResourceExhausted, with all numbers) when not even one context fits.
Result<KvPlan> plan_kv(const KvRequest& request, const FreeMemory& memory);

}  // namespace quern
