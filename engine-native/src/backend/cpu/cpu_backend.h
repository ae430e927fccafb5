// The CPU backend over a given table of kernels; make_cpu_backend() of backend.h chooses the table by cpuid.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

namespace quern::cpu {

// `options.isa` is not looked at. `kernels` outlives the backend.
Result<std::unique_ptr<Backend>> make_cpu_backend_over(const Kernels& kernels, const BackendOptions& options);

}  // namespace quern::cpu
