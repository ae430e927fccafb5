// A batch's integers on their way to the device: packed in pinned memory, one copy per step.
//
// Thread safety: none. Invariants: prepare() waits until the copy of the step before has been read; nothing allocates
// after create().
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "backend/cuda/device.cuh"
#include "model/runner.h"

namespace quern::cuda {

class StepInputs {
 public:
  static Result<StepInputs> create(const RunnerLimits& limits);

  // Copies the batch; the pointers below are its arrays until the next call. REQUIRES: within the limits.
  void prepare(const Batch& batch, cudaStream_t stream);

  uint32_t num_tokens() const { return num_tokens_; }
  uint32_t num_logit_rows() const { return num_logit_rows_; }
  const uint32_t* token_ids() const { return at(0); }
  const uint32_t* positions() const { return at(1); }
  const uint32_t* slots() const { return at(2); }
  const uint32_t* visible() const { return at(3); }      // positions that a token sees, itself included
  const uint32_t* block_begin() const { return at(4); }  // where the block table of its sequence begins
  const uint32_t* logit_rows() const { return at(5); }
  const uint32_t* block_tables() const { return at(5) + limits_.max_logit_rows; }

 private:
  struct PinnedDeleter {
    void operator()(uint32_t* memory) const { cudaFreeHost(memory); }
  };
  const uint32_t* at(uint32_t array) const { return device_.as<uint32_t>() + size_t{array} * limits_.max_num_tokens; }

  RunnerLimits limits_;
  size_t capacity_ = 0;  // in uint32
  DeviceMemory device_;
  std::unique_ptr<uint32_t, PinnedDeleter> host_;
  uint32_t num_tokens_ = 0, num_logit_rows_ = 0;
};

}  // namespace quern::cuda
