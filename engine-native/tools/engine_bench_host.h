// The machine that a benchmark ran on, and what else ran on it meanwhile.
#pragma once

#include <string>

namespace quern::bench {

struct Host {
  std::string cpu_model;
  std::string cpu_flags;  // of those that choose a kernel
  std::string load_average;
  std::string commit;     // of the working folder's repository, with "+dirty" where it has changes; or "unknown"
};

Host read_host();

// CPU time of this process so far, all threads.
double process_cpu_seconds();

// CPU time that others (other processes, and the hypervisor) took between construction and foreign_cpus().
class ForeignLoad {
 public:
  ForeignLoad();
  // Average number of processors kept from us.
  double foreign_cpus() const;

 private:
  double busy_s_, own_s_, wall_s_;
};

}  // namespace quern::bench
