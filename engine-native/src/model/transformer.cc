#include "model/transformer.h"

#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/mutant.h"
#include "model/batch_mutants.h"
#include "model/model_tensors.h"

namespace quern {
namespace {

// Uploads one tensor group after another and reports the bytes.
class Uploader {
 public:
  Uploader(Backend& backend, uint64_t total, const LoadProgress& progress)
      : backend_(backend), total_(total), progress_(progress) {}

  Status linear(const LinearSource& source, LinearId& out) {
    for (const HostTensor& part : source.parts) count(part);
    for (const auto& bias : source.bias)
      if (bias) count(*bias);
    return keep(backend_.load_linear(source), out);
  }
  Status vector(const HostTensor& source, VectorId& out) {
    count(source);
    return keep(backend_.load_vector(source), out);
  }
  Status embedding(const HostTensor& source, EmbeddingId& out) {
    count(source);
    return keep(backend_.load_embedding(source), out);
  }

 private:
  void count(const HostTensor& tensor) { pending_ += tensor.count() * dtype_size(tensor.dtype); }

  template <typename Id>
  Status keep(Result<Id> id, Id& out) {
    QUERN_RETURN_IF_ERROR(id.status());
    out = *id;
    done_ += std::exchange(pending_, 0);
    if (progress_) progress_("weights", done_, total_);
    return Status();
  }

  Backend& backend_;
  uint64_t total_, done_ = 0, pending_ = 0;
  const LoadProgress& progress_;
};

}  // namespace

AttentionShape Transformer::attention_shape(const ModelConfig& config) {
  AttentionShape shape;
  shape.num_layers = config.num_layers;
  shape.num_q_heads = config.num_q_heads;
  shape.num_kv_heads = config.num_kv_heads;
  shape.head_dim = config.head_dim;
  shape.inv_freq = rope_frequencies(config);
  shape.attention_scale = mutant(8) ? 1.0f : 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  return shape;
}

Result<std::unique_ptr<Transformer>> Transformer::load(const ModelConfig& config, const WeightFiles& weights,
                                                       Backend& backend, const LoadProgress& progress) {
  std::unique_ptr<Transformer> transformer(new Transformer(config, backend));
  QUERN_RETURN_IF_ERROR(transformer->load_weights(weights, progress));
  return transformer;
}

Status Transformer::load_weights(const WeightFiles& weights, const LoadProgress& progress) {
  Result<ModelTensors> tensors = find_model_tensors(config_, weights);
  QUERN_RETURN_IF_ERROR(tensors.status());
  parameter_count_ = tensors->parameter_count;
  Uploader upload(backend_, tensors->bytes, progress);
  if (tensors->head) {
    QUERN_RETURN_IF_ERROR(upload.embedding(tensors->embedding, embedding_));
    QUERN_RETURN_IF_ERROR(upload.linear(LinearSource{{*tensors->head}, {}, 1}, head_));
  } else {
    QUERN_RETURN_IF_ERROR(upload.linear(LinearSource{{tensors->embedding}, {}, 1}, head_));
    Result<EmbeddingId> tied = backend_.tie_embedding(head_);
    QUERN_RETURN_IF_ERROR(tied.status());
    embedding_ = *tied;
  }
  QUERN_RETURN_IF_ERROR(upload.vector(tensors->final_norm, final_norm_));
  layers_.reserve(tensors->layers.size());
  for (const LayerTensors& source : tensors->layers) {
    Layer& layer = layers_.emplace_back();
    QUERN_RETURN_IF_ERROR(upload.vector(source.input_norm, layer.input_norm));
    QUERN_RETURN_IF_ERROR(upload.vector(source.post_attention_norm, layer.post_attention_norm));
    if (source.q_norm) QUERN_RETURN_IF_ERROR(upload.vector(*source.q_norm, layer.q_norm.emplace()));
    if (source.k_norm) QUERN_RETURN_IF_ERROR(upload.vector(*source.k_norm, layer.k_norm.emplace()));
    QUERN_RETURN_IF_ERROR(upload.linear(source.qkv, layer.qkv));
    QUERN_RETURN_IF_ERROR(upload.linear(source.o, layer.o));
    QUERN_RETURN_IF_ERROR(upload.linear(source.gate_up, layer.gate_up));
    QUERN_RETURN_IF_ERROR(upload.linear(source.down, layer.down));
  }
  return Status();
}

namespace {

struct BufferShape {
  uint32_t cols;
  bool logit_rows_only;
};

// In the order of Transformer::Buffers.
std::array<BufferShape, 9> buffer_shapes(const ModelConfig& c) {
  const uint32_t q = c.num_q_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  return {{{c.hidden_size, false},
           {c.hidden_size, false},
           {q + 2 * kv, false},
           {q, false},
           {c.hidden_size, false},
           {2 * c.ffn_size, false},
           {c.ffn_size, false},
           {c.hidden_size, true},
           {c.vocabulary_size, true}}};
}

}  // namespace

uint64_t Transformer::activation_bytes(const ModelConfig& config, const RunnerLimits& limits) {
  uint64_t values = 0;
  for (const BufferShape& shape : buffer_shapes(config))
    values += uint64_t{shape.cols} * (shape.logit_rows_only ? limits.max_logit_rows : limits.max_num_tokens);
  return values * sizeof(float);
}

Status Transformer::reserve(const RunnerLimits& limits, uint32_t token_count) {
  CHECK(!buffers_.has_value(), "reserve() runs once");
  CHECK(token_count <= config_.vocabulary_size, "more tokens than rows of the embedding");
  limits_ = limits;
  token_count_ = token_count;
  QUERN_RETURN_IF_ERROR(backend_.reserve(attention_shape(config_), limits));
  Buffers buffers{};
  BufferId* const ids[] = {&buffers.residual, &buffers.normed,  &buffers.qkv, &buffers.attention, &buffers.delta,
                           &buffers.gate_up,  &buffers.ffn,     &buffers.last, &buffers.logits};
  const auto shapes = buffer_shapes(config_);
  static_assert(std::size(ids) == shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    Result<BufferId> id = backend_.new_buffer(shapes[i].cols, shapes[i].logit_rows_only);
    QUERN_RETURN_IF_ERROR(id.status());
    *ids[i] = *id;
  }
  buffers_ = buffers;
  return Status();
}

// Reads `normed`, which holds the input norm of this layer, and leaves the next layer's there.
void Transformer::run_layer(uint32_t index, const Layer& layer) {
  const Buffers& b = *buffers_;
  const float eps = mutant(4) ? 1e-4f : config_.rms_norm_eps;
  const bool norms = !mutant(1);
  backend_.linear(b.normed, layer.qkv, b.qkv);
  backend_.rope_and_cache(b.qkv, index, norms ? layer.q_norm : std::nullopt, norms ? layer.k_norm : std::nullopt, eps);
  backend_.attention(b.qkv, index, b.attention);
  backend_.linear(b.attention, layer.o, b.delta);
  backend_.add_rmsnorm(b.residual, b.delta, layer.post_attention_norm, eps, b.normed);
  backend_.linear(b.normed, layer.gate_up, b.gate_up);
  backend_.swiglu(b.gate_up, b.ffn);
  backend_.linear(b.ffn, layer.down, b.delta);
  const VectorId next_norm = index + 1 < layers_.size() ? layers_[index + 1].input_norm : final_norm_;
  if (mutant(10) && index == 0) {
    backend_.rmsnorm(b.residual, next_norm, eps, b.normed);
  } else {
    backend_.add_rmsnorm(b.residual, b.delta, next_norm, eps, b.normed);
  }
}

Status Transformer::forward(const Batch& given, std::span<float> logits, const std::atomic<bool>* interrupt) {
  CHECK(buffers_.has_value(), "forward() needs reserve()");
  const size_t columns = config_.vocabulary_size;
  CHECK(given.token_ids.size() <= limits_.max_num_tokens && given.sequences.size() <= limits_.max_num_seqs &&
            given.logit_rows.size() <= limits_.max_logit_rows,
        "a batch larger than the reserved limits");
  CHECK(logits.size() >= given.logit_rows.size() * columns, "no room for the logits");
  const BatchMutants mutated(given);
  const Batch& batch = mutated.batch();
  const Buffers& b = *buffers_;
  backend_.begin_step(batch);
  backend_.embed(embedding_, b.residual);
  backend_.rmsnorm(b.residual, layers_[0].input_norm, config_.rms_norm_eps, b.normed);
  for (uint32_t index = 0; index < layers_.size(); ++index) {
    if (interrupt != nullptr && interrupt->load(std::memory_order_relaxed))
      return Status(Code::kCancelled, "interrupted");
    run_layer(index, layers_[index]);
  }
  if (batch.logit_rows.empty()) return Status();
  const uint32_t rows = static_cast<uint32_t>(batch.logit_rows.size());
  backend_.gather_logit_rows(b.normed, b.last);
  backend_.linear_rows(b.last, head_, b.logits);
  backend_.read_rows(b.logits, rows, logits.first(rows * columns));
  for (size_t row = 0; row < rows; ++row)
    for (size_t column = token_count_; column < columns; ++column)
      logits[row * columns + column] = -std::numeric_limits<float>::infinity();
  return Status();
}

}  // namespace quern
