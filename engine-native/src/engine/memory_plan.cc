#include "engine/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "engine/limits.h"

namespace quern {
namespace {

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;  // absent, or the word "max"
  return value;
}

// A line `key value` of memory.stat; 0 when absent.
uint64_t read_stat(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  uint64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
  }
  return 0;
}

std::string gib(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1ull << 30));
  return text;
}

void tighten(FreeMemory* memory, uint64_t bytes, const std::string& source) {
  if (bytes < memory->bytes) memory->bytes = bytes, memory->source = source;
}

void tighten_by_cgroup(FreeMemory* memory, const std::string& folder, bool v2) {
  const auto limit = read_number(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto used = read_number(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return;
  const uint64_t reclaimable = read_stat(folder + "/memory.stat", v2 ? "inactive_file" : "total_inactive_file");
  const uint64_t held = *used - std::min(*used, reclaimable);
  tighten(memory, *limit - std::min(*limit, held), "the memory limit in " + folder);
}

uint64_t round_blocks(uint64_t bytes, const KvRequest& request) {
  return bytes / request.bytes_per_token / request.block_size;
}

}  // namespace

Result<FreeMemory> read_free_memory(const std::string& root) {
  FreeMemory memory{std::numeric_limits<uint64_t>::max(), ""};
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kib = 0;
    if (words >> name >> kib && name == "MemAvailable:") tighten(&memory, kib * 1024, "MemAvailable in /proc/meminfo");
  }
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers.find("memory") == std::string::npos) continue;
    const std::string mount = root + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    // Every ancestor's limit counts; inside a container the path may not exist below the mount, then the mount itself does.
    for (std::string path = line.substr(second + 1); !path.empty() && path != "/"; path.resize(path.rfind('/'))) {
      tighten_by_cgroup(&memory, mount + path, v2);
    }
    tighten_by_cgroup(&memory, mount, v2);
  }
  if (memory.source.empty()) {
    return failed_precondition("free memory: expected MemAvailable in /proc/meminfo or a memory cgroup, found neither; set kv_bytes");
  }
  return memory;
}

FreeMemory device_memory_left(const DeviceUse& use, const std::string& device) {
  const uint64_t usable = (use.free + use.loaded) / 100 * limits::kDeviceSharePercent;
  const uint64_t taken = std::min(usable, use.loaded + use.workspace);
  FreeMemory memory;
  memory.bytes = usable - taken;
  memory.source = "the memory of " + device + " (" + gib(use.free) + " of " + gib(use.total) + " free, at most " +
                  std::to_string(limits::kDeviceSharePercent) + " % of it to be used)";
  memory.kv_share_percent = memory.kv_share_max_percent = 100;
  return memory;
}

ModelNeed measure_need(const ModelConfig& config, const WeightFiles& weights, const std::string& dtype) {
  uint64_t values = 0, values_32 = 0;
  for (const SafetensorsEntry& entry : weights.entries()) {
    const bool is_32 = entry.dtype == "F32", is_16 = entry.dtype == "F16" || entry.dtype == "BF16";
    if (!is_32 && !is_16) continue;
    if (config.tied_embeddings && entry.name == "lm_head.weight") continue;  // a copy of the embedding, not loaded
    const uint64_t count = entry.data.size() / (is_32 ? 4 : 2);
    values += count;
    values_32 += is_32 ? count : 0;
  }
  const bool files_32 = values_32 > values - values_32;
  const bool f32 = dtype == "f32" || (dtype == "auto" && files_32);
  const uint64_t value_bytes = f32 ? 4 : 2;
  return {f32 ? "f32" : "bf16", f32 && !files_32, values * value_bytes,
          uint64_t{config.num_layers} * 2 * config.num_kv_heads * config.head_dim * value_bytes, config.context_length};
}

Status check_need(const ModelNeed& need, uint64_t kv_bytes, uint32_t context_length, const FreeMemory& memory) {
  const uint64_t tokens = std::min(context_length != 0 ? context_length : limits::kContextLengthMin, need.context_length);
  const uint64_t kv = kv_bytes != 0 ? kv_bytes : tokens * need.kv_bytes_per_token;
  if (need.weight_bytes <= memory.bytes && kv <= memory.bytes - need.weight_bytes) return Status();
  return resource_exhausted("memory: the model needs " + gib(need.weight_bytes + kv) + " (" + gib(need.weight_bytes) +
                            " of weights as " + need.dtype + ", at least " + gib(kv) + " of KV cache), " + memory.source +
                            " leaves " + gib(memory.bytes) + "; " + (need.widened ? "set dtype to bf16, " : "") +
                            (kv_bytes != 0 || context_length != 0 ? "lower kv_bytes or context_length, " : "") +
                            "free memory or serve a smaller model");
}

Result<KvPlan> plan_kv(const KvRequest& r, const FreeMemory& memory) {
  const uint32_t wanted_context = r.context_length != 0 ? r.context_length : r.model_context_length;
  if (wanted_context > r.model_context_length) {
    return invalid_argument("context_length: expected at most the model's " + std::to_string(r.model_context_length) + ", got " +
                            std::to_string(wanted_context));
  }
  const uint64_t blocks_per_context = (uint64_t{wanted_context} + r.block_size - 1) / r.block_size;
  uint64_t blocks = 0;
  if (r.kv_bytes != 0) {
    if (r.kv_bytes > memory.bytes) {
      return resource_exhausted("kv_bytes: expected at most the " + gib(memory.bytes) + " that " + memory.source +
                                " leaves, got " + gib(r.kv_bytes));
    }
    blocks = round_blocks(r.kv_bytes, r);
  } else {
    // More than every slot at full context would only ever hold old prefixes.
    const uint64_t useful = blocks_per_context * r.max_num_seqs;
    const uint64_t share = round_blocks(memory.bytes / 100 * memory.kv_share_percent, r);
    const uint64_t share_max = round_blocks(memory.bytes / 100 * memory.kv_share_max_percent, r);
    blocks = std::min(useful, std::max(share, std::min(share_max, blocks_per_context)));
  }
  blocks = std::min<uint64_t>(blocks, (1u << 30) / r.block_size);
  uint64_t context = std::min<uint64_t>(wanted_context, blocks * r.block_size);
  const uint32_t smallest = r.context_length != 0 ? r.context_length : std::min(limits::kContextLengthMin, wanted_context);
  if (context < smallest) {
    const uint64_t needed = (uint64_t{smallest} + r.block_size - 1) / r.block_size * r.block_size * r.bytes_per_token;
    return resource_exhausted("the KV cache cannot hold one context: " + std::to_string(smallest) + " tokens x " +
                              std::to_string(r.bytes_per_token) + " bytes = " + gib(needed) + " are needed, " +
                              gib(blocks * r.block_size * r.bytes_per_token) + " are granted (" + gib(memory.bytes) +
                              " free by " + memory.source + "); lower context_length, raise kv_bytes or free memory");
  }
  return KvPlan{static_cast<uint32_t>(blocks), static_cast<uint32_t>(context), blocks * r.block_size * r.bytes_per_token};
}

}  // namespace quern
