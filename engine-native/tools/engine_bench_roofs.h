// What the machine can do at best with the threads of a pool: the denominators of every percentage that is printed.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/cpu/cpu_features.h"
#include "backend/cpu/mapped_memory.h"
#include "backend/cpu/thread_pool.h"

namespace quern::bench {

class Roofs {
 public:
  // Takes 1 GiB, touched by the threads that will read it.
  static Result<Roofs> create(cpu::ThreadPool& pool);

  // Bytes per second of one read of the whole GiB, dealt to the threads as the kernels deal their strips. The better
  // of one stream per thread and four.
  double read_bandwidth();
  // Operations per second (two per multiply-add) of a loop that touches only registers: fp32 multiply-adds on the widest
  // vectors of the isa; for kAvx512Bf16 its dot product, two multiply-adds per lane. REQUIRES: isa_supported(isa).
  double multiply_add_rate(cpu::Isa isa);

 private:
  Roofs(cpu::ThreadPool& pool, cpu::MappedMemory memory);

  cpu::ThreadPool* pool_;
  std::unique_ptr<cpu::WorkShares> shares_;
  cpu::MappedMemory memory_;
};

}  // namespace quern::bench
