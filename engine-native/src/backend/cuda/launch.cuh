// Launches a kernel; the only place with the launch syntax. A refused launch is a bug (sizes come from reserve()).
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/device.cuh"

namespace quern::cuda {

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, Arguments... arguments) {
  kernel<<<grid, block, 0, stream>>>(arguments...);
  must(cudaGetLastError(), "launching a kernel");
}

}  // namespace quern::cuda
