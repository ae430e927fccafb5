// What the step loop over the fake model gives: exact tokens in every circumstance, choices, stops, logprobs, prefixes.
#include <cmath>
#include <vector>

#include "engine_fake.h"
#include "test.h"

namespace quern {
namespace {

using test::fake_greedy;
using test::fake_prompt;
using test::FakeEngine;
using test::FakeEngineOptions;
using test::greedy_request;

TEST(engine_generates_exactly_and_reports_usage) {
  FakeEngine fake;
  fake.start();
  const auto prompt = fake_prompt(21, 1);
  REQUIRE_OK(fake.engine->submit(greedy_request(1, prompt, 9)));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ((fake.recorder.tokens[{1, 0}]), fake_greedy(prompt, 9));
  const auto& end = fake.recorder.finished[1];
  EXPECT_OK(end.event.status);
  EXPECT_EQ(end.event.prompt_tokens, 21u);
  EXPECT_EQ(end.event.completion_tokens, 9u);
  EXPECT_EQ(end.event.decode_steps, 8u);
  EXPECT_LT(0u, end.event.prefill_chunks);
  EXPECT_LT(uint64_t{0}, end.event.received_unix_ns);
  REQUIRE(end.choices.size() == 1);
  EXPECT_EQ(end.choices[0].reason, FinishReason::kLength);
  EXPECT(!end.choices[0].stop_token_id.has_value());
}

TEST(engine_output_does_not_depend_on_company_chunks_cache_or_preemption) {
  std::vector<std::vector<uint32_t>> prompts;
  for (uint32_t i = 0; i < 12; ++i) {
    auto prompt = fake_prompt(5 + i * 4, i % 3);  // shared beginnings
    if (i % 2 == 1) prompt[prompt.size() / 2] = 1 + i;
    prompts.push_back(prompt);
  }
  uint32_t preemptions = 0, hits = 0;
  for (const FakeEngineOptions& options :
       {FakeEngineOptions{64, 4, 4, 32, 64, true}, FakeEngineOptions{64, 4, 1, 7, 64, true},
        FakeEngineOptions{20, 4, 4, 5, 64, true}, FakeEngineOptions{40, 2, 4, 16, 64, false},
        FakeEngineOptions{200, 1, 8, 200, 64, true}}) {
    FakeEngine fake(options);
    fake.start();
    for (uint64_t i = 0; i < prompts.size(); ++i) {
      Request request = greedy_request(i, prompts[i], 22);
      request.tenant = i % 2 == 0 ? "a" : "b";
      REQUIRE_OK(fake.engine->submit(request));
    }
    for (uint64_t i = 0; i < prompts.size(); ++i) {
      REQUIRE(fake.recorder.wait_finished(i));
      EXPECT_EQ((fake.recorder.tokens[{i, 0}]), fake_greedy(prompts[i], 22));
      const FinishedOut& event = fake.recorder.finished[i].event;
      EXPECT_EQ(size_t{event.preempted_count}, std::min<size_t>(event.preemptions, kPreemptedOutMax));
      for (uint32_t k = 0; k < event.preempted_count; ++k) {
        EXPECT_LE(event.queue_ns, event.preempted[k].after_ns);  // it ran before it had to wait again
        EXPECT_LE(event.preempted[k].after_ns + event.preempted[k].ns, event.queue_ns + event.prefill_ns + event.decode_ns);
      }
      preemptions += event.preemptions;
      hits += fake.recorder.finished[i].event.cached_tokens;
    }
    fake.engine->close();
    const Load load = fake.engine->load();
    EXPECT_EQ(load.free_blocks, options.num_blocks);
    EXPECT_EQ(load.running + load.waiting, 0u);
  }
  EXPECT_LT(0u, preemptions);  // or the test did not test
  EXPECT_LT(0u, hits);
}

TEST(engine_seeded_sampling_repeats_after_resume_and_across_batches) {
  const auto prompt = fake_prompt(10, 3);
  Request request = greedy_request(1, prompt, 20);
  request.sampling.temperature = 1.0f;
  request.sampling.top_k = 30;
  request.sampling.frequency_penalty = 0.5f;
  request.sampling.seed = 99;
  std::vector<uint32_t> whole;
  {
    FakeEngine fake;
    fake.start();
    REQUIRE_OK(fake.engine->submit(request));
    REQUIRE(fake.recorder.wait_finished(1));
    whole = fake.recorder.tokens[{1, 0}];
    EXPECT_EQ(fake.recorder.finished[1].event.seed, uint64_t{99});
  }
  EXPECT_NE(whole, fake_greedy(prompt, 20));
  FakeEngine fake;
  fake.start();
  request.resume_token_ids.assign(whole.begin(), whole.begin() + 8);
  REQUIRE_OK(fake.engine->submit(greedy_request(2, fake_prompt(30, 5), 20)));
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ((fake.recorder.tokens[{1, 0}]), (std::vector<uint32_t>(whole.begin() + 8, whole.end())));
  EXPECT_EQ(fake.recorder.finished[1].event.completion_tokens, 20u);
}

TEST(engine_resumed_output_that_is_complete_ends_at_once) {
  FakeEngine fake;
  fake.start();
  Request request = greedy_request(1, fake_prompt(10, 3), 3);
  request.resume_token_ids = {5, 6, 7};
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kLength);
  request.id = 2;
  request.sampling.max_tokens = 8;
  request.resume_token_ids = {5, 6, test::kFakeEos};
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(2));
  EXPECT_EQ(fake.recorder.finished[2].choices.at(0).reason, FinishReason::kStop);
  EXPECT_EQ(fake.runner->steps.load(), uint64_t{0});
}

TEST(engine_choices_differ_by_draw_and_end_in_one_event) {
  FakeEngine fake;
  fake.start();
  Request request = greedy_request(1, fake_prompt(19, 4), 12);
  request.sampling.n = 4;
  request.sampling.temperature = 1.0f;
  request.sampling.seed = 5;
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ(fake.recorder.finished[1].choices.size(), size_t{4});
  EXPECT_EQ(fake.recorder.finished[1].event.completion_tokens, 48u);
  EXPECT_NE((fake.recorder.tokens[{1, 0}]), (fake.recorder.tokens[{1, 1}]));
  EXPECT_NE((fake.recorder.tokens[{1, 2}]), (fake.recorder.tokens[{1, 3}]));
}

TEST(engine_stops_at_stop_ids_and_respects_min_tokens) {
  FakeEngine fake;
  fake.start();
  const auto prompt = fake_prompt(9, 6);
  const auto greedy = fake_greedy(prompt, 12);
  Request request = greedy_request(1, prompt, 12);
  request.sampling.stop_token_ids = {greedy[4]};
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(1));
  const size_t first = static_cast<size_t>(std::find(greedy.begin(), greedy.end(), greedy[4]) - greedy.begin());
  EXPECT_EQ((fake.recorder.tokens[{1, 0}]), (std::vector<uint32_t>(greedy.begin(), greedy.begin() + static_cast<long>(first) + 1)));
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kStop);
  EXPECT_EQ(*fake.recorder.finished[1].choices.at(0).stop_token_id, greedy[4]);
  EXPECT_EQ(fake.recorder.finished[1].event.completion_tokens, static_cast<uint32_t>(first + 1));

  request.id = 2;
  request.sampling.min_tokens = 12;
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(2));
  const auto& forced = fake.recorder.tokens[{2, 0}];
  EXPECT_EQ(forced.size(), size_t{12});
  EXPECT(std::find(forced.begin(), forced.end(), greedy[4]) == forced.end());

  // EOS ends a choice unless ignored.
  Request biased = greedy_request(3, prompt, 5);
  biased.sampling.logit_bias = {{test::kFakeEos, 100.0f}};
  REQUIRE_OK(fake.engine->submit(biased));
  REQUIRE(fake.recorder.wait_finished(3));
  EXPECT_EQ((fake.recorder.tokens[{3, 0}]), (std::vector<uint32_t>{test::kFakeEos}));
  biased.id = 4;
  biased.sampling.ignore_eos = true;
  REQUIRE_OK(fake.engine->submit(biased));
  REQUIRE(fake.recorder.wait_finished(4));
  EXPECT_EQ((fake.recorder.tokens[{4, 0}]), (std::vector<uint32_t>(5, test::kFakeEos)));
}

TEST(engine_logprobs_and_prompt_logprobs_match_the_rows) {
  FakeEngine fake;
  fake.start();
  const auto prompt = fake_prompt(23, 7);
  Request request = greedy_request(1, prompt, 6);
  request.sampling.logprobs = 3;
  request.sampling.prompt_logprobs = 2;
  REQUIRE_OK(fake.engine->submit(request));
  REQUIRE(fake.recorder.wait_finished(1));
  const auto& tokens = fake.recorder.tokens[{1, 0}];
  EXPECT_EQ(tokens, fake_greedy(prompt, 6));
  std::vector<uint32_t> all = prompt;
  all.insert(all.end(), tokens.begin(), tokens.end());
  const auto& [entries, counts] = fake.recorder.prompts[1];
  REQUIRE(counts.size() == prompt.size() - 1);
  uint64_t hash = 7;
  std::vector<float> row(test::kFakeVocabulary);
  size_t at = 0;
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    hash = test::hash_step(hash, all[i]);
    test::fake_logits(hash, row);
    double sum = 0;
    for (uint32_t id = 0; id < test::kFakeIds; ++id) sum += std::exp(static_cast<double>(row[id]));
    const double expected = static_cast<double>(row[all[i + 1]]) - std::log(sum);
    if (i + 1 < prompt.size()) {
      EXPECT_EQ(counts[i], 3u);
      EXPECT_EQ(entries[at].token_id, all[i + 1]);
      EXPECT_NEAR(static_cast<double>(entries[at].logprob), expected, 1e-4);
      at += counts[i];
    } else {
      const auto& list = fake.recorder.logprobs[{1, 0}][i + 1 - prompt.size()];
      REQUIRE(list.size() == 4);
      EXPECT_EQ(list[0].token_id, all[i + 1]);
      EXPECT_EQ(list[0].rank, 1u);
      EXPECT_EQ(list[1].token_id, all[i + 1]);  // greedy: the chosen one is also the top
      EXPECT_NEAR(static_cast<double>(list[0].logprob), expected, 1e-4);
      EXPECT_LE(list[2].logprob, list[1].logprob);
    }
  }
}

TEST(engine_warm_fills_the_prefix_cache) {
  FakeEngine fake;
  fake.start();
  const auto prompt = fake_prompt(22, 8);
  Request warm = greedy_request(1, prompt, 0);
  warm.priority_class = PriorityClass::kWarm;
  REQUIRE_OK(fake.engine->submit(warm));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ((fake.recorder.tokens[{1, 0}].size()), size_t{0});
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kLength);
  REQUIRE_OK(fake.engine->submit(greedy_request(2, prompt, 3)));
  REQUIRE(fake.recorder.wait_finished(2));
  EXPECT_EQ(fake.recorder.finished[2].event.cached_tokens, 20u);
  EXPECT_EQ((fake.recorder.tokens[{2, 0}]), fake_greedy(prompt, 3));
}

TEST(engine_prefix_is_shared_only_within_a_tenant_or_the_public_region) {
  FakeEngine fake;
  fake.start();
  const auto prompt = fake_prompt(30, 9);
  const auto cached = [&](uint64_t id, const char* tenant, const char* salt, uint32_t public_tokens) {
    Request request = greedy_request(id, prompt, 2);
    request.tenant = tenant;
    request.cache_salt = salt;
    request.public_prefix_tokens = public_tokens;
    EXPECT_OK(fake.engine->submit(request));
    EXPECT(fake.recorder.wait_finished(id));
    EXPECT_EQ((fake.recorder.tokens[{id, 0}]), fake_greedy(prompt, 2));
    return fake.recorder.finished[id].event.cached_tokens;
  };
  EXPECT_EQ(cached(1, "a", "", 0), 0u);
  EXPECT_EQ(cached(2, "a", "", 0), 28u);
  EXPECT_EQ(cached(3, "b", "", 0), 0u);
  EXPECT_EQ(cached(4, "a", "other", 0), 0u);
  EXPECT_EQ(cached(5, "a", "", 10), 0u);   // its first blocks are public, nobody published those yet
  EXPECT_EQ(cached(6, "b", "", 10), 8u);   // two whole blocks lie inside the public region
  EXPECT_EQ(cached(7, "a", "", 10), 28u);
}

}  // namespace
}  // namespace quern
