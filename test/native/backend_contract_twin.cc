#include "backend_contract_twin.h"

#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "parity_fixture.h"
#include "reference_backend.h"

namespace quern::test {

std::vector<float> random_values(std::mt19937_64& random, size_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

OwnedTensor::OwnedTensor(std::mt19937_64& random, uint64_t rows, uint64_t cols, DType dtype, float spread, float mean)
    : rows_(rows), cols_(cols), dtype_(dtype), bytes_(1 + rows * cols * dtype_size(dtype)) {
  const std::vector<float> values = random_values(random, rows * cols, spread);
  std::byte* out = bytes_.data() + 1;
  for (const float value : values) {
    const float shifted = mean + value;
    const uint16_t half = dtype == DType::kF16 ? f32_to_f16(shifted) : f32_to_bf16(shifted);
    if (dtype == DType::kF32) {
      std::memcpy(out, &shifted, 4);
    } else {
      std::memcpy(out, &half, 2);
    }
    out += dtype_size(dtype);
  }
}

HostTensor OwnedTensor::view() const {
  HostTensor tensor;
  tensor.name = "t", tensor.dtype = dtype_, tensor.rows = rows_, tensor.cols = cols_, tensor.data = bytes_.data() + 1;
  return tensor;
}

Twin::Twin(const std::string& backend_name, const std::string& dtype) : reference_(make_reference_backend(dtype)) {
  Result<std::unique_ptr<Backend>> made = make_backend(backend_name, dtype);
  EXPECT_OK(made);
  if (made.ok()) subject_ = std::move(*made);
}

void Twin::reserve_plain(uint32_t max_num_tokens, uint32_t max_logit_rows) {
  AttentionShape shape;
  shape.num_layers = shape.num_q_heads = shape.num_kv_heads = 1, shape.head_dim = 16;
  shape.inv_freq.assign(8, 1.0f), shape.attention_scale = 0.25f;
  RunnerLimits limits;
  limits.max_num_tokens = limits.max_num_seqs = max_num_tokens, limits.max_logit_rows = max_logit_rows;
  limits.context_length = 16, limits.num_blocks = max_num_tokens;
  reserve(shape, limits);
}

void Twin::reserve(const AttentionShape& shape, const RunnerLimits& limits) {
  limits_ = limits;
  EXPECT_OK(subject_->reserve(shape, limits));
  EXPECT_OK(reference_->reserve(shape, limits));
}

namespace {

template <typename Id>
Both<Id> both(Result<Id> subject, Result<Id> reference) {
  EXPECT_OK(subject);
  EXPECT_OK(reference);
  return {subject.ok() ? *subject : Id{}, reference.ok() ? *reference : Id{}};
}

}  // namespace

Both<LinearId> Twin::linear(const LinearSource& source) {
  return both(subject_->load_linear(source), reference_->load_linear(source));
}
Both<VectorId> Twin::vector(const HostTensor& source) {
  return both(subject_->load_vector(source), reference_->load_vector(source));
}
Both<EmbeddingId> Twin::embedding(const HostTensor& source) {
  return both(subject_->load_embedding(source), reference_->load_embedding(source));
}
Both<EmbeddingId> Twin::tie(Both<LinearId> head) {
  return both(subject_->tie_embedding(head.subject), reference_->tie_embedding(head.reference));
}
Both<BufferId> Twin::buffer(uint32_t cols, bool logit_rows_only) {
  return both(subject_->new_buffer(cols, logit_rows_only), reference_->new_buffer(cols, logit_rows_only));
}

void Twin::write(Both<BufferId> x, uint32_t rows, std::span<const float> values) {
  subject_->write_rows(x.subject, rows, values);
  reference_->write_rows(x.reference, rows, values);
}

void Twin::run(const std::function<void(Backend&, bool subject)>& op) {
  op(*subject_, true);
  op(*reference_, false);
}

void Twin::begin_step(const Batch& batch) {
  subject_->begin_step(batch);
  reference_->begin_step(batch);
}

std::vector<float> Twin::read(BufferId subject_buffer, uint32_t rows, uint32_t cols) {
  std::vector<float> values(static_cast<size_t>(rows) * cols);
  subject_->read_rows(subject_buffer, rows, values);
  return values;
}

void Twin::expect_same(Both<BufferId> x, uint32_t rows, uint32_t width, uint32_t cols, double tolerance,
                       const std::string& where) {
  std::vector<float> subject(static_cast<size_t>(rows) * width), reference(subject.size());
  subject_->read_rows(x.subject, rows, subject);
  reference_->read_rows(x.reference, rows, reference);
  for (uint32_t row = 0; row < rows; ++row) {
    const size_t at = static_cast<size_t>(row) * width;
    const double difference =
        relative_difference(std::span(subject).subspan(at, cols), std::span(reference).subspan(at, cols));
    EXPECT_MSG(difference <= tolerance, where + ": row " + std::to_string(row) + " of " + std::to_string(rows) +
                                            " differs by " + std::to_string(difference) + " of its rms");
    if (!(difference <= tolerance)) return;
  }
}

PlainBatch::PlainBatch(uint32_t num_tokens, std::vector<uint32_t> logit_rows)
    : token_ids(num_tokens), zeros_(num_tokens), logit_rows_(std::move(logit_rows)) {
  for (uint32_t i = 0; i < num_tokens; ++i) {
    slots_.push_back(i * 16);
    blocks_.push_back(i);
    slices_.push_back({i, 1, 1, i});
  }
}

Batch PlainBatch::batch() const {
  Batch batch;
  batch.token_ids = token_ids, batch.positions = zeros_, batch.slot_mapping = slots_;
  batch.sequences = slices_, batch.block_tables = blocks_, batch.logit_rows = logit_rows_;
  return batch;
}

}  // namespace quern::test
