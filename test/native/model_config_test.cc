// model/config: the three families' config.json in older and newer spelling, and the sentences of refusal.
#include <cmath>
#include <fstream>

#include "model/config.h"
#include "test.h"

namespace quern {
namespace {

// A config of a family with `extra` members appended: later ones may not repeat a key (JSON refuses that).
std::string config(const std::string& model_type, const std::string& extra = "", const std::string& heads = "4") {
  const std::string architecture = model_type == "qwen2"   ? "Qwen2ForCausalLM"
                                   : model_type == "qwen3" ? "Qwen3ForCausalLM"
                                                           : "LlamaForCausalLM";
  return R"({"model_type":")" + model_type + R"(","architectures":[")" + architecture +
         R"("],"vocab_size":512,"hidden_size":64,"intermediate_size":160,"num_hidden_layers":3,"num_attention_heads":)" +
         heads + R"(,"num_key_value_heads":2,"max_position_embeddings":1024)" + (extra.empty() ? "" : "," + extra) +
         "}";
}

Result<ModelConfig> parse(const std::string& text, const std::string& generation = "") {
  return parse_model_config("config.json", text, generation);
}

TEST(model_config_families) {
  Result<ModelConfig> qwen2 =
      parse(config("qwen2", R"("rope_theta":1000000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16")"));
  REQUIRE_OK(qwen2);
  EXPECT(qwen2->qkv_bias && !qwen2->o_bias && !qwen2->mlp_bias && !qwen2->qk_norm && qwen2->tied_embeddings);
  EXPECT_EQ(qwen2->head_dim, 16u);
  EXPECT_EQ(qwen2->rope.theta, 1e6);
  EXPECT_EQ(qwen2->dtype, std::string("bfloat16"));
  EXPECT_EQ(qwen2->rms_norm_eps, 1e-6f);

  Result<ModelConfig> qwen3 = parse(config("qwen3", R"("attention_bias":false)"));
  REQUIRE_OK(qwen3);
  EXPECT(!qwen3->qkv_bias && qwen3->qk_norm && !qwen3->tied_embeddings);
  EXPECT_EQ(qwen3->head_dim, 128u);  // the family's default, not hidden / heads

  Result<ModelConfig> llama =
      parse(config("llama", R"("rms_norm_eps":1e-5,"attention_bias":true,"mlp_bias":true,"head_dim":32)"));
  REQUIRE_OK(llama);
  EXPECT(llama->qkv_bias && llama->o_bias && llama->mlp_bias && !llama->qk_norm);
  EXPECT_EQ(llama->head_dim, 32u);
  EXPECT_EQ(llama->rms_norm_eps, 1e-5f);
  EXPECT_EQ(llama->rope.theta, 10000.0);
}

TEST(model_config_newer_spelling_means_the_same) {
  Result<ModelConfig> newer =
      parse(config("llama", R"("dtype":"float32","rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,
      "factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192},"layer_types":
      ["full_attention","full_attention","full_attention"],"sliding_window":null,"pretraining_tp":1)"));
  Result<ModelConfig> older =
      parse(config("llama", R"("torch_dtype":"float32","rope_theta":500000.0,"rope_scaling":{"type":"llama3",
      "factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"));
  REQUIRE_OK(newer);
  REQUIRE_OK(older);
  EXPECT_EQ(newer->rope.theta, 5e5);
  EXPECT_EQ(newer->rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(newer->dtype, older->dtype);
  EXPECT(rope_frequencies(*newer) == rope_frequencies(*older));
}

TEST(model_config_refuses_what_changes_the_maths) {
  const struct {
    std::string text;
    const char* error;
  } cases[] = {
      {config("mistral"), "model_type: expected qwen2, qwen3 or llama, got \"mistral\""},
      {R"({"model_type":"qwen2","architectures":["Qwen2ForSequenceClassification"]})",
       "architectures: expected \"Qwen2ForCausalLM\""},
      {config("qwen2", R"("hidden_act":"gelu")"), "hidden_act: expected \"silu\", got \"gelu\""},
      {config("qwen2", R"("use_sliding_window":true,"sliding_window":32768)"), "use_sliding_window"},
      {config("llama", R"("sliding_window":4096)"), "sliding_window"},
      {config("qwen3", R"("layer_types":["full_attention","sliding_attention"])"), "got \"sliding_attention\""},
      {config("qwen2", R"("rope_scaling":{"type":"yarn","factor":4.0})"),
       "expected default, linear or llama3, got \"yarn\""},
      {config("qwen2", R"("rope_parameters":{"full_attention":{"rope_type":"yarn"},"rope_type":"mrope"})"),
       "got \"mrope\""},
      {config("llama", R"("rope_scaling":{"rope_type":"llama3","factor":8.0})"),
       "low_freq_factor: expected a number above 0, got nothing"},
      {config("llama", R"("rope_parameters":{"rope_theta":1e4,"partial_rotary_factor":0.5})"), "partial_rotary_factor"},
      {config("qwen2", R"("quantization_config":{"quant_method":"awq"})"), "quantization_config"},
      {config("llama", R"("num_local_experts":8)"),
       "num_local_experts: this changes the maths and is not implemented, got 8"},
      {config("llama", R"("residual_multiplier":0.22)"), "residual_multiplier"},
      {config("llama", R"("final_logit_softcapping":30.0)"), "final_logit_softcapping"},
  };
  for (const auto& c : cases) EXPECT_ERROR(parse(c.text), c.error);
}

TEST(model_config_refuses_impossible_shapes) {
  const struct {
    std::string text;
    const char* error;
  } cases[] = {
      {"[]", "expected an object"},
      {"{", "config.json: JSON, byte 1"},
      {R"({"model_type":"qwen2"})", "vocab_size: expected a whole number, it is missing"},
      {config("qwen2", "", "0"), "num_attention_heads: expected a whole number from 1 to 1024, got 0"},
      {config("qwen2", "", "4.0"), "got 4.0"},
      {config("qwen2", "", "-4"), "got -4"},
      {config("qwen2", "", "\"4\""), "got \"4\""},
      {config("qwen2", "", "5"), "expected a multiple of num_attention_heads 5"},
      {config("qwen3", "", "5"), "expected a divisor of num_attention_heads 5, got 2"},
      {config("qwen3", R"("head_dim":17)"), "head_dim: expected an even number, got 17"},
      {config("qwen2", R"("rms_norm_eps":0)"), "rms_norm_eps: expected a number above 0"},
      {config("qwen2", R"("rope_theta":"1e6")"), "rope_theta: expected a number above 0"},
      {config("qwen2", R"("tie_word_embeddings":1)"), "tie_word_embeddings: expected true or false, got 1"},
  };
  for (const auto& c : cases) EXPECT_ERROR(parse(c.text), c.error);
}

TEST(model_config_keys_that_are_off_pass) {
  EXPECT_OK(parse(config(
      "qwen2", R"("use_sliding_window":false,"sliding_window":131072,"max_window_layers":21,"use_mrope":false)")));
  EXPECT_OK(parse(config(
      "llama", R"("rope_scaling":null,"quantization_config":null,"partial_rotary_factor":1.0,"logits_scaling":1)")));
  EXPECT_OK(parse(config("qwen3", R"("rope_scaling":{"rope_type":"default"},"unknown_note":"x")")));
}

TEST(model_config_eos_is_the_union_of_both_files) {
  Result<ModelConfig> both = parse(config("qwen2", R"("eos_token_id":7)"), R"({"eos_token_id":[9,7,3]})");
  REQUIRE_OK(both);
  EXPECT(both->eos_token_ids == (std::vector<uint32_t>{3, 7, 9}));
  Result<ModelConfig> none = parse(config("qwen2", R"("eos_token_id":null)"), "{}");
  REQUIRE_OK(none);
  EXPECT(none->eos_token_ids.empty());
  EXPECT_ERROR(parse(config("qwen2", R"("eos_token_id":512)")), "expected ids below vocab_size 512, got 512");
  EXPECT_ERROR(parse(config("qwen2"), R"({"eos_token_id":[-1]})"), "generation_config.json: eos_token_id");
  EXPECT_ERROR(parse(config("qwen2"), "["), "generation_config.json: JSON");
}

TEST(model_rope_frequencies) {
  Result<ModelConfig> plain = parse(config("qwen2", R"("rope_theta":10000.0)"));
  REQUIRE_OK(plain);
  const std::vector<float> f = rope_frequencies(*plain);
  REQUIRE(f.size() == 8);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(f[i], std::pow(10000.0, -static_cast<double>(i) / 8), 1e-7 * f[i]);

  Result<ModelConfig> linear =
      parse(config("qwen2", R"("rope_theta":10000.0,"rope_scaling":{"type":"linear","factor":4.0})"));
  REQUIRE_OK(linear);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(rope_frequencies(*linear)[i], f[i] / 4);
}

// Llama 3.1's own settings; the wavelengths of head_dim 128 pass through all three ranges.
TEST(model_rope_llama3_scaling) {
  ModelConfig c;
  c.head_dim = 128;
  c.rope = {500000.0, RopeScaling::kLlama3, 8.0, 1.0, 4.0, 8192.0};
  const std::vector<float> scaled = rope_frequencies(c);
  c.rope.scaling = RopeScaling::kNone;
  const std::vector<float> plain = rope_frequencies(c);
  size_t kept = 0, blended = 0, divided = 0;
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double wavelength = 2 * 3.14159265358979 / plain[i];
    if (wavelength < 8192.0 / 4) {
      EXPECT_EQ(scaled[i], plain[i]);
      ++kept;
    } else if (wavelength > 8192.0) {
      EXPECT_EQ(scaled[i], plain[i] / 8);
      ++divided;
    } else {
      const double s = (8192.0 / wavelength - 1.0) / 3.0;
      EXPECT_NEAR(scaled[i], (1 - s) * plain[i] / 8 + s * plain[i], 1e-6 * plain[i]);
      EXPECT(scaled[i] > plain[i] / 8 && scaled[i] < plain[i]);
      ++blended;
    }
  }
  EXPECT(kept > 0 && blended > 0 && divided > 0);
}

TEST(model_token_count_comes_from_the_tokenizer) {
  const std::string folder = test::temporary_folder();
  Result<ModelConfig> c = parse(config("qwen2"));
  REQUIRE_OK(c);
  EXPECT_EQ(defined_token_count(folder, *c).value(), 512u);
  const auto write = [&](const char* text) { std::ofstream(folder + "/tokenizer.json") << text; };
  write(
      R"({"model":{"vocab":{"a":0,"b":399}},"added_tokens":[{"id":401,"content":"<x>"},{"id":400,"content":"<y>"}]})");
  EXPECT_EQ(defined_token_count(folder, *c).value(), 402u);
  write(R"({"model":{"vocab":{"a":0,"b":512}}})");
  EXPECT_ERROR(defined_token_count(folder, *c), "defines 513 ids, the model's vocab_size is 512");
  write(R"({"model":{"vocab":{"a":0,"b":18446744073709551615}}})");
  EXPECT_ERROR(defined_token_count(folder, *c), "defines 4194305 ids");
  write(R"({"model":{"vocab":[["a",-1.0],["b",-2.0]]},"added_tokens":[{"id":512,"content":"<pad>"}]})");
  EXPECT_EQ(defined_token_count(folder, *c).value(), 2u);
  write("{");
  EXPECT_ERROR(defined_token_count(folder, *c), "tokenizer.json: JSON");
}

}  // namespace
}  // namespace quern
