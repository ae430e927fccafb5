// Stands in front of the real launch.cuh: runs the grid on the CPU.
#pragma once

#include "backend/cuda/device.cuh"

namespace quern::cuda {

// Runs body(context) once per thread of the grid.
void run_grid(dim3 grid, dim3 block, void (*body)(void*), void* context);

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t, Arguments... arguments) {
  auto call = [&] { kernel(arguments...); };
  using Call = decltype(call);
  run_grid(grid, block, [](void* context) { (*static_cast<Call*>(context))(); }, &call);
}

}  // namespace quern::cuda
