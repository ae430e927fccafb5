// What the CUDA backend answers before its first kernel: on machines without a GPU, in builds without CUDA, and to
// options and shapes that it does not take. What its kernels compute is the contract suite's business.
#include <string>

#include "backend/backend.h"
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

}  // namespace
}  // namespace quern::test
