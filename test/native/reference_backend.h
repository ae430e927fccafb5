// The naive backend: plain loops, every sum in double. The oracle of the contract suite; no speed, no threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace quern::test {

// dtype: f32, or bf16 = weights, K and V rounded to bf16 when stored (activations stay fp32).
std::unique_ptr<Backend> make_reference_backend(const std::string& dtype);

// Backends to test, as `--backend` names them: reference, cpu:portable, cpu:avx2, cpu:avx512, cpu:avx512bf16, cpu, cuda, and
// cpu:avx512:emulated, cpu:avx512bf16:emulated (reference_avx512.h). Without the option: every ISA this machine can run, those of
// AVX-512 emulated where it has none. Names the build or machine cannot serve are left out of the default list and
// are an error when asked for.
std::vector<std::string> backend_names();
// One fresh backend. threads: 0 = the backend's choice.
Result<std::unique_ptr<Backend>> make_backend(const std::string& name, const std::string& dtype, uint32_t threads = 0);

}  // namespace quern::test
