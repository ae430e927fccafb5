// The CUDA backend: fp32 activations, bf16 or fp32 weights and KV cache, one stream. Correct first; see kernels.cuh.
#include <cstring>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/step_inputs.cuh"
#include "backend/cuda/weights.cuh"

namespace quern {
namespace cuda {
namespace {

struct DeviceBuffer {
  DeviceMemory values;
  uint32_t rows = 0, cols = 0;
};

class Stream {
 public:
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  Status open() { return to_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(WeightType type, std::string device_name) : type_(type), device_name_(std::move(device_name)) {}
  Status open() { return stream_.open(); }

  BackendInfo info() const override {
    BackendInfo info;
    info.name = "cuda", info.isa = device_name_, info.weight_type = type_ == WeightType::kF32 ? "f32" : "bf16";
    info.threads = 1;
    for (const DeviceMatrix& matrix : linears_) info.weight_bytes += matrix.values.size() + matrix.bias.size();
    for (const DeviceMatrix& matrix : embeddings_) info.weight_bytes += matrix.values.size();
    for (const DeviceMemory& vector : vectors_) info.weight_bytes += vector.size();
    info.kv_bytes = cache_.size();
    return info;
  }

  Result<std::optional<DeviceMemoryState>> device_memory() const override {
    size_t free = 0, total = 0;
    QUERN_RETURN_IF_ERROR(to_status(cudaMemGetInfo(&free, &total), "asking for the free device memory"));
    return std::optional<DeviceMemoryState>(DeviceMemoryState{free, total});
  }

  Result<LinearId> load_linear(const LinearSource& source) override {
    return keep<LinearId>(linears_, upload_linear(source, type_));
  }
  Result<VectorId> load_vector(const HostTensor& source) override {
    return keep<VectorId>(vectors_, upload_vector(source));
  }
  Result<EmbeddingId> load_embedding(const HostTensor& source) override {
    Result<EmbeddingId> id = keep<EmbeddingId>(embeddings_, upload_matrix(source, type_));
    if (id.ok()) tables_.push_back({false, id->index});
    return id.ok() ? Result<EmbeddingId>(EmbeddingId{static_cast<uint32_t>(tables_.size() - 1)}) : id;
  }
  Result<EmbeddingId> tie_embedding(LinearId head) override {
    tables_.push_back({true, head.index});
    return EmbeddingId{static_cast<uint32_t>(tables_.size() - 1)};
  }

  Status reserve(const AttentionShape& shape, const RunnerLimits& limits) override;
  uint64_t kv_bytes_per_token(const AttentionShape& shape) const override {
    return uint64_t{2} * shape.num_layers * shape.num_kv_heads * shape.head_dim * element_size();
  }

  Result<BufferId> new_buffer(uint32_t cols, bool logit_rows_only) override {
    DeviceBuffer buffer;
    buffer.rows = logit_rows_only ? limits_.max_logit_rows : limits_.max_num_tokens, buffer.cols = cols;
    Result<DeviceMemory> values = DeviceMemory::allocate(size_t{buffer.rows} * padded(cols) * sizeof(float));
    QUERN_RETURN_IF_ERROR(values.status());
    buffer.values = std::move(*values);
    buffers_.push_back(std::move(buffer));
    return BufferId{static_cast<uint32_t>(buffers_.size() - 1)};
  }

  void begin_step(const Batch& batch) override { inputs_->prepare(batch, stream_.get()); }

  void embed(EmbeddingId id, BufferId out) override {
    const Table& table = tables_[id.index];
    const DeviceMatrix& matrix = table.tied ? linears_[table.index] : embeddings_[table.index];
    with_type(matrix.values, [&](auto* values) {
      cuda::embed(values, inputs_->token_ids(), data(out), tokens(), matrix.cols, stream_.get());
    });
  }

  void rmsnorm(BufferId x, VectorId weight, float eps, BufferId out) override {
    norm(x, nullptr, weight, eps, out, tokens());
  }
  void add_rmsnorm(BufferId residual, BufferId delta, VectorId weight, float eps, BufferId out) override {
    norm(residual, data(delta), weight, eps, out, tokens());
  }
  void rmsnorm_rows(BufferId x, VectorId weight, float eps, BufferId out) override {
    norm(x, nullptr, weight, eps, out, inputs_->num_logit_rows());
  }

  void linear(BufferId x, LinearId weight, BufferId out) override { multiply(x, weight, out, tokens()); }
  void linear_rows(BufferId x, LinearId weight, BufferId out) override {
    multiply(x, weight, out, inputs_->num_logit_rows());
  }

  void rope_and_cache(BufferId qkv, uint32_t layer, std::optional<VectorId> q_norm, std::optional<VectorId> k_norm,
                      float eps) override {
    const auto weight = [&](const std::optional<VectorId>& id) {
      return id ? vectors_[id->index].as<float>() : nullptr;
    };
    const RopeArguments arguments{
        data(qkv), inputs_->positions(), inputs_->slots(), inv_freq_.as<float>(), weight(q_norm), weight(k_norm), eps};
    with_type(cache_, [&](auto* cache) {
      cuda::rope_and_cache(arguments, layout_, cache + layer * layer_elements_, tokens(), stream_.get());
    });
  }

  void attention(BufferId qkv, uint32_t layer, BufferId out) override {
    const AttentionArguments arguments{
        data(qkv), inputs_->visible(), inputs_->block_begin(), inputs_->block_tables(), attention_scale_, data(out)};
    with_type(cache_, [&](const auto* cache) {
      cuda::attention(arguments, layout_, cache + layer * layer_elements_, tokens(), stream_.get());
    });
  }

  void swiglu(BufferId gate_up, BufferId out) override {
    cuda::swiglu(data(gate_up), data(out), tokens(), buffers_[out.index].cols, stream_.get());
  }
  void gather_logit_rows(BufferId x, BufferId out) override {
    gather_rows(data(x), inputs_->logit_rows(), data(out), inputs_->num_logit_rows(), buffers_[x.index].cols,
                stream_.get());
  }

  void read_rows(BufferId x, uint32_t rows, std::span<float> out) override {
    const DeviceBuffer& buffer = buffers_[x.index];
    const size_t width = buffer.cols * sizeof(float);
    CHECK(rows <= buffer.rows && out.size() >= size_t{rows} * buffer.cols, "reading more rows than there are");
    must(cudaMemcpy2DAsync(out.data(), width, data(x), padded(buffer.cols) * sizeof(float), width, rows,
                           cudaMemcpyDeviceToHost, stream_.get()),
         "reading rows");
    must(cudaStreamSynchronize(stream_.get()), "running a step");
  }
  void write_rows(BufferId x, uint32_t rows, std::span<const float> in) override {
    const DeviceBuffer& buffer = buffers_[x.index];
    const size_t width = buffer.cols * sizeof(float);
    CHECK(rows <= buffer.rows && in.size() >= size_t{rows} * buffer.cols, "writing more rows than there are");
    must(cudaMemcpy2DAsync(data(x), padded(buffer.cols) * sizeof(float), in.data(), width, width, rows,
                           cudaMemcpyHostToDevice, stream_.get()),
         "writing rows");
    must(cudaStreamSynchronize(stream_.get()), "writing rows");
  }

 private:
  // Where an embedding's rows are: a table of its own, or the head's matrix.
  struct Table {
    bool tied;
    uint32_t index;
  };

  size_t element_size() const { return type_ == WeightType::kF32 ? sizeof(float) : sizeof(Bf16); }
  uint32_t tokens() const { return inputs_->num_tokens(); }
  float* data(BufferId id) const { return buffers_[id.index].values.as<float>(); }

  template <typename Id, typename T>
  static Result<Id> keep(std::vector<T>& list, Result<T> made) {
    QUERN_RETURN_IF_ERROR(made.status());
    list.push_back(std::move(*made));
    return Id{static_cast<uint32_t>(list.size() - 1)};
  }

  // Calls `body` with the memory as float* or Bf16*, whichever is stored.
  template <typename Body>
  void with_type(const DeviceMemory& memory, const Body& body) const {
    if (type_ == WeightType::kF32) {
      body(memory.as<float>());
    } else {
      body(memory.as<Bf16>());
    }
  }

  void norm(BufferId x, const float* delta, VectorId weight, float eps, BufferId out, uint32_t rows) {
    cuda::rmsnorm(data(x), delta, vectors_[weight.index].as<float>(), eps, data(out), rows, buffers_[x.index].cols,
                  stream_.get());
  }
  void multiply(BufferId x, LinearId weight, BufferId out, uint32_t rows) {
    const DeviceMatrix& matrix = linears_[weight.index];
    CHECK(buffers_[x.index].cols == matrix.cols && buffers_[out.index].cols == matrix.rows, "linear: shapes differ");
    const float* bias = matrix.has_bias ? matrix.bias.as<float>() : nullptr;
    with_type(matrix.values, [&](auto* values) {
      cuda::linear(data(x), values, bias, data(out), rows, matrix.cols, matrix.rows, stream_.get());
    });
  }

  WeightType type_;
  std::string device_name_;
  Stream stream_;
  std::vector<DeviceMatrix> linears_, embeddings_;
  std::vector<Table> tables_;
  std::vector<DeviceMemory> vectors_;
  std::vector<DeviceBuffer> buffers_;
  DeviceMemory cache_, inv_freq_;
  std::optional<StepInputs> inputs_;
  RunnerLimits limits_;
  CacheLayout layout_{};
  size_t layer_elements_ = 0;
  float attention_scale_ = 0;
};

Status CudaBackend::reserve(const AttentionShape& shape, const RunnerLimits& limits) {
  if (shape.head_dim > kHeadDimMax)
    return unimplemented("head_dim: the CUDA backend takes at most " + std::to_string(kHeadDimMax) + ", got " +
                         std::to_string(shape.head_dim));
  CHECK(shape.inv_freq.size() == shape.head_dim / 2, "one frequency per pair");
  limits_ = limits;
  layout_ = {shape.num_q_heads, shape.num_kv_heads, shape.head_dim, limits.block_size};
  attention_scale_ = shape.attention_scale;
  layer_elements_ = size_t{2} * limits.num_blocks * limits.block_size * shape.num_kv_heads * shape.head_dim;
  Result<DeviceMemory> cache = DeviceMemory::allocate(layer_elements_ * shape.num_layers * element_size());
  QUERN_RETURN_IF_ERROR(cache.status());
  cache_ = std::move(*cache);
  HostTensor frequencies;
  frequencies.rows = shape.inv_freq.size(),
  frequencies.data = reinterpret_cast<const std::byte*>(shape.inv_freq.data());
  Result<DeviceMemory> inv_freq = upload_vector(frequencies);
  QUERN_RETURN_IF_ERROR(inv_freq.status());
  inv_freq_ = std::move(*inv_freq);
  Result<StepInputs> inputs = StepInputs::create(limits);
  QUERN_RETURN_IF_ERROR(inputs.status());
  inputs_.emplace(std::move(*inputs));
  return Status();
}

Result<std::unique_ptr<Backend>> make(const BackendOptions& options) {
  if (options.dtype != "auto" && options.dtype != "f32" && options.dtype != "bf16")
    return invalid_argument("dtype: expected auto, f32 or bf16, got \"" + options.dtype + "\"");
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    const char* reason = error == cudaSuccess ? "the driver lists no device" : cudaGetErrorString(error);
    return failed_precondition(std::string("backend: cuda: no usable GPU (") + reason +
                               "); expected an NVIDIA GPU with a driver for CUDA 13, or use backend cpu");
  }
  cudaDeviceProp properties{};
  QUERN_RETURN_IF_ERROR(to_status(cudaGetDeviceProperties(&properties, 0), "reading the GPU's properties"));
  if (!device_code_fits()) {
    const std::string found = std::to_string(properties.major * 10 + properties.minor);
    return failed_precondition(std::string("backend: cuda: this build has no code for ") + properties.name +
                               " (compute capability " + found + "); expected a build with " +
                               "-DCMAKE_CUDA_ARCHITECTURES=" + found + "-real (80 or newer), or use backend cpu");
  }
  auto backend =
      std::make_unique<CudaBackend>(options.dtype == "f32" ? WeightType::kF32 : WeightType::kBF16, properties.name);
  QUERN_RETURN_IF_ERROR(backend->open());
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace
}  // namespace cuda

Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options) { return cuda::make(options); }

}  // namespace quern
