// model/transformer: what loading refuses, and the promises of forward().
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "make_checkpoint_writer.h"
#include "model/open_model.h"
#include "model/transformer.h"
#include "parity_driver.h"
#include "parity_fixture.h"
#include "reference_backend.h"
#include "test.h"
#include "weights_sample.h"

namespace quern {
namespace {

using test::make_reference_backend;
using test::temporary_folder;

// A tiny qwen2 folder; returns its path.
std::string tiny_folder(uint64_t seed = 1) {
  const std::string folder = temporary_folder();
  CheckpointOptions options;
  options.seed = seed;
  EXPECT_OK(write_checkpoint(folder, config_of_shape("tiny"), options));
  return folder;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

uint64_t header_length(const std::string& file) {
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(static_cast<uint8_t>(file[i])) << (8 * i);
  return length;
}

// Rewrites the header of the weight file: first `from` becomes `to`, of any length.
void edit_header(const std::string& folder, const std::string& from, const std::string& to) {
  const std::string path = folder + "/model.safetensors";
  const std::string file = read_file(path);
  const uint64_t length = header_length(file);
  std::string header = file.substr(8, length);
  const size_t at = header.find(from);
  EXPECT_MSG(at != std::string::npos, from);
  header.replace(at, from.size(), to);
  std::ofstream(path, std::ios::binary) << test::safetensors_file(header, file.substr(8 + length));
}

void edit_config(const std::string& folder, const std::string& from, const std::string& to) {
  std::string text = read_file(folder + "/config.json");
  text.replace(text.find(from), from.size(), to);
  std::ofstream(folder + "/config.json") << text;
}

TEST(model_open_reports_what_it_loaded) {
  auto backend = make_reference_backend("f32");
  uint64_t calls = 0, last = 0, total = 0;
  Result<OpenedModel> model = open_model(tiny_folder(), *backend, [&](const char* phase, uint64_t done, uint64_t of) {
    EXPECT_EQ(std::string(phase), std::string("weights"));
    EXPECT_LE(last, done);
    ++calls, last = done, total = of;
  });
  REQUIRE_OK(model);
  EXPECT_LT(2u, calls);
  EXPECT_EQ(last, total);
  EXPECT_EQ(model->parameter_count,
            512u * 64 + 2 * (64 * 64 + 64 + 2 * (32 * 64 + 32) + 64 * 64 + 3 * 160 * 64 + 2 * 64) + 64);
  EXPECT_EQ(total, 2 * model->parameter_count);
  EXPECT_EQ(model->token_count, 512u);
  EXPECT_EQ(model->model_hash.size(), 32u);
}

TEST(model_hash_tells_weights_and_configs_apart) {
  const auto hash = [](const std::string& folder) {
    auto backend = make_reference_backend("f32");
    Result<OpenedModel> model = open_model(folder, *backend);
    EXPECT_OK(model);
    return model.ok() ? model->model_hash : "";
  };
  const std::string first = hash(tiny_folder());
  EXPECT_EQ(first, hash(tiny_folder()));
  EXPECT_NE(first, hash(tiny_folder(2)));
  const std::string other = tiny_folder();
  edit_config(other, "1000000.0", "500000.0");
  EXPECT_NE(first, hash(other));
}

TEST(model_open_refuses_wrong_tensors) {
  const struct {
    const char *from, *to, *error;
  } cases[] = {
      {"model.norm.weight", "model.norm.weigth", "'model.norm.weight' is missing"},
      {"layers.1.mlp.up_proj.weight", "layers.1.mlp.up.weight", "'model.layers.1.mlp.up_proj.weight' is missing"},
      {"[160,64]", "[64,160]", "expected shape [160, 64], got [64, 160]"},
      {"layers.0.self_attn.k_proj.bias\":{\"dtype\":\"BF16\",\"shape\":[32]",
       "layers.0.self_attn.k_proj.bias\":{\"dtype\":\"BF16\",\"shape\":[32,1]",
       "'model.layers.0.self_attn.k_proj.bias': expected shape [32], got [32, 1]"},
      {"\"model.norm.weight\":{\"dtype\":\"BF16\"", "\"model.norm.weight\":{\"dtype\":\"I16\"",
       "expected dtype F32, F16 or BF16, got I16"},
  };
  for (const auto& c : cases) {
    const std::string folder = tiny_folder();
    edit_header(folder, c.from, c.to);
    auto backend = make_reference_backend("f32");
    EXPECT_ERROR(open_model(folder, *backend), c.error);
  }
}

TEST(model_open_refuses_tensors_without_a_place) {
  // The last layer's tensors stay over when the config knows one layer less; biases when the family has none.
  std::string folder = tiny_folder();
  edit_config(folder, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  auto backend = make_reference_backend("f32");
  EXPECT_ERROR(open_model(folder, *backend), "'model.layers.1.input_layernorm.weight' has no place in a qwen2 model");
  folder = tiny_folder();
  edit_config(folder, "\"Qwen2ForCausalLM\"", "\"LlamaForCausalLM\"");
  edit_config(folder, "\"qwen2\"", "\"llama\"");
  EXPECT_ERROR(open_model(folder, *backend), "_proj.bias' has no place in a llama model");
  folder = tiny_folder();
  edit_header(folder, "{\"__metadata__\"",
              "{\"model.layers.0.self_attn.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,"
              "0]},\"__metadata__\"");
  EXPECT_OK(open_model(folder, *backend));
}

TEST(model_open_wants_a_head_unless_tied) {
  const std::string folder = tiny_folder();
  edit_config(folder, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  auto backend = make_reference_backend("f32");
  EXPECT_ERROR(open_model(folder, *backend), "'lm_head.weight' is missing");
  EXPECT_ERROR(open_model(folder + "-none", *backend), "config.json: cannot open");
}

TEST(model_a_tied_head_may_repeat_the_embedding_but_not_differ) {
  // Untied and tied configs over the same file: the head there differs from the embedding.
  const std::string folder = temporary_folder();
  std::string config = config_of_shape("tiny");
  config.replace(config.find("true"), 4, "false");
  CheckpointOptions options;
  REQUIRE_OK(write_checkpoint(folder, config, options));
  auto backend = make_reference_backend("f32");
  EXPECT_OK(open_model(folder, *backend));
  edit_config(folder, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  EXPECT_ERROR(open_model(folder, *backend), "differs from the embedding");
  std::string file = read_file(folder + "/model.safetensors");
  const uint64_t bytes = 512 * 64 * 2;
  file.replace(file.size() - bytes, bytes, file.substr(8 + header_length(file), bytes));  // the embedding comes first
  std::ofstream(folder + "/model.safetensors", std::ios::binary) << file;
  Result<OpenedModel> model = open_model(folder, *backend);
  REQUIRE_OK(model);
  EXPECT_EQ(model->parameter_count,
            512u * 64 + 2 * (64 * 64 + 64 + 2 * (32 * 64 + 32) + 64 * 64 + 3 * 160 * 64 + 2 * 64) + 64);
}

// A loaded tiny model on a backend.
struct Loaded {
  std::unique_ptr<Backend> backend;
  OpenedModel model;
  RunnerLimits limits = test::parity_limits(16);
};

Result<std::unique_ptr<Loaded>> load_tiny(const std::string& name, uint32_t token_count = 512) {
  auto loaded = std::make_unique<Loaded>();
  auto backend = test::make_backend(name, "f32");
  QUERN_RETURN_IF_ERROR(backend.status());
  loaded->backend = std::move(*backend);
  auto model = open_model(tiny_folder(), *loaded->backend);
  QUERN_RETURN_IF_ERROR(model.status());
  loaded->model = std::move(*model);
  QUERN_RETURN_IF_ERROR(loaded->model.transformer->reserve(loaded->limits, token_count));
  return loaded;
}

const std::vector<uint32_t> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};

TEST(model_padding_rows_of_the_vocabulary_are_never_likely) {
  auto loaded = load_tiny("reference", 500);
  REQUIRE_OK(loaded);
  test::ModelDriver driver(*(*loaded)->model.transformer, (*loaded)->limits);
  const test::Feed feed{driver.add_sequence(), kPrompt, {0, 19}};
  auto logits = driver.step(std::span(&feed, 1));
  REQUIRE_OK(logits);
  for (size_t row = 0; row < 2; ++row)
    for (size_t column = 0; column < 512; ++column) {
      const float value = (*logits)[row * 512 + column];
      EXPECT(column < 500 ? std::isfinite(value) : value == -HUGE_VALF);
    }
}

TEST(model_forward_stops_when_interrupted) {
  auto loaded = load_tiny("reference");
  REQUIRE_OK(loaded);
  const uint32_t token = 1, zero = 0;
  const SequenceSlice slice{0, 1, 1, 0};
  Batch batch;
  batch.token_ids = std::span(&token, 1),
  batch.positions = batch.slot_mapping = batch.block_tables = std::span(&zero, 1);
  batch.sequences = std::span(&slice, 1), batch.logit_rows = std::span(&zero, 1);
  std::vector<float> logits(512);
  std::atomic<bool> interrupt{true};
  EXPECT_EQ((*loaded)->model.transformer->forward(batch, logits, &interrupt).code(), Code::kCancelled);
  interrupt = false;
  EXPECT_OK((*loaded)->model.transformer->forward(batch, logits, &interrupt));
  batch.logit_rows = {};
  EXPECT_OK((*loaded)->model.transformer->forward(batch, {}, &interrupt));
}

TEST(model_forward_allocates_nothing) {
  if (!test::counts_allocations()) SKIP("sanitizers own the allocator");
  for (const std::string& name : test::backend_names()) {
    auto loaded = load_tiny(name);
    REQUIRE_OK(loaded);
    Transformer& transformer = *(*loaded)->model.transformer;
    std::vector<uint32_t> positions(kPrompt.size());
    for (uint32_t i = 0; i < positions.size(); ++i) positions[i] = i;
    const uint32_t blocks[] = {0, 1}, last = 19;
    const SequenceSlice slice{0, 20, 20, 0};
    Batch batch;
    batch.token_ids = kPrompt, batch.positions = batch.slot_mapping = positions;
    batch.block_tables = blocks, batch.sequences = std::span(&slice, 1), batch.logit_rows = std::span(&last, 1);
    std::vector<float> logits(512);
    EXPECT_OK(transformer.forward(batch, logits, nullptr));  // warm-up
    const uint64_t before = test::allocations();
    for (int i = 0; i < 3; ++i) EXPECT_OK(transformer.forward(batch, logits, nullptr));
    EXPECT_MSG(test::allocations() == before, name + ": " + std::to_string(test::allocations() - before));
  }
}

}  // namespace
}  // namespace quern
