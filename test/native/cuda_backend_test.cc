// What the CUDA backend answers before its first kernel: on machines without a GPU, in builds without CUDA, and to
// options and shapes that it does not take. What its kernels compute is the contract suite's business.
#include <string>
#include <vector>

#include "backend/backend.h"
#if defined(QUERN_CUDA_EMULATION)
#include "emulated_device_memory.h"
#include "engine/engine.h"
#include "engine/limits.h"
#include "model/open_model.h"
#include "parity_fixture.h"
#endif
#include "test.h"

namespace quern::test {
namespace {

BackendOptions with_dtype(const std::string& dtype) {
  BackendOptions options;
  options.dtype = dtype;
  return options;
}

TEST(cuda_backend_opens_or_says_why_not) {
  Result<std::unique_ptr<Backend>> made = make_cuda_backend(with_dtype("bf16"));
  if (made.ok()) {
    const BackendInfo info = (*made)->info();
    EXPECT_EQ(info.name, std::string("cuda"));
    EXPECT(!info.isa.empty());
    EXPECT_EQ(info.weight_type, std::string("bf16"));
    return;
  }
#if defined(QUERN_CUDA)
  EXPECT_EQ(made.status().code(), Code::kFailedPrecondition);
  EXPECT_ERROR(made, "no usable GPU");
  EXPECT_ERROR(made, "expected an NVIDIA GPU");
#else
  EXPECT_EQ(made.status().code(), Code::kUnimplemented);
  EXPECT_ERROR(made, "no CUDA backend");
#endif
  EXPECT_ERROR(made, "cpu");  // what to use instead
}

// The second answer is the first: a refusal leaves nothing behind in the CUDA runtime.
TEST(cuda_backend_answers_the_same_again) {
  const Result<std::unique_ptr<Backend>> first = make_cuda_backend({}), second = make_cuda_backend({});
  EXPECT_EQ(first.ok(), second.ok());
  EXPECT_EQ(first.status().code(), second.status().code());
  EXPECT_EQ(first.status().message(), second.status().message());
}

TEST(cuda_backend_refuses_an_unknown_dtype_without_a_gpu) {
  Result<std::unique_ptr<Backend>> made = make_cuda_backend(with_dtype("f17"));
  REQUIRE(!made.ok());
#if defined(QUERN_CUDA)
  EXPECT_EQ(made.status().code(), Code::kInvalidArgument);
  EXPECT_ERROR(made, "f17");
#endif
}

TEST(cuda_backend_refuses_heads_that_its_kernels_do_not_take) {
  Result<std::unique_ptr<Backend>> made = make_cuda_backend(with_dtype("f32"));
  if (!made.ok()) SKIP("needs a GPU: " + made.status().message());
  AttentionShape shape;
  shape.num_layers = shape.num_q_heads = shape.num_kv_heads = 1, shape.head_dim = 512;
  shape.inv_freq.assign(256, 1.0f), shape.attention_scale = 0.05f;
  RunnerLimits limits;
  limits.max_num_tokens = limits.max_num_seqs = limits.max_logit_rows = limits.num_blocks = 1;
  limits.context_length = 16;
  const Status refused = (*made)->reserve(shape, limits);
  EXPECT_EQ(refused.code(), Code::kUnimplemented);
  EXPECT_ERROR(refused, "256");
  EXPECT_ERROR(refused, "512");
}

TEST(cuda_backend_says_what_the_device_has_free) {
  Result<std::unique_ptr<Backend>> made = make_cuda_backend(with_dtype("f32"));
  if (!made.ok()) SKIP("needs a GPU: " + made.status().message());
  const auto before = (*made)->device_memory();
  REQUIRE_OK(before);
  REQUIRE(before->has_value());
  EXPECT_LT(0u, (*before)->free_bytes);
  EXPECT_LE((*before)->free_bytes, (*before)->total_bytes);
  const uint32_t rows = 4096, cols = 4096;  // 64 MiB: more than a driver rounds by
  const std::vector<float> values(size_t{rows} * cols, 1.0f);
  HostTensor matrix;
  matrix.rows = rows, matrix.cols = cols, matrix.data = reinterpret_cast<const std::byte*>(values.data());
  REQUIRE_OK((*made)->load_linear({{matrix}, {}, 1}));
  const auto after = (*made)->device_memory();
  REQUIRE_OK(after);
  EXPECT_LE((*after)->free_bytes + values.size() * sizeof(float), (*before)->free_bytes);
}

// The CPU backend lies in host memory and leaves the question to who reads its limits.
TEST(cuda_backend_alone_has_device_memory) {
  Result<std::unique_ptr<Backend>> cpu = make_cpu_backend({});
  REQUIRE_OK(cpu);
  const auto memory = (*cpu)->device_memory();
  REQUIRE_OK(memory);
  EXPECT(!memory->has_value());
}

#if defined(QUERN_CUDA_EMULATION)
// The KV cache takes what the device leaves, and a model that it cannot hold is refused before anything is loaded.
TEST(cuda_backend_kv_cache_is_sized_by_the_device) {
  Result<Fixture> fixture = read_fixture(fixture_families().front());
  REQUIRE_OK(fixture);
  Result<std::string> folder = write_fixture_model(*fixture, DType::kBF16);
  REQUIRE_OK(folder);
  EngineOptions options;
  options.model_dir = *folder, options.backend = "cuda", options.max_num_seqs = 1024, options.max_num_batched_tokens = 1024;
  const size_t total_before = emulated_device_memory.total, used = emulated_device_memory.used;
  for (const size_t mebibytes : {32u, 48u, 64u}) {
    emulated_device_memory.total = used + (mebibytes << 20);
    const auto engine = Engine::open(options, [](const StepOut&) {});
    REQUIRE_OK(engine);
    const ModelInfo& info = (*engine)->info();
    RunnerLimits limits;
    limits.max_num_tokens = 1024, limits.max_logit_rows = 1024 + limits::kPromptLogitRows;
    Result<ModelConfig> config = read_model_config(*folder);
    REQUIRE_OK(config);
    const uint64_t usable = (mebibytes << 20) / 100 * limits::kDeviceSharePercent;
    const uint64_t expected = usable - info.weight_bytes - Transformer::activation_bytes(*config, limits);
    EXPECT_LE(info.kv_bytes, expected);
    EXPECT_LE(expected - std::min(expected, info.kv_bytes), 64u << 10);  // less than one block short
    EXPECT_LE(emulated_device_memory.used - used, mebibytes << 20);
  }
  emulated_device_memory.total = used + (1 << 20);
  bool loaded = false;
  const auto refused = Engine::open(options, [](const StepOut&) {}, [&](const char*, uint64_t, uint64_t) { loaded = true; });
  emulated_device_memory.total = total_before;
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_ERROR(refused, "the memory of emulated (0.00 GiB of 0.00 GiB free");
  EXPECT(!loaded);
}
#endif

}  // namespace
}  // namespace quern::test
