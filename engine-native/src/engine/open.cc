// Engine::open: backend, model, memory plan, loop.
#include <algorithm>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "engine/engine.h"
#include "engine/engine_loop.h"
#include "engine/limits.h"
#include "engine/memory_plan.h"
#include "model/open_model.h"

namespace quern {
namespace {

// The transformer together with the backend that it borrows; destroyed in the right order.
class OwnedModel final : public ModelRunner {
 public:
  OwnedModel(std::unique_ptr<Backend> backend, OpenedModel model) : backend_(std::move(backend)), model_(std::move(model)) {}

  uint32_t vocabulary_size() const override { return model_.transformer->vocabulary_size(); }
  Status forward(const Batch& batch, std::span<float> logits, const std::atomic<bool>* interrupt) override {
    return model_.transformer->forward(batch, logits, interrupt);
  }
  Backend& backend() { return *backend_; }
  OpenedModel& model() { return model_; }

 private:
  std::unique_ptr<Backend> backend_;
  OpenedModel model_;
};

Status check_options(const EngineOptions& o) {
  const auto expected = [](const char* name, const std::string& wanted, const std::string& got) {
    return invalid_argument(std::string(name) + ": expected " + wanted + ", got " + got);
  };
  if (o.model_dir.empty()) return expected("model_dir", "a folder with config.json and *.safetensors", "nothing");
  if (o.dtype != "auto" && o.dtype != "f32" && o.dtype != "bf16") return expected("dtype", "auto, f32 or bf16", o.dtype);
  if (o.backend != "auto" && o.backend != "cpu" && o.backend != "cuda") return expected("backend", "auto, cpu or cuda", o.backend);
  if (o.block_size == 0 || o.block_size > 256) return expected("block_size", "1 to 256", std::to_string(o.block_size));
  if (o.max_num_seqs == 0 || o.max_num_seqs > limits::kMaxNumSeqsMax) {
    return expected("max_num_seqs", "1 to " + std::to_string(limits::kMaxNumSeqsMax), std::to_string(o.max_num_seqs));
  }
  if (o.max_waiting == 0 || o.max_waiting > limits::kMaxWaitingMax) {
    return expected("max_waiting", "1 to " + std::to_string(limits::kMaxWaitingMax), std::to_string(o.max_waiting));
  }
  if (o.max_num_batched_tokens != 0 &&
      (o.max_num_batched_tokens < o.max_num_seqs || o.max_num_batched_tokens > limits::kMaxBatchedTokensMax)) {
    return expected("max_num_batched_tokens",
                    "max_num_seqs (" + std::to_string(o.max_num_seqs) + ") to " + std::to_string(limits::kMaxBatchedTokensMax),
                    std::to_string(o.max_num_batched_tokens));
  }
  return Status();
}

Result<std::unique_ptr<Backend>> choose_backend(const EngineOptions& options) {
  const BackendOptions wanted{options.isa, options.dtype, options.threads};
  if (options.backend == "cuda") return make_cuda_backend(wanted);
  if (options.backend == "auto" && options.isa == "auto") {
    auto cuda = make_cuda_backend(wanted);
    if (cuda.ok()) return cuda;
  }
  return make_cpu_backend(wanted);
}

// All but what the memory plan decides: context_length and num_blocks.
RunnerLimits batch_limits(const EngineOptions& options, const Backend& backend) {
  const uint32_t usual = backend.info().name == "cpu" ? limits::kCpuBatchedTokens : limits::kCudaBatchedTokens;
  RunnerLimits limits;
  limits.max_num_seqs = options.max_num_seqs;
  limits.max_num_tokens =
      options.max_num_batched_tokens != 0 ? options.max_num_batched_tokens : std::max(options.max_num_seqs, usual);
  limits.max_logit_rows = options.max_num_seqs + quern::limits::kPromptLogitRows;
  limits.block_size = options.block_size;
  return limits;
}

// What is free where this backend keeps weights and KV cache: for both, or with weights `loaded` for the KV cache alone. The
// host's own limits leave room for a workspace; a device's do not.
Result<FreeMemory> free_memory_of(const Backend& backend, uint64_t loaded, uint64_t workspace) {
  const auto device = backend.device_memory();
  if (!device.ok()) return device.status();
  if (!device->has_value()) return read_free_memory();
  return device_memory_left({(*device)->free_bytes, (*device)->total_bytes, loaded, workspace}, backend.info().isa);
}

// Headers only; what is wrong with the folder is reported here as open_model would.
Status check_fits(const EngineOptions& options, const Backend& backend) {
  auto config = read_model_config(options.model_dir);
  if (!config.ok()) return config.status();
  auto weights = WeightFiles::open(options.model_dir);
  if (!weights.ok()) return weights.status();
  auto memory = free_memory_of(backend, 0, Transformer::activation_bytes(*config, batch_limits(options, backend)));
  if (!memory.ok()) return memory.status();
  const BackendInfo info = backend.info();
  // The CPU backend settles "auto" by the files, the CUDA backend at once.
  const std::string dtype = info.name == "cpu" ? options.dtype : info.weight_type;
  return check_need(measure_need(*config, **weights, dtype), options.kv_bytes, options.context_length, *memory);
}

ModelInfo model_info(const EngineOptions& options, const OpenedModel& model, const BackendInfo& backend, const RunnerLimits& limits) {
  ModelInfo info;
  info.architecture = model.config.architecture;
  info.dtype = backend.weight_type;
  info.backend = backend.name;
  info.isa = backend.isa;
  info.model_hash = model.model_hash;
  info.context_length = limits.context_length;
  info.vocabulary_size = model.config.vocabulary_size;
  info.block_size = limits.block_size;
  info.num_blocks = limits.num_blocks;
  info.max_num_seqs = limits.max_num_seqs;
  info.max_num_batched_tokens = limits.max_num_tokens;
  info.max_waiting = options.max_waiting;
  info.threads = backend.threads;
  info.eos_token_ids = model.config.eos_token_ids;
  info.parameter_count = model.parameter_count;
  info.weight_bytes = backend.weight_bytes;
  info.kv_bytes = backend.kv_bytes;
  return info;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options, StepCallback on_step, ProgressCallback on_progress) {
  QUERN_RETURN_IF_ERROR(check_options(options));
  auto backend = choose_backend(options);
  if (!backend.ok()) return backend.status();
  QUERN_RETURN_IF_ERROR(check_fits(options, **backend));
  auto opened = open_model(options.model_dir, **backend, on_progress);
  if (!opened.ok()) return opened.status();
  auto owned = std::make_unique<OwnedModel>(std::move(backend).value(), std::move(opened).value());
  const OpenedModel& model = owned->model();
  const bool on_cpu = owned->backend().info().name == "cpu";

  EngineParts parts;
  parts.limits = batch_limits(options, owned->backend());
  auto memory = free_memory_of(owned->backend(), owned->backend().info().weight_bytes,
                               Transformer::activation_bytes(model.config, parts.limits));
  if (!memory.ok()) return memory.status();
  KvRequest request;
  request.kv_bytes = options.kv_bytes;
  request.context_length = options.context_length;
  request.model_context_length = model.config.context_length;
  request.block_size = options.block_size;
  request.max_num_seqs = options.max_num_seqs;
  request.bytes_per_token = owned->backend().kv_bytes_per_token(model.attention_shape);
  auto plan = plan_kv(request, *memory);
  if (!plan.ok()) return plan.status();

  parts.limits.context_length = plan->context_length;
  parts.limits.num_blocks = plan->num_blocks;
  if (on_progress) on_progress("reserve", 0, plan->kv_bytes);
  QUERN_RETURN_IF_ERROR(owned->model().transformer->reserve(parts.limits, model.token_count));
  if (on_progress) on_progress("reserve", plan->kv_bytes, plan->kv_bytes);
  parts.num_ids = model.token_count;
  parts.info = model_info(options, model, owned->backend().info(), parts.limits);
  parts.prefix_cache = options.prefix_cache;
  parts.size_chunks_by_time = on_cpu;
  parts.runner = std::move(owned);
  return make_engine(std::move(parts), std::move(on_step));
}

}  // namespace quern
