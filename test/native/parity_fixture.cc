#include "parity_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "test.h"

namespace quern::test {
namespace {

constexpr size_t kFixtureBytesMax = 16 << 20;

std::vector<uint8_t> decode_base64(std::string_view text) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<uint8_t> bytes;
  uint32_t bits = 0, count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((count += 6) < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<uint8_t>(bits >> count));
    bits &= (1u << count) - 1;
  }
  return bytes;
}

std::vector<uint32_t> read_ids(const std::optional<JsonValue>& array) {
  std::vector<uint32_t> ids;
  for (auto item = array ? array->first() : std::nullopt; item; item = item->next())
    ids.push_back(static_cast<uint32_t>(item->as_u64().value_or(0)));
  return ids;
}

FixturePrompt read_prompt(JsonValue value) {
  FixturePrompt prompt;
  prompt.ids = read_ids(value.find("ids"));
  prompt.greedy_ids = read_ids(value.find("greedy_ids"));
  const auto logits = value.find("logits");
  for (auto item = logits ? logits->first() : std::nullopt; item; item = item->next()) {
    FixtureLogits& row = prompt.logits.emplace_back();
    row.position = static_cast<uint32_t>(item->find("position")->as_u64().value_or(0));
    const std::vector<uint8_t> bytes = decode_base64(*item->find("values_b64")->as_string());
    row.values.resize(bytes.size() / sizeof(float));
    std::memcpy(row.values.data(), bytes.data(), row.values.size() * sizeof(float));
  }
  return prompt;
}

// The config is kept as text; JSON has no writer here, so it is cut out of the file: a flat object but for scaling.
std::string cut_object(const std::string& text, const std::string& key) {
  const size_t at = text.find("\"" + key + "\"");
  if (at == std::string::npos) return "";
  const size_t begin = text.find('{', at);
  int depth = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return text.substr(begin, i - begin + 1);
  }
  return "";
}

}  // namespace

const std::vector<std::string>& fixture_families() {
  static const std::vector<std::string> families = {"qwen2",        "qwen2-untied", "qwen3",
                                                    "qwen3-untied", "llama",        "llama3"};
  return families;
}

Result<Fixture> read_fixture(const std::string& family) {
  const std::string path = std::string(QUERN_GOLDEN_DIR) + "/engine/" + family + ".json";
  Result<std::string> text = read_text_file(path, kFixtureBytesMax);
  QUERN_RETURN_IF_ERROR(text.status());
  JsonLimits limits;
  limits.bytes_max = kFixtureBytesMax;
  auto document = parse_json(*text, limits);
  QUERN_RETURN_IF_ERROR(document.status());
  const JsonValue root = (*document)->root();
  Fixture fixture;
  fixture.family = family;
  fixture.config_json = cut_object(*text, "hf_config");
  fixture.checkpoint.seed = root.find("seed")->as_u64().value_or(0);
  const auto gains = root.find("gains");
  for (auto gain = gains->first(); gain; gain = gain->next())
    fixture.checkpoint.gains[std::string(gain->key())] = gain->as_double().value_or(0);
  const auto tensors = root.find("tensors");
  for (auto tensor = tensors->first(); tensor; tensor = tensor->next())
    fixture.checksums[std::string(tensor->key())] = *tensor->find("fnv1a64_bf16")->as_string();
  const auto prompts = root.find("prompts");
  for (auto prompt = prompts->first(); prompt; prompt = prompt->next()) fixture.prompts.push_back(read_prompt(*prompt));
  const auto rounding = root.find("rounding");
  const auto bf16 = rounding ? rounding->find("bfloat16 keys and values") : std::nullopt;
  fixture.bf16_kv_change = bf16 ? bf16->find("largest_relative_logit_change")->as_double().value_or(0) : 0;
  if (fixture.prompts.empty() || fixture.config_json.empty()) return data_loss(path + ": no prompts or no config");
  return fixture;
}

Result<std::string> write_fixture_model(const Fixture& fixture, DType dtype, uint64_t shard_bytes) {
  const std::string folder = temporary_folder();
  CheckpointOptions options = fixture.checkpoint;
  options.dtype = dtype;
  options.shard_bytes = shard_bytes;
  QUERN_RETURN_IF_ERROR(write_checkpoint(folder, fixture.config_json, options));
  return folder;
}

double relative_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0, squares = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN sticks
    squares += static_cast<double>(b[i]) * b[i];
  }
  return largest / std::sqrt(squares / static_cast<double>(b.size()));
}

}  // namespace quern::test
