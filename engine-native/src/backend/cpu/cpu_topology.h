// Which processors the backend may use: the affinity mask, one per physical core, bounded by the cgroup's quota.
//
// Thread safety: safe from any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace quern::cpu {

// Processors of the affinity mask, first hardware threads of each core before their siblings.
struct Topology {
  std::vector<uint32_t> cpus;   // at least one
  uint32_t physical_cores = 1;  // the first this many of `cpus` are on different cores
  uint32_t quota = 0;           // whole CPUs granted by cgroup cpu.max, rounded up; 0 = no limit
};

// The mask is read once, at the first call: a thread that was pinned later would report only its own processor.
const Topology& read_topology();
// All cores below four, from four one fewer (the service's own thread needs one); never above the quota.
uint32_t default_threads(const Topology& topology);
// The processors to pin `threads` to, or none: a pool that leaves two cores or more to others shares the machine with
// them (another replica, perhaps), and pinning both to the same processors would be worse than pinning neither.
std::vector<uint32_t> processors_to_pin(const Topology& topology, uint32_t threads);

}  // namespace quern::cpu
