#include "reference_backend.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"
#include "base/float16.h"
#include "reference_avx512.h"
#include "test.h"
#include "weights/tensor_values.h"

namespace quern::test {
namespace {

struct Matrix {
  uint64_t rows = 0, cols = 0;
  std::vector<float> values;  // [rows, cols]
  std::vector<float> bias;    // [rows] or empty
};

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(bool bf16) : bf16_(bf16) {}

  BackendInfo info() const override {
    BackendInfo info;
    info.name = "reference", info.isa = "portable", info.weight_type = bf16_ ? "bf16" : "f32", info.threads = 1;
    return info;
  }

  Result<LinearId> load_linear(const LinearSource& source) override {
    Matrix matrix;
    matrix.cols = source.parts.at(0).cols;
    for (size_t i = 0; i < source.parts.size(); ++i) {
      const HostTensor& part = source.parts[i];
      if (part.cols != matrix.cols) return invalid_argument("parts of one linear need the same columns");
      for (const float value : read(part)) matrix.values.push_back(value);
      matrix.rows += part.rows;
      if (source.bias.empty()) continue;
      const auto& bias = source.bias[i];
      for (uint64_t row = 0; row < part.rows; ++row) matrix.bias.push_back(0);
      if (bias) tensor_values(*bias, std::span(matrix.bias).last(part.rows));
    }
    linears_.push_back(std::move(matrix));
    return LinearId{static_cast<uint32_t>(linears_.size() - 1)};
  }

  Result<VectorId> load_vector(const HostTensor& source) override {
    std::vector<float> values(source.count());
    tensor_values(source, values);
    vectors_.push_back(std::move(values));
    return VectorId{static_cast<uint32_t>(vectors_.size() - 1)};
  }

  Result<EmbeddingId> load_embedding(const HostTensor& source) override {
    Matrix matrix{source.rows, source.cols, read(source), {}};
    embeddings_.push_back(std::move(matrix));
    return EmbeddingId{static_cast<uint32_t>(embeddings_.size() - 1)};
  }

  Result<EmbeddingId> tie_embedding(LinearId head) override {
    embeddings_.push_back(linears_.at(head.index));
    return EmbeddingId{static_cast<uint32_t>(embeddings_.size() - 1)};
  }

  Status reserve(const AttentionShape& shape, const RunnerLimits& limits) override {
    shape_ = shape, limits_ = limits;
    const uint64_t slots = static_cast<uint64_t>(limits.num_blocks) * limits.block_size;
    cache_.assign(shape.num_layers * slots * 2 * kv_width(), 0);
    return Status();
  }

  uint64_t kv_bytes_per_token(const AttentionShape& shape) const override {
    return uint64_t{2} * shape.num_layers * shape.num_kv_heads * shape.head_dim * (bf16_ ? 2 : 4);
  }

  Result<BufferId> new_buffer(uint32_t cols, bool logit_rows_only) override {
    const uint32_t rows = logit_rows_only ? limits_.max_logit_rows : limits_.max_num_tokens;
    buffers_.push_back(Matrix{rows, cols, std::vector<float>(static_cast<uint64_t>(rows) * cols), {}});
    return BufferId{static_cast<uint32_t>(buffers_.size() - 1)};
  }

  void begin_step(const Batch& batch) override { batch_ = batch; }

  void embed(EmbeddingId table, BufferId out) override {
    const Matrix& from = embeddings_[table.index];
    for (uint32_t t = 0; t < tokens(); ++t)
      std::copy_n(&from.values[batch_.token_ids[t] * from.cols], from.cols, row(out, t));
  }

  void rmsnorm(BufferId x, VectorId weight, float eps, BufferId out) override {
    norm_rows(tokens(), x, weight, eps, out);
  }
  void rmsnorm_rows(BufferId x, VectorId weight, float eps, BufferId out) override {
    norm_rows(logit_rows(), x, weight, eps, out);
  }

  void add_rmsnorm(BufferId residual, BufferId delta, VectorId weight, float eps, BufferId out) override {
    for (uint32_t t = 0; t < tokens(); ++t)
      for (uint64_t c = 0; c < buffers_[residual.index].cols; ++c) row(residual, t)[c] += row(delta, t)[c];
    norm_rows(tokens(), residual, weight, eps, out);
  }

  void linear(BufferId x, LinearId weight, BufferId out) override { multiply(tokens(), x, weight, out); }
  void linear_rows(BufferId x, LinearId weight, BufferId out) override { multiply(logit_rows(), x, weight, out); }

  void rope_and_cache(BufferId qkv, uint32_t layer, std::optional<VectorId> q_norm, std::optional<VectorId> k_norm,
                      float eps) override {
    const uint32_t q = shape_.num_q_heads, kv = shape_.num_kv_heads, d = shape_.head_dim;
    for (uint32_t t = 0; t < tokens(); ++t) {
      float* values = row(qkv, t);
      for (uint32_t head = 0; head < q + kv; ++head) {
        const auto& weight = head < q ? q_norm : k_norm;
        if (weight) normalise(values + head * d, d, vectors_[weight->index], eps, values + head * d);
        rotate(values + head * d, batch_.positions[t]);
      }
      float* slot = cache(layer, batch_.slot_mapping[t]);
      for (uint32_t i = 0; i < 2 * kv * d; ++i) slot[i] = store(values[q * d + i]);
    }
  }

  void attention(BufferId qkv, uint32_t layer, BufferId out) override {
    for (const SequenceSlice& slice : batch_.sequences) {
      for (uint32_t i = 0; i < slice.query_count; ++i) {
        const uint32_t visible = slice.context_count - slice.query_count + i + 1;
        for (uint32_t head = 0; head < shape_.num_q_heads; ++head)
          attend(slice, slice.query_begin + i, visible, head, qkv, layer, out);
      }
    }
  }

  void swiglu(BufferId gate_up, BufferId out) override {
    const uint64_t ffn = buffers_[out.index].cols;
    for (uint32_t t = 0; t < tokens(); ++t) {
      for (uint64_t c = 0; c < ffn; ++c) {
        const double gate = row(gate_up, t)[c], up = row(gate_up, t)[ffn + c];
        row(out, t)[c] = static_cast<float>(gate / (1.0 + std::exp(-gate)) * up);
      }
    }
  }

  void gather_logit_rows(BufferId x, BufferId out) override {
    for (uint32_t r = 0; r < logit_rows(); ++r)
      std::copy_n(row(x, batch_.logit_rows[r]), buffers_[x.index].cols, row(out, r));
  }

  void read_rows(BufferId x, uint32_t rows, std::span<float> out) override {
    std::copy_n(buffers_[x.index].values.begin(), rows * buffers_[x.index].cols, out.begin());
  }
  void write_rows(BufferId x, uint32_t rows, std::span<const float> in) override {
    std::copy_n(in.begin(), rows * buffers_[x.index].cols, buffers_[x.index].values.begin());
  }

 private:
  uint32_t tokens() const { return static_cast<uint32_t>(batch_.token_ids.size()); }
  uint32_t logit_rows() const { return static_cast<uint32_t>(batch_.logit_rows.size()); }
  uint64_t kv_width() const { return static_cast<uint64_t>(shape_.num_kv_heads) * shape_.head_dim; }
  float* row(BufferId x, uint64_t index) { return &buffers_[x.index].values[index * buffers_[x.index].cols]; }
  float store(float value) const { return bf16_ ? bf16_to_f32(f32_to_bf16(value)) : value; }

  // K [kv heads, head_dim], then V, of one slot.
  float* cache(uint32_t layer, uint64_t slot) {
    const uint64_t slots = static_cast<uint64_t>(limits_.num_blocks) * limits_.block_size;
    return &cache_[(layer * slots + slot) * 2 * kv_width()];
  }

  std::vector<float> read(const HostTensor& tensor) const {
    std::vector<float> values(tensor.count());
    tensor_values(tensor, values);
    for (float& value : values) value = store(value);
    return values;
  }

  static void normalise(const float* x, uint64_t count, const std::vector<float>& weight, float eps, float* out) {
    double squares = 0;
    for (uint64_t c = 0; c < count; ++c) squares += static_cast<double>(x[c]) * x[c];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(count) + eps);
    for (uint64_t c = 0; c < count; ++c) out[c] = static_cast<float>(x[c] * scale * weight[c]);
  }

  void norm_rows(uint32_t rows, BufferId x, VectorId weight, float eps, BufferId out) {
    for (uint32_t r = 0; r < rows; ++r)
      normalise(row(x, r), buffers_[x.index].cols, vectors_[weight.index], eps, row(out, r));
  }

  void multiply(uint32_t rows, BufferId x, LinearId weight, BufferId out) {
    const Matrix& matrix = linears_[weight.index];
    CHECK(buffers_[x.index].cols == matrix.cols && buffers_[out.index].cols == matrix.rows, "linear: shapes differ");
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint64_t o = 0; o < matrix.rows; ++o) {
        double sum = matrix.bias.empty() ? 0.0 : matrix.bias[o];
        for (uint64_t c = 0; c < matrix.cols; ++c)
          sum += static_cast<double>(row(x, r)[c]) * matrix.values[o * matrix.cols + c];
        row(out, r)[o] = static_cast<float>(sum);
      }
    }
  }

  void rotate(float* head, uint32_t position) const {
    const uint32_t half = shape_.head_dim / 2;
    for (uint32_t i = 0; i < half; ++i) {
      const double angle = static_cast<float>(position) * shape_.inv_freq[i];  // rounded to fp32, as in training
      const double cosine = std::cos(angle), sine = std::sin(angle), a = head[i], b = head[i + half];
      head[i] = static_cast<float>(a * cosine - b * sine);
      head[i + half] = static_cast<float>(b * cosine + a * sine);
    }
  }

  void attend(const SequenceSlice& slice, uint32_t token, uint32_t visible, uint32_t head, BufferId qkv, uint32_t layer,
              BufferId out) {
    const uint32_t d = shape_.head_dim, kv_head = head / (shape_.num_q_heads / shape_.num_kv_heads);
    const float* q = row(qkv, token) + head * d;
    const auto slot = [&](uint32_t position) {
      const uint32_t block = batch_.block_tables[slice.block_begin + position / limits_.block_size];
      return cache(layer, static_cast<uint64_t>(block) * limits_.block_size + position % limits_.block_size);
    };
    std::vector<double> scores(visible), sum(d, 0.0);
    for (uint32_t p = 0; p < visible; ++p) {
      const float* k = slot(p) + kv_head * d;
      double score = 0;
      for (uint32_t i = 0; i < d; ++i) score += static_cast<double>(q[i]) * k[i];
      scores[p] = score * shape_.attention_scale;
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (uint32_t p = 0; p < visible; ++p) {
      const double weight = std::exp(scores[p] - largest);
      const float* v = slot(p) + kv_width() + kv_head * d;
      total += weight;
      for (uint32_t i = 0; i < d; ++i) sum[i] += weight * v[i];
    }
    float* to = row(out, token) + head * d;
    for (uint32_t i = 0; i < d; ++i) to[i] = static_cast<float>(sum[i] / total);
  }

  bool bf16_;
  AttentionShape shape_;
  RunnerLimits limits_;
  Batch batch_;
  std::vector<Matrix> linears_, embeddings_, buffers_;
  std::vector<std::vector<float>> vectors_;
  std::vector<float> cache_;
};

constexpr std::string_view kEmulated = ":emulated";
constexpr const char* kEveryName[] = {"cpu:portable", "cpu:avx2", "cpu:avx512", "cpu:avx512bf16", "cuda"};

Result<std::unique_ptr<Backend>> make_emulated(const std::string& isa, const BackendOptions& options) {
  const cpu::Kernels* kernels = nullptr;
  for (const cpu::Isa each : cpu::kEveryIsa)
    if (isa == cpu::isa_name(each)) kernels = emulated_kernels(each);
  if (kernels == nullptr) return unimplemented("emulated kernels for '" + isa + "' are not to be had on this machine");
  return cpu::make_cpu_backend_over(*kernels, options);
}

}  // namespace

std::unique_ptr<Backend> make_reference_backend(const std::string& dtype) {
  return std::make_unique<ReferenceBackend>(dtype == "bf16");
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name, const std::string& dtype, uint32_t threads) {
  if (name == "reference") return make_reference_backend(dtype);
  BackendOptions options;
  options.dtype = dtype, options.threads = threads;
  if (name.starts_with("cpu:") && name.ends_with(kEmulated))
    return make_emulated(name.substr(4, name.size() - 4 - kEmulated.size()), options);
  if (name.starts_with("cpu:")) options.isa = name.substr(4);
  if (name.starts_with("cpu")) return make_cpu_backend(options);
  if (name == "cuda") return make_cuda_backend(options);
  return invalid_argument("--backend: expected reference, cpu, cpu:ISA, cpu:ISA:emulated or cuda, got " +
                          name);
}

std::vector<std::string> backend_names() {
  if (const std::string asked = option("backend"); !asked.empty()) return {asked};
  std::vector<std::string> names;
  for (const std::string name : kEveryName) {
    if (make_backend(name, "f32").ok()) {
      names.push_back(name);
      continue;
    }
    const std::string emulated = name + std::string(kEmulated);
    if (make_backend(emulated, "f32").ok()) names.push_back(emulated);
  }
  return names;
}

}  // namespace quern::test
