#include "model/model_tensors.h"

#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "base/mutant.h"

namespace quern {
namespace {

// The number of K slices that o and down are summed over, so that tensor-parallel ranks give the same bits.
constexpr uint32_t kReductionSlices = 4;

// Takes tensors by name, remembers which, and keeps the first error.
class TensorFinder {
 public:
  TensorFinder(const ModelConfig& config, const WeightFiles& weights) : config_(config), weights_(weights) {}

  Result<ModelTensors> find() {
    ModelTensors model;
    const uint64_t vocabulary = config_.vocabulary_size, hidden = config_.hidden_size;
    model.embedding = matrix("model.embed_tokens.weight", vocabulary, hidden);
    model.final_norm = vector("model.norm.weight", hidden);
    if (!config_.tied_embeddings && !mutant(12)) {
      model.head = matrix("lm_head.weight", vocabulary, hidden);
    } else if (weights_.contains("lm_head.weight")) {
      check_tied_head(model.embedding, matrix("lm_head.weight", vocabulary, hidden));
    }
    for (uint32_t layer = 0; layer < config_.num_layers && status_.ok(); ++layer)
      model.layers.push_back(find_layer("model.layers." + std::to_string(layer) + "."));
    if (status_.ok()) refuse_unknown();
    if (!status_.ok()) return status_;
    model.parameter_count = parameter_count_;
    model.bytes = bytes_;
    return model;
  }

 private:
  HostTensor keep(Result<HostTensor> found) {
    if (!found.ok()) {
      if (status_.ok()) status_ = found.status();
      return HostTensor();
    }
    used_.insert(found->name);
    parameter_count_ += found->count();
    bytes_ += found->count() * dtype_size(found->dtype);
    return *found;
  }
  HostTensor matrix(const std::string& name, uint64_t rows, uint64_t cols) {
    return keep(weights_.matrix(name, rows, cols));
  }
  HostTensor vector(const std::string& name, uint64_t rows) { return keep(weights_.vector(name, rows)); }

  // One or several projections of the same input, stacked.
  struct Part {
    const char* name;
    uint64_t rows;
  };
  LinearSource linear(const std::string& prefix, std::initializer_list<Part> parts, uint64_t cols, bool bias) {
    LinearSource source;
    for (const Part& part : parts) {
      source.parts.push_back(matrix(prefix + part.name + ".weight", part.rows, cols));
      if (!bias) continue;
      const HostTensor values = vector(prefix + part.name + ".bias", part.rows);
      if (!mutant(7)) source.bias.emplace_back(values);
    }
    return source;
  }

  LayerTensors find_layer(const std::string& prefix) {
    const uint64_t hidden = config_.hidden_size, ffn = config_.ffn_size, head_dim = config_.head_dim;
    const uint64_t q = config_.num_q_heads * head_dim, kv = config_.num_kv_heads * head_dim;
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    LayerTensors layer;
    layer.input_norm = vector(prefix + "input_layernorm.weight", hidden);
    layer.post_attention_norm = vector(prefix + "post_attention_layernorm.weight", hidden);
    if (config_.qk_norm) {
      layer.q_norm = vector(attention + "q_norm.weight", head_dim);
      layer.k_norm = vector(attention + "k_norm.weight", head_dim);
    }
    layer.qkv = linear(attention, {{"q_proj", q}, {"k_proj", kv}, {"v_proj", kv}}, hidden, config_.qkv_bias);
    layer.o = linear(attention, {{"o_proj", hidden}}, q, config_.o_bias);
    layer.gate_up = linear(mlp, {{"gate_proj", ffn}, {"up_proj", ffn}}, hidden, config_.mlp_bias);
    layer.down = linear(mlp, {{"down_proj", hidden}}, ffn, config_.mlp_bias);
    layer.o.k_slices = layer.down.k_slices = kReductionSlices;
    return layer;
  }

  void check_tied_head(const HostTensor& embedding, const HostTensor& head) {
    if (!status_.ok()) return;
    parameter_count_ -= head.count();
    bytes_ -= head.count() * dtype_size(head.dtype);
    if (mutant(12)) return;
    if (head.dtype != embedding.dtype ||
        std::memcmp(head.data, embedding.data, head.count() * dtype_size(head.dtype)) != 0)
      status_ = failed_precondition(
          "tensor 'lm_head.weight' differs from the embedding, but config.json says tie_word_embeddings; "
          "expected tie_word_embeddings false or no such tensor");
  }

  void refuse_unknown() {
    for (const SafetensorsEntry& entry : weights_.entries()) {
      if (used_.contains(entry.name) || entry.name.ends_with(".rotary_emb.inv_freq")) continue;
      status_ = unimplemented("tensor '" + entry.name + "' has no place in a " + config_.model_type +
                              " model with this config.json; it would be ignored, so the model is refused");
      return;
    }
  }

  const ModelConfig& config_;
  const WeightFiles& weights_;
  std::set<std::string_view> used_;
  uint64_t parameter_count_ = 0, bytes_ = 0;
  Status status_;
};

}  // namespace

Result<ModelTensors> find_model_tensors(const ModelConfig& config, const WeightFiles& weights) {
  return TensorFinder(config, weights).find();
}

}  // namespace quern
