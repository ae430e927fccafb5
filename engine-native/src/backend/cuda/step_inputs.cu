#include <algorithm>

#include "backend/cuda/step_inputs.cuh"

namespace quern::cuda {

Result<StepInputs> StepInputs::create(const RunnerLimits& limits) {
  StepInputs inputs;
  inputs.limits_ = limits;
  const size_t blocks_per_sequence = (limits.context_length + limits.block_size - 1) / limits.block_size;
  inputs.capacity_ =
      size_t{5} * limits.max_num_tokens + limits.max_logit_rows + limits.max_num_seqs * blocks_per_sequence;
  Result<DeviceMemory> device = DeviceMemory::allocate(inputs.capacity_ * sizeof(uint32_t));
  QUERN_RETURN_IF_ERROR(device.status());
  inputs.device_ = std::move(*device);
  void* host = nullptr;
  QUERN_RETURN_IF_ERROR(
      to_status(cudaMallocHost(&host, inputs.capacity_ * sizeof(uint32_t)), "allocating pinned memory"));
  inputs.host_.reset(static_cast<uint32_t*>(host));
  return Result<StepInputs>(std::move(inputs));
}

void StepInputs::prepare(const Batch& batch, cudaStream_t stream) {
  const size_t tokens = batch.token_ids.size(), budget = limits_.max_num_tokens;
  const size_t tables_at = 5 * budget + limits_.max_logit_rows, used = tables_at + batch.block_tables.size();
  CHECK(tokens <= budget && batch.logit_rows.size() <= limits_.max_logit_rows && used <= capacity_,
        "a batch larger than the reserved limits");
  must(cudaStreamSynchronize(stream), "waiting for the step before");
  uint32_t* host = host_.get();
  std::copy(batch.token_ids.begin(), batch.token_ids.end(), host);
  std::copy(batch.positions.begin(), batch.positions.end(), host + budget);
  std::copy(batch.slot_mapping.begin(), batch.slot_mapping.end(), host + 2 * budget);
  for (const SequenceSlice& slice : batch.sequences) {
    for (uint32_t i = 0; i < slice.query_count; ++i) {
      host[3 * budget + slice.query_begin + i] = slice.context_count - slice.query_count + i + 1;
      host[4 * budget + slice.query_begin + i] = slice.block_begin;
    }
  }
  std::copy(batch.logit_rows.begin(), batch.logit_rows.end(), host + 5 * budget);
  std::copy(batch.block_tables.begin(), batch.block_tables.end(), host + tables_at);
  must(cudaMemcpyAsync(device_.as<uint32_t>(), host, used * sizeof(uint32_t), cudaMemcpyHostToDevice, stream),
       "copying the batch");
  num_tokens_ = static_cast<uint32_t>(tokens);
  num_logit_rows_ = static_cast<uint32_t>(batch.logit_rows.size());
}

}  // namespace quern::cuda
