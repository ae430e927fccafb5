// The CPU backend as a whole: a small random transformer step, its bits under batching and threads, and its allocations.
#include <memory>
#include <string>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "cpu_testing.h"
#include "test.h"

namespace quern::cpu {
namespace {

// Two layers of the usual block over a backend: what model/ does, cut down to what these tests need.
class SmallModel {
 public:
  static constexpr uint32_t kHidden = 48, kFfn = 80, kVocabulary = 100, kQ = 6, kKv = 2, kDim = 8;

  SmallModel(const BackendOptions& options, const RunnerLimits& limits)
      : SmallModel(std::move(make_cpu_backend(options).value()), limits) {}
  SmallModel(const Kernels& kernels, const std::string& dtype, uint32_t threads, const RunnerLimits& limits)
      : SmallModel(std::move(make_cpu_backend_over(kernels, {"", dtype, threads}).value()), limits) {}
  SmallModel(std::unique_ptr<Backend> backend, const RunnerLimits& limits) : backend_(std::move(backend)) {
    head_ = linear(kVocabulary, kHidden, 1);
    embedding_ = backend_->tie_embedding(head_).value();
    norm_ = backend_->load_vector(TestTensor(random_floats(kHidden, 1), kHidden, 1, DType::kF32).tensor).value();
    q_norm_ = backend_->load_vector(TestTensor(random_floats(kDim, 2), kDim, 1, DType::kF32).tensor).value();
    qkv_weight_ = linear((kQ + 2 * kKv) * kDim, kHidden, 1);
    o_weight_ = linear(kHidden, kQ * kDim, 4);
    gate_up_weight_ = linear(2 * kFfn, kHidden, 1);
    down_weight_ = linear(kHidden, kFfn, 4);
    AttentionShape shape{2, kQ, kKv, kDim, {1.0f, 0.1f, 0.01f, 0.001f}, 0.35f};
    CHECK(backend_->reserve(shape, limits).ok(), "reserve");
    residual_ = buffer(kHidden), normed_ = buffer(kHidden), delta_ = buffer(kHidden), attention_ = buffer(kQ * kDim);
    qkv_ = buffer((kQ + 2 * kKv) * kDim), gate_up_ = buffer(2 * kFfn), ffn_ = buffer(kFfn);
    last_ = backend_->new_buffer(kHidden, true).value();
    logits_ = backend_->new_buffer(kVocabulary, true).value();
  }

  void step(const Batch& batch, std::span<float> logits) {
    Backend& b = *backend_;
    b.begin_step(batch);
    b.embed(embedding_, residual_);
    b.rmsnorm(residual_, norm_, 1e-6f, normed_);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      b.linear(normed_, qkv_weight_, qkv_);
      b.rope_and_cache(qkv_, layer, q_norm_, std::nullopt, 1e-6f);
      b.attention(qkv_, layer, attention_);
      b.linear(attention_, o_weight_, delta_);
      b.add_rmsnorm(residual_, delta_, norm_, 1e-6f, normed_);
      b.linear(normed_, gate_up_weight_, gate_up_);
      b.swiglu(gate_up_, ffn_);
      b.linear(ffn_, down_weight_, delta_);
      b.add_rmsnorm(residual_, delta_, norm_, 1e-6f, normed_);
    }
    b.gather_logit_rows(normed_, last_);
    b.rmsnorm_rows(last_, norm_, 1e-6f, last_);
    b.linear_rows(last_, head_, logits_);
    b.read_rows(logits_, static_cast<uint32_t>(batch.logit_rows.size()), logits);
  }

  Backend& backend() { return *backend_; }

 private:
  LinearId linear(uint32_t rows, uint32_t cols, uint32_t slices) {
    const TestTensor weight(random_floats(size_t{rows} * cols, rows + cols, 0.3f), rows, cols, DType::kF32);
    const TestTensor bias(random_floats(rows, rows, 0.1f), rows, 1, DType::kF32);
    return backend_->load_linear({{weight.tensor}, {bias.tensor}, slices}).value();
  }
  BufferId buffer(uint32_t cols) { return backend_->new_buffer(cols, false).value(); }

  std::unique_ptr<Backend> backend_;
  LinearId head_, qkv_weight_, o_weight_, gate_up_weight_, down_weight_;
  EmbeddingId embedding_;
  VectorId norm_, q_norm_;
  BufferId residual_, normed_, delta_, attention_, qkv_, gate_up_, ffn_, last_, logits_;
};

constexpr RunnerLimits kLimits{64, 4, 4, 64, 16, 16};

// Sequences of `tokens` each, all in one batch, from position 0. Logits of the last token of each.
struct Prompts {
  std::vector<uint32_t> ids, positions, slots, tables, logit_rows;
  std::vector<SequenceSlice> slices;

  Prompts(uint32_t first, uint32_t count, uint32_t tokens) {
    for (uint32_t s = 0; s < count; ++s) {
      slices.push_back({s * tokens, tokens, tokens, s});
      tables.push_back(3 + s);
      for (uint32_t i = 0; i < tokens; ++i) {
        ids.push_back(((first + s) * 31 + i * 7) % SmallModel::kVocabulary);
        positions.push_back(i);
        slots.push_back((3 + s) * 16 + i);
      }
      logit_rows.push_back((s + 1) * tokens - 1);
    }
  }
  Batch view() const { return {ids, positions, slots, slices, tables, logit_rows}; }
};

}  // namespace

TEST(cpu_backend_bits_do_not_depend_on_batch_or_threads) {
  for (const Kernels* kernels : all_kernels()) {
    for (const char* dtype : {"f32", "bf16"}) {
      std::vector<float> alone(4 * 100), together(4 * 100);
      SmallModel model(*kernels, dtype, 1, kLimits);
      for (uint32_t s = 0; s < 4; ++s) model.step(Prompts(s, 1, 13).view(), std::span(alone).subspan(s * 100, 100));
      for (uint32_t threads : {1u, 2u, 3u}) {
        SmallModel crowd(*kernels, dtype, threads, kLimits);
        crowd.step(Prompts(0, 4, 13).view(), together);
        EXPECT_MSG(same_bits(alone.data(), together.data(), alone.size()),
                   std::string(isa_name(kernels->isa)) + " " + dtype + ", threads " + std::to_string(threads));
      }
      EXPECT(std::isfinite(alone[0]) && alone[0] != alone[1]);
    }
  }
}

TEST(cpu_backend_isas_agree_within_tolerance) {
  std::vector<float> first, logits(100);
  for (const Kernels* kernels : all_kernels()) {
    SmallModel model(*kernels, "f32", 2, kLimits);
    model.step(Prompts(0, 1, 16).view(), logits);
    if (first.empty()) first = logits;
    for (size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], first[i], 2e-5f);
  }
}

TEST(cpu_backend_steps_allocate_nothing) {
  if (!test::counts_allocations()) SKIP("sanitizers count their own");
  for (const Kernels* kernels : all_kernels()) {
    for (const char* dtype : {"f32", "bf16"}) {
      SmallModel model(*kernels, dtype, 2, kLimits);
      const Prompts prompts(0, 3, 16), one(0, 1, 1);
      std::vector<float> logits(4 * 100);
      const uint64_t before = test::allocations();
      model.step(prompts.view(), logits);
      model.step(one.view(), logits);
      EXPECT_EQ(test::allocations() - before, 0u);
    }
  }
}

// f32 is the parity mode: no kernel may round an activation there.
TEST(cpu_backend_narrows_activations_with_bf16_weights_only) {
  for (const Kernels* kernels : all_kernels()) {
    SmallModel exact(*kernels, "f32", 1, kLimits), narrow(*kernels, "bf16", 1, kLimits);
    EXPECT(!exact.backend().info().narrows_activations);
    EXPECT_EQ(narrow.backend().info().narrows_activations, kernels->isa == Isa::kAvx512Bf16);
  }
}

TEST(cpu_backend_restores_the_float_environment) {
  SmallModel model({"auto", "f32", 2}, kLimits);
  std::vector<float> logits(100);
  model.step(Prompts(0, 1, 5).view(), logits);
  volatile float tiny = 1e-38f;
  EXPECT_NE(tiny / 4, 0.0f);  // denormals are back
}

TEST(cpu_backend_settles_auto_by_the_checkpoint) {
  const TestTensor f32(random_floats(64, 1), 8, 8, DType::kF32), bf16(random_floats(64, 1), 8, 8, DType::kBF16);
  auto backend = make_cpu_backend({"auto", "auto", 1});
  REQUIRE_OK(backend);
  REQUIRE_OK((*backend)->load_linear({{f32.tensor}, {}, 1}));
  EXPECT_EQ((*backend)->info().weight_type, "f32");
  backend = make_cpu_backend({"auto", "auto", 1});
  REQUIRE_OK((*backend)->load_linear({{bf16.tensor}, {}, 1}));
  EXPECT_EQ((*backend)->info().weight_type, "bf16");
  AttentionShape shape{3, 4, 2, 8, {1, 1, 1, 1}, 1};
  EXPECT_EQ((*backend)->kv_bytes_per_token(shape), 3u * 2 * (8 + 16) * 2);  // V is padded to 16 dimensions
}

TEST(cpu_backend_refuses_what_it_cannot_do) {
  EXPECT_ERROR(make_cpu_backend({"mmx", "auto", 1}), "expected auto, portable");
  EXPECT_ERROR(make_cpu_backend({"auto", "int3", 1}), "expected auto, f32 or bf16");
  EXPECT_ERROR(make_cpu_backend({"auto", "f32", 1000}), "at most 256 threads");
  auto backend = make_cpu_backend({"auto", "f32", 1});
  REQUIRE_OK(backend);
  EXPECT_ERROR((*backend)->new_buffer(4, false), "call reserve() first");
  AttentionShape shape{1, 2, 1, 8, {1, 1, 1, 1}, 1};
  EXPECT_ERROR((*backend)->reserve(shape, {8, 1, 1, 64, 12, 4}), "expected block_size 8, 16, 32 or 64; got 12");
  shape.num_q_heads = 3;
  shape.num_kv_heads = 2;
  EXPECT_ERROR((*backend)->reserve(shape, {8, 1, 1, 64, 16, 4}), "kv heads that divide q heads");
  EXPECT_ERROR((*backend)->tie_embedding(LinearId{4}), "expected a loaded linear");
}

}  // namespace quern::cpu
