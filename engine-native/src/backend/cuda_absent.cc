// Answers for a build without the CUDA backend, so that callers have no #ifdef.
#include "backend/backend.h"

namespace quern {

Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions&) {
  return unimplemented(
      "backend: this build has no CUDA backend; expected 'cpu' or 'auto', or rebuild with -DQUERN_CUDA=ON");
}

}  // namespace quern
