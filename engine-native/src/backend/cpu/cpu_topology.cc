#include "backend/cpu/cpu_topology.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace quern::cpu {
namespace {

// First line of a small file, or empty.
std::string first_line(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return {};
  char text[256] = {};
  const bool read = std::fgets(text, sizeof text, file) != nullptr;
  std::fclose(file);
  std::string line = read ? text : "";
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  return line;
}

// The lowest processor that shares a core with `cpu`; itself where /sys does not tell.
uint32_t core_leader(uint32_t cpu) {
  const std::string list =
      first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
  return list.empty() ? cpu : static_cast<uint32_t>(std::strtoul(list.c_str(), nullptr, 10));
}

uint32_t ceil_ratio(double quota_us, double period_us) {
  if (quota_us <= 0 || period_us <= 0) return 0;
  return std::max(1u, static_cast<uint32_t>((quota_us + period_us - 1) / period_us));
}

// cgroup v2 first ("max 100000" or "150000 100000"), then v1. Reads this process's own cgroup and the mount's root.
uint32_t cgroup_quota() {
  std::string own;
  if (std::FILE* file = std::fopen("/proc/self/cgroup", "re")) {
    char text[512];
    while (std::fgets(text, sizeof text, file) != nullptr) {
      if (std::strncmp(text, "0::", 3) == 0) own = text + 3;
    }
    std::fclose(file);
    while (!own.empty() && (own.back() == '\n' || own.back() == '/')) own.pop_back();
  }
  uint32_t quota = 0;
  for (const std::string& path : {"/sys/fs/cgroup" + own + "/cpu.max", std::string("/sys/fs/cgroup/cpu.max")}) {
    const std::string line = first_line(path);
    double quota_us = 0, period_us = 0;
    if (std::sscanf(line.c_str(), "%lf %lf", &quota_us, &period_us) != 2) continue;
    const uint32_t cpus = ceil_ratio(quota_us, period_us);
    if (cpus > 0) quota = quota == 0 ? cpus : std::min(quota, cpus);
  }
  if (quota > 0) return quota;
  return ceil_ratio(std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str()),
                    std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str()));
}

Topology find_topology() {
  Topology topology;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<uint32_t> siblings;
  std::vector<uint32_t> leaders;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &mask)) continue;
      const uint32_t leader = core_leader(cpu);
      const bool is_new = std::find(leaders.begin(), leaders.end(), leader) == leaders.end();
      if (is_new) leaders.push_back(leader);
      (is_new ? topology.cpus : siblings).push_back(cpu);
    }
  }
  if (topology.cpus.empty()) topology.cpus.push_back(0);
  topology.physical_cores = static_cast<uint32_t>(topology.cpus.size());
  topology.cpus.insert(topology.cpus.end(), siblings.begin(), siblings.end());
  topology.quota = cgroup_quota();
  return topology;
}

}  // namespace

const Topology& read_topology() {
  static const Topology topology = find_topology();
  return topology;
}

std::vector<uint32_t> processors_to_pin(const Topology& topology, uint32_t threads) {
  const bool owns_machine = threads + 1 >= topology.physical_cores && threads <= topology.cpus.size();
  return owns_machine ? topology.cpus : std::vector<uint32_t>{};
}

uint32_t default_threads(const Topology& topology) {
  const uint32_t cores = topology.physical_cores;
  const uint32_t threads = cores >= 4 ? cores - 1 : cores;
  return topology.quota > 0 ? std::min(threads, topology.quota) : threads;
}

}  // namespace quern::cpu
