#include "engine_bench_host.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "backend/cpu/cpu_features.h"

namespace quern::bench {
namespace {

std::string command_output(const char* command) {
  std::FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return {};
  char text[256] = {};
  std::string output;
  while (std::fgets(text, sizeof text, pipe) != nullptr) output += text;
  pclose(pipe);
  while (!output.empty() && output.back() == '\n') output.pop_back();
  return output;
}

// The line of a /proc file that starts with `key`, without the key.
std::string proc_line(const char* path, const char* key) {
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return {};
  char text[8192];
  std::string found;
  while (found.empty() && std::fgets(text, sizeof text, file) != nullptr) {
    if (std::strncmp(text, key, std::strlen(key)) == 0) found = text + std::strlen(key);
  }
  std::fclose(file);
  while (!found.empty() && found.back() == '\n') found.pop_back();
  return found;
}

// Seconds that all processors spent on anything but idling.
double busy_seconds() {
  unsigned long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
  const std::string line = proc_line("/proc/stat", "cpu ");
  std::sscanf(line.c_str(), "%llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal);
  return static_cast<double>(user + nice + system + irq + soft + steal) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

Host read_host() {
  Host host;
  host.cpu_model = cpu::cpu_model_name();
  const std::string flags = proc_line("/proc/cpuinfo", "flags") + " ";
  for (const char* flag : {"avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16"}) {
    if (flags.find(" " + std::string(flag) + " ") == std::string::npos) continue;
    host.cpu_flags += (host.cpu_flags.empty() ? "" : " ") + std::string(flag);
  }
  const std::string load = proc_line("/proc/loadavg", "");
  host.load_average = load.substr(0, load.find_last_of('/') == std::string::npos ? load.size() : load.find(' ', 10));
  host.commit = command_output("git rev-parse --short=12 HEAD 2>/dev/null");
  if (host.commit.empty()) host.commit = "unknown";
  else if (!command_output("git status --porcelain --untracked-files=no 2>/dev/null").empty()) host.commit += "+dirty";
  return host;
}

ForeignLoad::ForeignLoad() : busy_s_(busy_seconds()), own_s_(process_cpu_seconds()), wall_s_(wall_seconds()) {}

double ForeignLoad::foreign_cpus() const {
  const double wall = std::max(wall_seconds() - wall_s_, 1e-3);
  return std::max(0.0, ((busy_seconds() - busy_s_) - (process_cpu_seconds() - own_s_)) / wall);
}

}  // namespace quern::bench
