#include "make_checkpoint_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>

#include "base/float16.h"
#include "base/hash.h"

namespace quern {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
constexpr size_t kChunkElements = 1 << 18;

bool ends_with(const std::string& text, const char* tail) { return text.ends_with(tail); }

std::string kind_of(const std::string& name) {
  for (const char* kind : {"q", "k", "v", "o", "gate", "up", "down"})
    if (name.find(std::string(".") + kind + "_proj.") != std::string::npos) return kind;
  return name.find("embed_tokens") != std::string::npos ? "embed" : "lm_head";
}

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

Status write_error(const std::string& path) {
  return failed_precondition(path + ": cannot write: " + std::strerror(errno));
}

Status write_text(const std::string& path, const std::string& text) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file || std::fwrite(text.data(), 1, text.size(), file.get()) != text.size() || std::fflush(file.get()) != 0)
    return write_error(path);
  return Status();
}

std::string header_of(std::span<const CheckpointTensor> tensors, DType dtype) {
  const char* name = dtype == DType::kF32 ? "F32" : dtype == DType::kF16 ? "F16" : "BF16";
  std::string text = "{\"__metadata__\":{\"format\":\"pt\"}";
  uint64_t position = 0;
  for (const CheckpointTensor& tensor : tensors) {
    const uint64_t end = position + tensor.count() * dtype_size(dtype);
    text += ",\"" + tensor.name + "\":{\"dtype\":\"" + name + "\",\"shape\":[" + std::to_string(tensor.rows);
    if (tensor.cols != 0) text += "," + std::to_string(tensor.cols);
    text += "],\"data_offsets\":[" + std::to_string(position) + "," + std::to_string(end) + "]}";
    position = end;
  }
  text += "}";
  while (text.size() % 8 != 0) text += ' ';
  return text;
}

bool write_tensor(std::FILE* file, const CheckpointTensor& tensor, const CheckpointOptions& options) {
  std::vector<uint16_t> values(std::min<uint64_t>(kChunkElements, tensor.count()));
  std::vector<float> wide;
  for (uint64_t first = 0; first < tensor.count(); first += kChunkElements) {
    const size_t count = std::min<uint64_t>(kChunkElements, tensor.count() - first);
    const std::span<uint16_t> chunk(values.data(), count);
    make_weights(tensor, options, first, chunk);
    const void* bytes = chunk.data();
    if (options.dtype == DType::kF16)
      for (uint16_t& value : chunk) value = f32_to_f16(bf16_to_f32(value));
    if (options.dtype == DType::kF32) {
      wide.resize(count);
      std::transform(chunk.begin(), chunk.end(), wide.begin(), bf16_to_f32);
      bytes = wide.data();
    }
    if (std::fwrite(bytes, dtype_size(options.dtype), count, file) != count) return false;
  }
  return true;
}

Status write_file(const std::string& path, std::span<const CheckpointTensor> tensors,
                  const CheckpointOptions& options) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) return write_error(path);
  const std::string header = header_of(tensors, options.dtype);
  uint8_t length[8];
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(header.size() >> (8 * i));
  bool good = std::fwrite(length, 1, 8, file.get()) == 8 &&
              std::fwrite(header.data(), 1, header.size(), file.get()) == header.size();
  for (size_t i = 0; good && i < tensors.size(); ++i) good = write_tensor(file.get(), tensors[i], options);
  if (!good || std::fflush(file.get()) != 0) return write_error(path);
  return Status();
}

// Cuts the list where the data of a file would pass shard_bytes; every file holds at least one tensor.
std::vector<std::span<const CheckpointTensor>> cut(std::span<const CheckpointTensor> tensors,
                                                   const CheckpointOptions& options) {
  std::vector<std::span<const CheckpointTensor>> shards;
  size_t begin = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t size = tensors[i].count() * dtype_size(options.dtype);
    if (i > begin && bytes + size > options.shard_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i, bytes = 0;
    }
    bytes += size;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

std::string config_text(const char* model_type, const char* architecture, int hidden, int layers, int heads,
                        int kv_heads, int head_dim, int ffn, int vocabulary, int context, bool tied) {
  char text[1024];
  std::snprintf(text, sizeof(text),
                "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n  \"hidden_size\": %d,\n"
                "  \"num_hidden_layers\": %d,\n  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n"
                "  \"head_dim\": %d,\n  \"intermediate_size\": %d,\n  \"vocab_size\": %d,\n"
                "  \"max_position_embeddings\": %d,\n  \"rms_norm_eps\": 1e-06,\n  \"rope_theta\": 1000000.0,\n"
                "  \"hidden_act\": \"silu\",\n  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"bfloat16\"\n}\n",
                architecture, model_type, hidden, layers, heads, kv_heads, head_dim, ffn, vocabulary, context,
                tied ? "true" : "false");
  return text;
}

}  // namespace

std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config) {
  const uint64_t hidden = config.hidden_size, q = static_cast<uint64_t>(config.num_q_heads) * config.head_dim,
                 kv = static_cast<uint64_t>(config.num_kv_heads) * config.head_dim;
  std::vector<CheckpointTensor> tensors;
  const auto linear = [&](const std::string& name, uint64_t rows, uint64_t cols, bool bias) {
    tensors.push_back({name + ".weight", rows, cols});
    if (bias) tensors.push_back({name + ".bias", rows, 0});
  };
  linear("model.embed_tokens", config.vocabulary_size, hidden, false);
  for (uint32_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    linear(prefix + "self_attn.q_proj", q, hidden, config.qkv_bias);
    linear(prefix + "self_attn.k_proj", kv, hidden, config.qkv_bias);
    linear(prefix + "self_attn.v_proj", kv, hidden, config.qkv_bias);
    linear(prefix + "self_attn.o_proj", hidden, q, config.o_bias);
    if (config.qk_norm) {
      tensors.push_back({prefix + "self_attn.q_norm.weight", config.head_dim, 0});
      tensors.push_back({prefix + "self_attn.k_norm.weight", config.head_dim, 0});
    }
    linear(prefix + "mlp.gate_proj", config.ffn_size, hidden, config.mlp_bias);
    linear(prefix + "mlp.up_proj", config.ffn_size, hidden, config.mlp_bias);
    linear(prefix + "mlp.down_proj", hidden, config.ffn_size, config.mlp_bias);
    tensors.push_back({prefix + "input_layernorm.weight", hidden, 0});
    tensors.push_back({prefix + "post_attention_layernorm.weight", hidden, 0});
  }
  tensors.push_back({"model.norm.weight", hidden, 0});
  if (!config.tied_embeddings) linear("lm_head", config.vocabulary_size, hidden, false);
  return tensors;
}

void make_weights(const CheckpointTensor& tensor, const CheckpointOptions& options, uint64_t first,
                  std::span<uint16_t> values) {
  const uint64_t start = fnv1a64(tensor.name) + options.seed * kGolden + first;
  const bool norm = ends_with(tensor.name, "norm.weight"), bias = ends_with(tensor.name, ".bias");
  float scale = norm ? 0.25f : 0.1f;
  if (!norm && !bias) {
    const auto gain = options.gains.find(kind_of(tensor.name));
    const double factor = gain == options.gains.end() ? 1.0 : gain->second;
    scale = static_cast<float>(factor * std::sqrt(3.0 / static_cast<double>(tensor.cols)));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t h = splitmix64(start + i);
    const float f = static_cast<float>(h >> 40) * 0x1p-23f - 1.0f;  // 24 bits: every step is exact
    const float product = f * scale;
    values[i] = f32_to_bf16(norm ? 1.0f + product : product);
  }
}

std::map<std::string, double> default_gains(const ModelConfig& config) {
  // Without q/k norm the scores grow with the hidden values; a smaller gain keeps the softmax from a hard choice.
  const double qk = config.qk_norm ? 2.5 : 1.25;
  return {{"embed", 3.0}, {"q", qk},   {"k", qk},     {"v", 1.5},      {"o", 1.5},
          {"gate", 1.5},  {"up", 1.5}, {"down", 1.5}, {"lm_head", 4.0}};
}

Status write_checkpoint(const std::string& folder, const std::string& config_json, const CheckpointOptions& given) {
  Result<ModelConfig> config = parse_model_config("config.json", config_json, "");
  QUERN_RETURN_IF_ERROR(config.status());
  CheckpointOptions options = given;
  options.gains.merge(default_gains(*config));
  QUERN_RETURN_IF_ERROR(write_text(folder + "/config.json", config_json));
  const std::vector<CheckpointTensor> tensors = checkpoint_tensors(*config);
  if (options.shard_bytes == 0) return write_file(folder + "/model.safetensors", tensors, options);
  const auto shards = cut(tensors, options);
  std::string map;
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    QUERN_RETURN_IF_ERROR(write_file(folder + "/" + name, shards[i], options));
    for (const CheckpointTensor& tensor : shards[i])
      map += std::string(map.empty() ? "\n" : ",\n") + "    \"" + tensor.name + "\": \"" + name + "\"";
  }
  uint64_t bytes = 0;
  for (const CheckpointTensor& tensor : tensors) bytes += tensor.count() * dtype_size(options.dtype);
  return write_text(
      folder + "/model.safetensors.index.json",
      "{\n  \"metadata\": {\"total_size\": " + std::to_string(bytes) + "},\n  \"weight_map\": {" + map + "\n  }\n}\n");
}

std::string config_of_shape(const std::string& name) {
  if (name == "tiny") return config_text("qwen2", "Qwen2ForCausalLM", 64, 2, 4, 2, 16, 160, 512, 1024, true);
  if (name == "qwen2.5-0.5b")
    return config_text("qwen2", "Qwen2ForCausalLM", 896, 24, 14, 2, 64, 4864, 151936, 32768, true);
  if (name == "qwen2.5-1.5b")
    return config_text("qwen2", "Qwen2ForCausalLM", 1536, 28, 12, 2, 128, 8960, 151936, 32768, true);
  if (name == "qwen3-0.6b")
    return config_text("qwen3", "Qwen3ForCausalLM", 1024, 28, 16, 8, 128, 3072, 151936, 40960, true);
  return "";
}

}  // namespace quern
