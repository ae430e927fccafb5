// Refusals at submit: every message names the field's path, what was expected and what came.
#include <cmath>
#include <functional>
#include <vector>

#include "engine_fake.h"
#include "test.h"

namespace quern {
namespace {

TEST(engine_refusals_name_the_field) {
  test::FakeEngine fake;
  fake.start();
  struct Case {
    std::function<void(Request&)> spoil;
    const char* text;
  };
  const std::vector<Case> cases = {
      {[](Request& r) { r.token_ids.clear(); }, "request.token_ids: expected at least 1 token, got none"},
      {[](Request& r) { r.token_ids.assign(256, 1); }, "request.token_ids: expected at most 255 tokens"},
      {[](Request& r) { r.token_ids[3] = 90; }, "request.token_ids[3]: expected an id below 90, got 90"},
      {[](Request& r) { r.sampling.top_p = 1.5f; }, "request.sampling.top_p: expected (0, 1], got 1.5"},
      {[](Request& r) { r.sampling.top_p = 0; }, "request.sampling.top_p: expected (0, 1], got 0"},
      {[](Request& r) { r.sampling.temperature = NAN; }, "request.sampling.temperature: expected [0, 2], got nan"},
      {[](Request& r) { r.sampling.temperature = -1; }, "request.sampling.temperature: expected [0, 2], got -1"},
      {[](Request& r) { r.sampling.min_p = 1; }, "request.sampling.min_p: expected [0, 1), got 1"},
      {[](Request& r) { r.sampling.repetition_penalty = 0; }, "request.sampling.repetition_penalty: expected (0, 2]"},
      {[](Request& r) { r.sampling.frequency_penalty = 3; }, "request.sampling.frequency_penalty: expected [-2, 2], got 3"},
      {[](Request& r) { r.sampling.presence_penalty = -3; }, "request.sampling.presence_penalty: expected [-2, 2]"},
      {[](Request& r) { r.sampling.max_tokens = 257; }, "request.sampling.max_tokens: expected 0 to 256, got 257"},
      {[](Request& r) { r.sampling.min_tokens = 9; }, "request.sampling.min_tokens: expected 0 to 4, got 9"},
      {[](Request& r) { r.sampling.logit_bias = {{7, 101.0f}}; }, "request.sampling.logit_bias[7]: expected [-100, 100], got 101"},
      {[](Request& r) { r.sampling.logit_bias = {{91, 1.0f}}; }, "request.sampling.logit_bias[91]: expected an id below 90"},
      {[](Request& r) { r.sampling.stop_token_ids.assign(65, 1); }, "request.sampling.stop_token_ids: entries: expected 0 to 64"},
      {[](Request& r) { r.sampling.stop_token_ids = {1, 95}; }, "request.sampling.stop_token_ids[1]: expected an id below 90"},
      {[](Request& r) { r.sampling.logprobs = 21; }, "request.sampling.logprobs: expected 0 to 20, got 21"},
      {[](Request& r) { r.sampling.n = 17; }, "request.sampling.n: expected 1 to 16, got 17"},
      {[](Request& r) { r.sampling.n = 0; }, "request.sampling.n: expected 1 to 16, got 0"},
      {[](Request& r) { r.resume_token_ids.assign(5, 1); }, "request.resume_token_ids: expected at most 4 tokens"},
      {[](Request& r) { r.public_prefix_tokens = 11; }, "request.public_prefix_tokens: expected 0 to 10, got 11"},
      {[](Request& r) { r.timeout_ms = 0; }, "request.timeout_ms: expected 1 to"},
      {[](Request& r) { r.tenant.assign(257, 'x'); }, "request.tenant: expected at most 256 bytes, got 257"},
      {[](Request& r) { r.priority_class = static_cast<PriorityClass>(0); }, "request.priority_class: expected 1 to 6, got 0"},
  };
  for (const Case& wrong : cases) {
    Request request = test::greedy_request(1, test::fake_prompt(10, 1), 4);
    wrong.spoil(request);
    const Status status = fake.engine->submit(request);
    EXPECT_ERROR(status, wrong.text);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(fake.recorder.finished.size(), size_t{0});
}

TEST(engine_max_tokens_beyond_the_context_ends_with_length) {
  test::FakeEngine fake;
  fake.start();
  REQUIRE_OK(fake.engine->submit(test::greedy_request(1, test::fake_prompt(250, 1), 100)));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ((fake.recorder.tokens[{1, 0}].size()), size_t{6});
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kLength);
}

}  // namespace
}  // namespace quern
