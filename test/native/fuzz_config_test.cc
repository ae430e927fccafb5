// Hostile config.json and tokenizer.json: mutants of good ones are refused with a sentence or give a model within
// limits.
#include <random>

#include "base/json.h"
#include "base/limits.h"
#include "model/config.h"
#include "test.h"

namespace quern {
namespace {

constexpr const char* kGood =
    R"({"model_type":"llama","architectures":["LlamaForCausalLM"],"vocab_size":512,"hidden_size":64,"intermediate_size":160,)"
    R"("num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"max_position_embeddings":1024,)"
    R"("rms_norm_eps":1e-5,"tie_word_embeddings":false,"eos_token_id":[1,2],"rope_parameters":{"rope_type":"llama3","factor":8.0,)"
    R"("low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64,"rope_theta":1e4},"sliding_window":null})";

constexpr const char* kPieces[] = {
    "0",      "-1",  "1e999",    "4294967296", "18446744073709551615", "null", "true", "[]", "{}", "\"x\"",
    "1e-320", "0.5", "\"yarn\"", ",",          "\"\\u0000\"",          "[[[["};

// Replaces one scalar, key or a few bytes.
std::string mutate(std::mt19937_64& random) {
  std::string text = kGood;
  const auto pick = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  for (size_t edits = 1 + pick(3); edits > 0; --edits) {
    const size_t colon = text.find(':', pick(text.size()));
    const size_t at = colon == std::string::npos ? pick(text.size()) : colon + 1;
    const size_t end = std::min(text.find_first_of(",}]", at), text.size());
    switch (pick(4)) {
      case 0:
        text.replace(at, end - at, kPieces[pick(std::size(kPieces))]);
        break;
      case 1:
        text.insert(at, kPieces[pick(std::size(kPieces))]);
        break;
      case 2:
        text.erase(pick(text.size()), 1 + pick(30));
        break;
      default:
        text[pick(text.size())] = static_cast<char>(static_cast<uint8_t>(random()));
        break;
    }
    if (text.empty()) text = "{";
  }
  return text;
}

TEST(fuzz_model_configs) {
  REQUIRE_OK(parse_model_config("config.json", kGood, ""));
  std::mt19937_64 random(test::seed());
  size_t accepted = 0, refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string text = mutate(random);
    Result<ModelConfig> config = parse_model_config("config.json", text, "");
    if (!config.ok()) {
      ++refused;
      EXPECT_MSG(config.status().message().size() > 20 && config.status().message().size() < 400, text);
      continue;
    }
    ++accepted;
    EXPECT_MSG(config->num_kv_heads >= 1 && config->num_q_heads % config->num_kv_heads == 0 &&
                   config->head_dim % 2 == 0 && config->hidden_size <= limits::kHiddenSizeMax &&
                   config->num_layers <= limits::kLayersMax,
               text);
    const std::vector<float> frequencies = rope_frequencies(*config);
    EXPECT_MSG(frequencies.size() == config->head_dim / 2, text);
  }
  EXPECT_LT(0u, accepted);
  EXPECT_LT(0u, refused);
}

}  // namespace
}  // namespace quern
