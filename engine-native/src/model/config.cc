#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mutant.h"

namespace quern {
namespace {

struct Family {
  std::string_view model_type, architecture;
};
constexpr Family kFamilies[] = {
    {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}, {"llama", "LlamaForCausalLM"}};

// Keys of other architectures that change the maths. Absent, null, false and the given neutral value pass.
struct Refused {
  std::string_view key;
  std::optional<double> neutral;
};
constexpr Refused kRefused[] = {
    {"quantization_config", {}},
    {"compression_config", {}},
    {"num_experts", 0},
    {"num_local_experts", 0},
    {"n_routed_experts", 0},
    {"shared_expert_intermediate_size", 0},
    {"attn_logit_softcapping", {}},
    {"final_logit_softcapping", {}},
    {"logits_soft_cap", {}},
    {"partial_rotary_factor", 1},
    {"rotary_pct", 1},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"attention_multiplier", {}},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"scale_emb", 1},
    {"scale_depth", {}},
    {"query_pre_attn_scalar", {}},
    {"use_mrope", {}},
    {"no_rope_layers", {}},
    {"attention_chunk_size", {}},
    {"use_parallel_residual", {}},
    {"attn_temperature_tuning", {}},
    {"kv_lora_rank", {}},
    {"cla_share_factor", {}},
};

// Reads keys with defaults; the first error stays.
class ConfigReader {
 public:
  ConfigReader(const std::string& path, JsonValue root) : path_(path), root_(root) {}

  Result<ModelConfig> read() {
    read_family();
    if (status_.ok()) read_shape();
    if (status_.ok()) read_switches();
    if (status_.ok()) read_rope();
    if (status_.ok()) refuse_foreign_maths();
    if (status_.ok()) check_shape();
    if (!status_.ok()) return status_;
    return config_;
  }

 private:
  void fail(const std::string& key, const std::string& what) {
    if (status_.ok()) status_ = unimplemented(path_ + ": " + key + ": " + what);
  }

  static std::optional<JsonValue> get(JsonValue from, std::string_view key) {
    auto value = from.find(key);
    return value && !value->is_null() ? value : std::nullopt;
  }
  std::optional<JsonValue> get(std::string_view key) const { return get(root_, key); }

  uint32_t whole(const char* key, uint32_t most, std::optional<uint32_t> fallback = std::nullopt) {
    const auto value = get(key);
    if (!value) {
      if (!fallback) fail(key, "expected a whole number, it is missing");
      return fallback.value_or(0);
    }
    const auto number = value->as_u64();
    if (!number || *number < 1 || *number > most) {
      fail(key, "expected a whole number from 1 to " + std::to_string(most) + ", got " + value->excerpt());
      return 0;
    }
    return static_cast<uint32_t>(*number);
  }

  double real(JsonValue from, const char* key, std::optional<double> fallback) {
    const auto value = get(from, key);
    const auto number = value ? value->as_double() : fallback;
    if (!number || !(*number > 0)) {
      fail(key, "expected a number above 0, got " + (value ? value->excerpt() : std::string("nothing")));
      return 1;
    }
    return *number;
  }

  bool truth(const char* key, bool fallback) {
    const auto value = get(key);
    if (!value) return fallback;
    const auto flag = value->as_bool();
    if (!flag) fail(key, "expected true or false, got " + value->excerpt());
    return flag.value_or(fallback);
  }

  std::string text(JsonValue from, const char* key, const char* fallback) {
    const auto value = get(from, key);
    if (!value) return fallback;
    const auto string = value->as_string();
    if (!string) fail(key, "expected a string, got " + value->excerpt());
    return std::string(string.value_or(""));
  }

  void read_family() {
    if (!root_.is_object()) return fail("(whole file)", "expected an object, got " + root_.excerpt());
    config_.model_type = text(root_, "model_type", "");
    const auto* family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                      [&](const Family& f) { return f.model_type == config_.model_type; });
    if (family == std::end(kFamilies))
      return fail("model_type", "expected qwen2, qwen3 or llama, got \"" + config_.model_type.substr(0, 60) + "\"");
    config_.architecture = family->architecture;
    const auto list = get("architectures");
    const auto first = list && list->is_array() ? list->first() : std::nullopt;
    if (first && first->as_string() != family->architecture)
      fail("architectures", "expected \"" + config_.architecture + "\", got " + first->excerpt());
    config_.dtype = get("dtype") ? text(root_, "dtype", "") : text(root_, "torch_dtype", "");
  }

  void read_shape() {
    using namespace limits;
    config_.vocabulary_size = whole("vocab_size", kVocabularyMax);
    config_.hidden_size = whole("hidden_size", kHiddenSizeMax);
    config_.ffn_size = whole("intermediate_size", kFfnSizeMax);
    config_.num_layers = whole("num_hidden_layers", kLayersMax);
    config_.num_q_heads = whole("num_attention_heads", kHeadsMax);
    config_.num_kv_heads = whole("num_key_value_heads", kHeadsMax, config_.num_q_heads);
    config_.context_length = whole("max_position_embeddings", kContextLengthMax);
    config_.rms_norm_eps = static_cast<float>(real(root_, "rms_norm_eps", 1e-6));
    const uint32_t implied = config_.num_q_heads == 0 ? 0 : config_.hidden_size / config_.num_q_heads;
    // Qwen3's own default is 128 whatever the hidden size; the others divide.
    config_.head_dim = whole("head_dim", kHeadDimMax, config_.model_type == "qwen3" ? 128 : implied);
    if (!get("head_dim") && config_.model_type != "qwen3" && config_.num_q_heads * implied != config_.hidden_size)
      fail("hidden_size", "expected a multiple of num_attention_heads " + std::to_string(config_.num_q_heads) +
                              " where head_dim is absent, got " + std::to_string(config_.hidden_size));
  }

  void read_switches() {
    const std::string activation = text(root_, "hidden_act", "silu");
    if (activation != "silu") fail("hidden_act", "expected \"silu\", got \"" + activation.substr(0, 60) + "\"");
    config_.tied_embeddings = truth("tie_word_embeddings", false);
    config_.qk_norm = config_.model_type == "qwen3";
    const bool attention_bias = config_.model_type != "qwen2" && truth("attention_bias", false);
    config_.qkv_bias = config_.model_type == "qwen2" || attention_bias;
    config_.o_bias = attention_bias;
    config_.mlp_bias = config_.model_type == "llama" && truth("mlp_bias", false);
    if (truth("use_sliding_window", false)) fail("use_sliding_window", "sliding window attention is not implemented");
    if (const auto window = get("sliding_window"); window && config_.model_type == "llama")
      fail("sliding_window", "sliding window attention is not implemented, got " + window->excerpt());
    if (const auto types = get("layer_types")) {
      for (auto type = types->first(); type; type = type->next())
        if (type->as_string() != "full_attention")
          return fail("layer_types", "expected \"full_attention\" only, got " + type->excerpt());
    }
  }

  void read_rope() {
    RopeConfig& rope = config_.rope;
    rope.theta = real(root_, "rope_theta", 10000.0);
    const char* key = get("rope_parameters") ? "rope_parameters" : "rope_scaling";
    const auto scaling = get(key);
    if (!scaling) return;
    if (!scaling->is_object()) return fail(key, "expected an object, got " + scaling->excerpt());
    rope.theta = real(*scaling, "rope_theta", rope.theta);
    if (const auto partial = get(*scaling, "partial_rotary_factor"); partial && partial->as_double() != 1.0)
      return fail("partial_rotary_factor", "expected 1, got " + partial->excerpt());
    std::string type = text(*scaling, "rope_type", "");
    if (type.empty()) type = text(*scaling, "type", "default");
    if (type == "default") return;
    if (type != "linear" && type != "llama3")
      return fail(std::string(key) + ".rope_type",
                  "expected default, linear or llama3, got \"" + type.substr(0, 60) + "\"");
    rope.factor = real(*scaling, "factor", std::nullopt);
    rope.scaling = type == "linear" ? RopeScaling::kLinear : RopeScaling::kLlama3;
    if (type == "linear") return;
    rope.low_freq_factor = real(*scaling, "low_freq_factor", std::nullopt);
    rope.high_freq_factor = real(*scaling, "high_freq_factor", std::nullopt);
    rope.original_context_length = real(*scaling, "original_max_position_embeddings", std::nullopt);
    if (status_.ok() && !(rope.high_freq_factor > rope.low_freq_factor))
      fail("high_freq_factor", "expected more than low_freq_factor");
  }

  void refuse_foreign_maths() {
    for (const Refused& refused : kRefused) {
      const auto value = get(refused.key);
      if (!value || value->as_bool() == false) continue;
      if (refused.neutral && value->as_double() == refused.neutral) continue;
      const std::string given = value->is_object() ? "" : ", got " + value->excerpt();
      return fail(std::string(refused.key), "this changes the maths and is not implemented" + given);
    }
  }

  void check_shape() {
    const std::string heads = std::to_string(config_.num_q_heads);
    if (config_.num_q_heads % config_.num_kv_heads != 0)
      return fail("num_key_value_heads", "expected a divisor of num_attention_heads " + heads + ", got " +
                                             std::to_string(config_.num_kv_heads));
    if (config_.head_dim % 2 != 0)
      return fail("head_dim", "expected an even number, got " + std::to_string(config_.head_dim));
  }

  const std::string& path_;
  JsonValue root_;
  ModelConfig config_;
  Status status_;
};

// eos_token_id: null, a number or a list of numbers.
Status add_eos(const std::string& path, JsonValue root, ModelConfig& config) {
  const auto value = root.find("eos_token_id");
  if (!value || value->is_null()) return Status();
  auto item = value->is_array() ? value->first() : value;
  for (; item; item = value->is_array() ? item->next() : std::nullopt) {
    const auto id = item->as_u64();
    if (!id || *id >= config.vocabulary_size)
      return invalid_argument(path + ": eos_token_id: expected ids below vocab_size " +
                              std::to_string(config.vocabulary_size) + ", got " + item->excerpt());
    config.eos_token_ids.push_back(static_cast<uint32_t>(*id));
  }
  auto& ids = config.eos_token_ids;
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.size() > limits::kEosTokensMax)
    return invalid_argument(path + ": eos_token_id: expected at most " + std::to_string(limits::kEosTokensMax) +
                            " ids");
  return Status();
}

}  // namespace

Result<ModelConfig> parse_model_config(const std::string& path, std::string_view config_json,
                                       std::string_view generation_config_json) {
  auto document = parse_json(config_json);
  if (!document.ok()) return invalid_argument(path + ": " + document.status().message());
  Result<ModelConfig> config = ConfigReader(path, (*document)->root()).read();
  QUERN_RETURN_IF_ERROR(config.status());
  QUERN_RETURN_IF_ERROR(add_eos(path, (*document)->root(), *config));
  if (generation_config_json.empty()) return config;
  auto generation = parse_json(generation_config_json);
  if (!generation.ok()) return invalid_argument("generation_config.json: " + generation.status().message());
  QUERN_RETURN_IF_ERROR(add_eos("generation_config.json", (*generation)->root(), *config));
  return config;
}

Result<ModelConfig> read_model_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  Result<std::string> text = read_text_file(path, limits::kConfigBytesMax);
  QUERN_RETURN_IF_ERROR(text.status());
  Result<std::string> generation = read_text_file(folder + "/generation_config.json", limits::kConfigBytesMax);
  if (!generation.ok() && generation.status().code() != Code::kNotFound) return generation.status();
  return parse_model_config(path, *text, generation.ok() ? *generation : std::string());
}

std::vector<float> rope_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> frequencies(config.head_dim / 2);
  for (uint32_t i = 0; i < frequencies.size(); ++i) {
    // The exponent and the power are rounded to fp32 one after the other, as the training code does.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const double power = std::pow(rope.theta, static_cast<double>(exponent));
    const float f = 1.0f / static_cast<float>(power);
    double scaled = f;
    if (rope.scaling == RopeScaling::kLinear) scaled = f / rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) {
      const double wavelength = 2.0 * std::numbers::pi / f;
      const double context = rope.original_context_length;
      const double between =
          (context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      if (wavelength > context / rope.low_freq_factor) {
        scaled = f / rope.factor;
      } else if (wavelength >= context / rope.high_freq_factor && !mutant(11)) {
        scaled = (1.0 - between) * f / rope.factor + between * f;
      }
    }
    frequencies[i] = static_cast<float>(scaled);
  }
  return frequencies;
}

Result<uint32_t> defined_token_count(const std::string& folder, const ModelConfig& config) {
  const std::string path = folder + "/tokenizer.json";
  Result<std::string> text = read_text_file(path, limits::kTokenizerBytesMax);
  if (!text.ok() && text.status().code() == Code::kNotFound) return config.vocabulary_size;
  QUERN_RETURN_IF_ERROR(text.status());
  JsonLimits json_limits;
  json_limits.bytes_max = limits::kTokenizerBytesMax;
  auto document = parse_json(*text, json_limits);
  if (!document.ok()) return invalid_argument(path + ": " + document.status().message());
  const JsonValue root = (*document)->root();
  uint64_t count = 0;
  const auto model = root.find("model");
  const auto vocabulary = model ? model->find("vocab") : std::nullopt;
  if (vocabulary && vocabulary->is_array()) {
    count = vocabulary->size();  // Unigram: a list of [piece, score], the id is the place
  } else {
    for (auto id = vocabulary ? vocabulary->first() : std::nullopt; id; id = id->next())
      count = std::max(count, std::min<uint64_t>(id->as_u64().value_or(0), limits::kVocabularyMax) + 1);
  }
  if (count > config.vocabulary_size || count == 0)
    return invalid_argument(path + ": defines " + std::to_string(count) + " ids, the model's vocab_size is " +
                            std::to_string(config.vocabulary_size) + "; do both belong to one model?");
  // An added token beyond the embedding (a padding token, usually) can neither come in nor go out.
  const auto added = root.find("added_tokens");
  for (auto token = added ? added->first() : std::nullopt; token; token = token->next()) {
    const auto id = token->find("id");
    const uint64_t end = id ? std::min<uint64_t>(id->as_u64().value_or(0), limits::kVocabularyMax) + 1 : 0;
    if (end <= config.vocabulary_size) count = std::max(count, end);
  }
  return static_cast<uint32_t>(count);
}

}  // namespace quern
