// The CPU backend: fp32 activations, weights and KV cache in fp32 or bf16, one pool of threads. It is the oracle that
// other backends are compared with; what is fast about it lives in packed_matrix, attention and the kernels.
//
// Small operations run on the calling thread: waking the pool costs more than they do. Where an operation runs never
// changes its bits.
#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/backend.h"
#include "backend/cpu/activation_buffer.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_features.h"
#include "backend/cpu/cpu_topology.h"
#include "backend/cpu/float_env.h"
#include "backend/cpu/packed_matrix.h"
#include "backend/cpu/rotary_table.h"
#include "base/float16.h"
#include "base/mutant.h"

namespace quern {
namespace cpu {
namespace {

// Floats of row-wise work below which the pool is not woken: about 2 us.
constexpr uint64_t kSerialFloats = 8192;
// Multiply-adds of a matrix product below which the pool is not woken.
constexpr uint64_t kSerialProducts = 65536;

using Buffer = ActivationBuffer;

struct Embedding {
  bool tied = false;
  uint32_t head = 0;  // linear index where tied
  PackedMatrix table; // else its own strips
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, const std::string& dtype, std::unique_ptr<ThreadPool> pool)
      : kernels_(kernels), dtype_(dtype), pool_(std::move(pool)), shares_(pool_->size()) {
    if (dtype == "f32") type_ = WeightType::kF32;
    if (dtype == "bf16") type_ = WeightType::kBF16;
  }

  BackendInfo info() const override;
  Result<LinearId> load_linear(const LinearSource& source) override;
  Result<VectorId> load_vector(const HostTensor& source) override;
  Result<EmbeddingId> load_embedding(const HostTensor& source) override;
  Result<EmbeddingId> tie_embedding(LinearId head) override;
  Result<BufferId> new_buffer(uint32_t cols, bool logit_rows_only) override;
  Status reserve(const AttentionShape& shape, const RunnerLimits& limits) override;
  uint64_t kv_bytes_per_token(const AttentionShape& shape) const override;

  void begin_step(const Batch& batch) override;
  void embed(EmbeddingId table, BufferId out) override;
  void rmsnorm(BufferId x, VectorId weight, float eps, BufferId out) override { norm(x, nullptr, weight, eps, out, num_tokens()); }
  void add_rmsnorm(BufferId residual, BufferId delta, VectorId weight, float eps, BufferId out) override {
    norm(residual, &buffers_[delta.index], weight, eps, out, num_tokens());
  }
  void linear(BufferId x, LinearId weight, BufferId out) override { multiply(x, weight, out, num_tokens()); }
  void rope_and_cache(BufferId qkv, uint32_t layer, std::optional<VectorId> q_norm, std::optional<VectorId> k_norm,
                      float eps) override;
  void attention(BufferId qkv, uint32_t layer, BufferId out) override;
  void swiglu(BufferId gate_up, BufferId out) override;
  void gather_logit_rows(BufferId x, BufferId out) override;
  void linear_rows(BufferId x, LinearId weight, BufferId out) override { multiply(x, weight, out, num_logit_rows()); }
  void rmsnorm_rows(BufferId x, VectorId weight, float eps, BufferId out) override {
    norm(x, nullptr, weight, eps, out, num_logit_rows());
  }
  void read_rows(BufferId x, uint32_t rows, std::span<float> out) override;
  void write_rows(BufferId x, uint32_t rows, std::span<const float> in) override;

 private:
  uint32_t num_tokens() const { return static_cast<uint32_t>(batch_.token_ids.size()); }
  uint32_t num_logit_rows() const { return static_cast<uint32_t>(batch_.logit_rows.size()); }
  void settle_type(DType checkpoint);
  bool narrows() const { return kernels_.dot != nullptr && type_ == WeightType::kBF16; }
  Status reserve_narrow_rows();
  KvShape kv_shape(const AttentionShape& shape, uint32_t block_size, uint32_t num_blocks) const;
  void norm(BufferId x, const Buffer* delta, VectorId weight, float eps, BufferId out, uint32_t rows);
  void multiply(BufferId x, LinearId weight, BufferId out, uint32_t rows);
  template <typename Rows>
  void multiply_rows(const PackedMatrix& w, const Rows& x, const RowsOut& y, uint32_t rows);
  template <typename RowBody>
  void for_rows(uint32_t rows, uint64_t floats_per_row, const RowBody& body);

  const Kernels& kernels_;
  const std::string dtype_;
  WeightType type_ = WeightType::kBF16;  // of "auto" until the first tensor settles it
  bool type_settled_ = false;
  std::unique_ptr<ThreadPool> pool_;
  WorkShares shares_;
  std::vector<PackedMatrix> linears_;
  std::vector<std::vector<float>> vectors_;
  std::vector<Embedding> embeddings_;
  std::vector<Buffer> buffers_;
  MappedMemory sums_;  // [threads][kSumFloats]
  MappedMemory narrow_;  // where narrows(): the input of the product at hand in bf16, [rows][narrow_stride_]
  size_t narrow_stride_ = 0;
  uint32_t widest_input_ = 0;  // columns of the widest matrix
  AttentionShape shape_;
  RunnerLimits limits_;
  std::optional<KvCache> cache_;
  std::optional<Attention> attention_;
  RotaryTable rotary_;
  Batch batch_;
};

template <typename RowBody>
void CpuBackend::for_rows(uint32_t rows, uint64_t floats_per_row, const RowBody& body) {
  constexpr uint32_t kRowChunk = 4;
  if (rows * floats_per_row < kSerialFloats || pool_->size() == 1) {
    const FlushDenormals flush;
    for (uint32_t i = 0; i < rows; ++i) body(i, 0);
    return;
  }
  const FlushDenormals flush;
  shares_.reset(rows, kRowChunk);
  pool_->run([&](uint32_t thread) {
    for (uint32_t begin = 0, end = 0; shares_.next(thread, &begin, &end);) {
      for (uint32_t i = begin; i < end; ++i) body(i, thread);
    }
  });
}

BackendInfo CpuBackend::info() const {
  BackendInfo info;
  info.name = "cpu";
  info.isa = isa_name(kernels_.isa);
  info.weight_type = type_ == WeightType::kF32 ? "f32" : "bf16";
  info.narrows_activations = narrows();
  info.threads = pool_->size();
  for (const PackedMatrix& m : linears_) info.weight_bytes += m.bytes();
  for (const Embedding& e : embeddings_) info.weight_bytes += e.tied ? 0 : e.table.bytes();
  for (const std::vector<float>& v : vectors_) info.weight_bytes += v.size() * sizeof(float);
  info.kv_bytes = cache_.has_value() ? cache_->bytes() : 0;
  return info;
}

// "auto": fp32 checkpoints stay fp32, 16-bit ones become bf16. The first matrix decides for all.
void CpuBackend::settle_type(DType checkpoint) {
  if (type_settled_) return;
  type_settled_ = true;
  if (dtype_ == "auto") type_ = checkpoint == DType::kF32 ? WeightType::kF32 : WeightType::kBF16;
}

Result<LinearId> CpuBackend::load_linear(const LinearSource& source) {
  if (!source.parts.empty()) settle_type(source.parts[0].dtype);
  Result<PackedMatrix> packed = PackedMatrix::pack(source, type_, *pool_);
  if (!packed.ok()) return packed.status();
  linears_.push_back(std::move(*packed));
  widest_input_ = std::max(widest_input_, linears_.back().cols());
  QUERN_RETURN_IF_ERROR(reserve_narrow_rows());
  return LinearId{static_cast<uint32_t>(linears_.size() - 1)};
}

Result<VectorId> CpuBackend::load_vector(const HostTensor& source) {
  if (source.count() == 0) return invalid_argument("load_vector: tensor '" + std::string(source.name) + "' is empty");
  std::vector<float> values(source.count());
  for (uint64_t i = 0; i < source.count(); ++i) values[i] = tensor_element(source, i);
  vectors_.push_back(std::move(values));
  return VectorId{static_cast<uint32_t>(vectors_.size() - 1)};
}

Result<EmbeddingId> CpuBackend::load_embedding(const HostTensor& source) {
  settle_type(source.dtype);
  LinearSource rows;
  rows.parts.push_back(source);
  Result<PackedMatrix> packed = PackedMatrix::pack(rows, type_, *pool_);
  if (!packed.ok()) return packed.status();
  embeddings_.push_back({false, 0, std::move(*packed)});
  return EmbeddingId{static_cast<uint32_t>(embeddings_.size() - 1)};
}

Result<EmbeddingId> CpuBackend::tie_embedding(LinearId head) {
  if (head.index >= linears_.size()) return invalid_argument("tie_embedding: expected a loaded linear, got an unknown handle");
  embeddings_.push_back({true, head.index, {}});
  return EmbeddingId{static_cast<uint32_t>(embeddings_.size() - 1)};
}

Result<BufferId> CpuBackend::new_buffer(uint32_t cols, bool logit_rows_only) {
  if (limits_.max_num_tokens == 0) return failed_precondition("new_buffer: call reserve() first, it sets the number of rows");
  if (cols == 0) return invalid_argument("new_buffer: expected cols > 0, got 0");
  Result<Buffer> buffer = Buffer::allocate(cols, logit_rows_only ? limits_.max_logit_rows : limits_.max_num_tokens);
  if (!buffer.ok()) return buffer.status();
  buffers_.push_back(std::move(*buffer));
  return BufferId{static_cast<uint32_t>(buffers_.size() - 1)};
}

KvShape CpuBackend::kv_shape(const AttentionShape& shape, uint32_t block_size, uint32_t num_blocks) const {
  return {shape.num_layers, shape.num_kv_heads, shape.head_dim, block_size, num_blocks, type_};
}

uint64_t CpuBackend::kv_bytes_per_token(const AttentionShape& shape) const { return kv_shape(shape, 16, 0).bytes_per_token(); }

Status CpuBackend::reserve(const AttentionShape& shape, const RunnerLimits& limits) {
  const bool heads_fit = shape.num_kv_heads > 0 && shape.num_q_heads % shape.num_kv_heads == 0 && shape.num_q_heads > 0;
  if (shape.num_layers == 0 || !heads_fit || shape.head_dim == 0 || shape.head_dim % 2 != 0 ||
      shape.inv_freq.size() != shape.head_dim / 2) {
    return invalid_argument("reserve: expected layers > 0, kv heads that divide q heads, an even head_dim and head_dim / 2 "
                            "inverse frequencies; got " + std::to_string(shape.num_layers) + " layers, " +
                            std::to_string(shape.num_q_heads) + " q and " + std::to_string(shape.num_kv_heads) +
                            " kv heads, head_dim " + std::to_string(shape.head_dim) + ", " +
                            std::to_string(shape.inv_freq.size()) + " frequencies");
  }
  const uint32_t block = limits.block_size;
  if (block < 8 || block > 64 || (block & (block - 1)) != 0) {
    return invalid_argument("reserve: expected block_size 8, 16, 32 or 64; got " + std::to_string(block));
  }
  if (limits.max_num_tokens == 0 || limits.max_num_seqs == 0 || limits.max_logit_rows == 0 || limits.num_blocks == 0 ||
      limits.context_length == 0) {
    return invalid_argument("reserve: expected every limit above zero");
  }
  shape_ = shape;
  limits_ = limits;
  Result<KvCache> cache = KvCache::create(kv_shape(shape, block, limits.num_blocks));
  if (!cache.ok()) return cache.status();
  cache_ = std::move(*cache);
  Result<Attention> attention = Attention::create(shape, limits, pool_->size());
  if (!attention.ok()) return attention.status();
  attention_ = std::move(*attention);
  Result<MappedMemory> sums = MappedMemory::allocate(uint64_t{kSumFloats} * sizeof(float) * pool_->size(), "partial sums");
  if (!sums.ok()) return sums.status();
  sums_ = std::move(*sums);
  QUERN_RETURN_IF_ERROR(reserve_narrow_rows());
  rotary_.reserve(shape.inv_freq, limits.max_num_tokens);
  return Status::ok_status();
}

// Room for the rows of any product, known once both the limits and the matrices are.
Status CpuBackend::reserve_narrow_rows() {
  const size_t stride = padded_stride(widest_input_, sizeof(uint16_t));
  const uint32_t rows = std::max(limits_.max_num_tokens, limits_.max_logit_rows);
  if (!narrows() || rows == 0 || stride <= narrow_stride_) return Status::ok_status();
  Result<MappedMemory> memory = MappedMemory::allocate(uint64_t{rows} * stride * sizeof(uint16_t), "activations in bf16");
  if (!memory.ok()) return memory.status();
  narrow_ = std::move(*memory);
  narrow_stride_ = stride;
  return Status::ok_status();
}

void CpuBackend::begin_step(const Batch& batch) {
  CHECK(batch.token_ids.size() <= limits_.max_num_tokens && batch.logit_rows.size() <= limits_.max_logit_rows,
        "a batch exceeds the reserved limits");
  pool_->adopt_caller();
  batch_ = batch;
  attention_->plan(batch);
  rotary_.plan(batch.positions);
}

void CpuBackend::embed(EmbeddingId table, BufferId out) {
  const Embedding& embedding = embeddings_[table.index];
  const PackedMatrix& rows = embedding.tied ? linears_[embedding.head] : embedding.table;
  const Buffer& y = buffers_[out.index];
  CHECK(rows.cols() == y.cols, "embed: the buffer must have the embedding's columns");
  for_rows(num_tokens(), y.cols, [&](uint32_t i, uint32_t) {
    CHECK(batch_.token_ids[i] < rows.rows(), "embed: a token id is outside of the vocabulary");
    rows.read_row(batch_.token_ids[i], y.row(i));
  });
}

void CpuBackend::norm(BufferId x, const Buffer* delta, VectorId weight, float eps, BufferId out, uint32_t rows) {
  const Buffer& in = buffers_[x.index];
  const Buffer& y = buffers_[out.index];
  const std::vector<float>& w = vectors_[weight.index];
  CHECK(in.cols == y.cols && w.size() == in.cols, "rmsnorm: buffers and weight must have the same columns");
  for_rows(rows, in.cols, [&](uint32_t i, uint32_t) {
    kernels_.rmsnorm_row(in.row(i), delta == nullptr ? nullptr : delta->row(i), w.data(), in.cols, eps, y.row(i));
  });
}

void CpuBackend::multiply(BufferId x, LinearId weight, BufferId out, uint32_t rows) {
  const Buffer& in = buffers_[x.index];
  const Buffer& y = buffers_[out.index];
  const PackedMatrix& w = linears_[weight.index];
  CHECK(in.cols == w.cols() && y.cols == w.rows(), "linear: the buffers must have the matrix's columns and rows");
  if (rows == 0) return;
  const RowsOut y_rows{y.row(0), y.stride};
  const FlushDenormals flush;
  if (!narrows()) {
    multiply_rows(w, RowsIn{in.row(0), in.stride}, y_rows, rows);
    return;
  }
  // Rounding costs about a quarter of what other work on a row does.
  for_rows(rows, in.cols / 4, [&](uint32_t i, uint32_t) {
    kernels_.dot->narrow_row(in.row(i), in.cols, narrow_.as<uint16_t>() + i * narrow_stride_);
  });
  multiply_rows(w, NarrowRowsIn{narrow_.as<uint16_t>(), narrow_stride_}, y_rows, rows);
}

template <typename Rows>
void CpuBackend::multiply_rows(const PackedMatrix& w, const Rows& x_rows, const RowsOut& y_rows, uint32_t rows) {
  if (uint64_t{rows} * w.rows() * w.cols() < kSerialProducts || pool_->size() == 1) {
    for (uint32_t begin = 0; begin < w.strips(); begin += kStripChunk) {
      w.multiply(kernels_, x_rows, y_rows, rows, begin, std::min(begin + kStripChunk, w.strips()), sums_.as<float>());
    }
    return;
  }
  shares_.reset(w.strips(), kStripChunk);
  pool_->run([&](uint32_t thread) {
    float* sums = sums_.as<float>() + size_t{thread} * kSumFloats;
    for (uint32_t begin = 0, end = 0; shares_.next(thread, &begin, &end);) {
      w.multiply(kernels_, x_rows, y_rows, rows, begin, end, sums);
    }
  });
}

void CpuBackend::rope_and_cache(BufferId qkv, uint32_t layer, std::optional<VectorId> q_norm, std::optional<VectorId> k_norm,
                                float eps) {
  const Buffer& buffer = buffers_[qkv.index];
  const uint32_t dim = shape_.head_dim, q_heads = shape_.num_q_heads, kv_heads = shape_.num_kv_heads;
  CHECK(buffer.cols == (q_heads + 2 * kv_heads) * dim, "rope_and_cache: the buffer must hold q, k and v of all heads");
  const float* q_weight = q_norm.has_value() ? vectors_[q_norm->index].data() : nullptr;
  const float* k_weight = k_norm.has_value() ? vectors_[k_norm->index].data() : nullptr;
  for_rows(num_tokens(), buffer.cols, [&](uint32_t token, uint32_t) {
    float* row = buffer.row(token);
    for (uint32_t h = 0; h < q_heads + kv_heads; ++h) {
      float* head = row + size_t{h} * dim;
      const float* weight = h < q_heads ? q_weight : k_weight;
      if (weight != nullptr) kernels_.rmsnorm_row(head, nullptr, weight, dim, eps, head);
      rotary_.rotate(head, token);
    }
    const float* k = row + size_t{q_heads} * dim;
    const float* v = k + size_t{kv_heads} * dim;
    for (uint32_t h = 0; h < kv_heads; ++h) {
      const uint32_t to = mutant(5) ? kv_heads - 1 - h : h;
      cache_->write(layer, batch_.slot_mapping[token], to, k + size_t{h} * dim, v + size_t{h} * dim);
    }
  });
}

void CpuBackend::attention(BufferId qkv, uint32_t layer, BufferId out) {
  const Buffer& in = buffers_[qkv.index];
  const Buffer& y = buffers_[out.index];
  CHECK(y.cols == shape_.num_q_heads * shape_.head_dim, "attention: the output must hold all query heads");
  if (num_tokens() == 0) return;
  const FlushDenormals flush;
  attention_->run(*pool_, shares_, kernels_, *cache_, layer, {in.row(0), in.stride}, {y.row(0), y.stride});
}

void CpuBackend::swiglu(BufferId gate_up, BufferId out) {
  const Buffer& in = buffers_[gate_up.index];
  const Buffer& y = buffers_[out.index];
  CHECK(in.cols == 2 * y.cols, "swiglu: the input must have twice the output's columns");
  for_rows(num_tokens(), in.cols, [&](uint32_t i, uint32_t) {
    kernels_.swiglu_row(in.row(i), in.row(i) + y.cols, y.cols, y.row(i));
  });
}

void CpuBackend::gather_logit_rows(BufferId x, BufferId out) {
  const Buffer& in = buffers_[x.index];
  const Buffer& y = buffers_[out.index];
  CHECK(in.cols == y.cols, "gather_logit_rows: buffers must have the same columns");
  for (uint32_t i = 0; i < num_logit_rows(); ++i) std::memcpy(y.row(i), in.row(batch_.logit_rows[i]), in.cols * sizeof(float));
}

void CpuBackend::read_rows(BufferId x, uint32_t rows, std::span<float> out) {
  const Buffer& in = buffers_[x.index];
  CHECK(rows <= in.rows && out.size() >= size_t{rows} * in.cols, "read_rows: out must hold rows x cols");
  for (uint32_t i = 0; i < rows; ++i) std::memcpy(out.data() + size_t{i} * in.cols, in.row(i), in.cols * sizeof(float));
}

void CpuBackend::write_rows(BufferId x, uint32_t rows, std::span<const float> in) {
  const Buffer& y = buffers_[x.index];
  CHECK(rows <= y.rows && in.size() >= size_t{rows} * y.cols, "write_rows: in must hold rows x cols");
  for (uint32_t i = 0; i < rows; ++i) std::memcpy(y.row(i), in.data() + size_t{i} * y.cols, y.cols * sizeof(float));
}

}  // namespace
}  // namespace cpu

Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options) {
  Result<cpu::Isa> isa = cpu::choose_isa(options.isa);
  if (!isa.ok()) return isa.status();
  return cpu::make_cpu_backend_over(cpu::kernels_for(*isa), options);
}

Result<std::unique_ptr<Backend>> cpu::make_cpu_backend_over(const Kernels& kernels, const BackendOptions& options) {
  constexpr uint32_t kMaxThreads = 256;
  if (options.dtype != "auto" && options.dtype != "f32" && options.dtype != "bf16") {
    return invalid_argument("cpu backend: dtype '" + options.dtype + "' is unknown; expected auto, f32 or bf16");
  }
  if (options.threads > kMaxThreads) {
    return invalid_argument("cpu backend: expected at most " + std::to_string(kMaxThreads) + " threads, got " +
                            std::to_string(options.threads));
  }
  const cpu::Topology& topology = cpu::read_topology();
  const uint32_t threads = options.threads > 0 ? options.threads : cpu::default_threads(topology);
  Result<std::unique_ptr<cpu::ThreadPool>> pool = cpu::ThreadPool::create(threads, processors_to_pin(topology, threads));
  if (!pool.ok()) return pool.status();
  return std::unique_ptr<Backend>(new cpu::CpuBackend(kernels, options.dtype, std::move(*pool)));
}

}  // namespace quern
