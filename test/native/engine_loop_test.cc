// The step loop over the fake model: one Finished each, errors, cancel, close, the inbox, no allocation.
#include <cmath>
#include <random>
#include <thread>

#include "engine_fake.h"
#include "test.h"

namespace quern {
namespace {

using test::fake_greedy;
using test::fake_prompt;
using test::FakeEngine;
using test::FakeEngineOptions;
using test::greedy_request;

TEST(engine_model_error_ends_its_requests_and_the_engine_goes_on) {
  FakeEngine fake;
  std::atomic<bool> broken{true};
  fake.runner->before_step = [&](const Batch&, const std::atomic<bool>*) {
    return broken ? internal_error("device lost") : Status();
  };
  fake.start();
  REQUIRE_OK(fake.engine->submit(greedy_request(1, fake_prompt(9, 1), 4)));
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kError);
  EXPECT_ERROR(fake.recorder.finished[1].event.status, "device lost");
  broken = false;
  REQUIRE_OK(fake.engine->submit(greedy_request(2, fake_prompt(9, 1), 4)));
  REQUIRE(fake.recorder.wait_finished(2));
  EXPECT_OK(fake.recorder.finished[2].event.status);
  EXPECT_EQ((fake.recorder.tokens[{2, 0}]), fake_greedy(fake_prompt(9, 1), 4));
}

TEST(engine_nan_row_is_an_error_of_its_request_only) {
  FakeEngine fake;
  fake.runner->after_step = [](const Batch& batch, std::span<float> logits) {
    for (size_t r = 0; r < batch.logit_rows.size(); ++r) {
      // The victim is known by its first prompt token.
      for (const SequenceSlice& slice : batch.sequences) {
        const bool mine = batch.logit_rows[r] >= slice.query_begin && batch.logit_rows[r] < slice.query_begin + slice.query_count;
        if (mine && slice.context_count == 13) logits[r * test::kFakeVocabulary + 40] = NAN;
      }
    }
  };
  fake.start();
  REQUIRE_OK(fake.engine->submit(greedy_request(1, fake_prompt(11, 1), 8)));
  REQUIRE_OK(fake.engine->submit(greedy_request(2, fake_prompt(14, 2), 8)));
  REQUIRE(fake.recorder.wait_finished(1));
  REQUIRE(fake.recorder.wait_finished(2));
  EXPECT_ERROR(fake.recorder.finished[1].event.status, "NaN logits at output token 2");
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kError);
  EXPECT_EQ((fake.recorder.tokens[{1, 0}].size()), size_t{2});
  EXPECT_OK(fake.recorder.finished[2].event.status);
  EXPECT_EQ((fake.recorder.tokens[{2, 0}]), fake_greedy(fake_prompt(14, 2), 8));
}

// A step that lasts until interrupted, as a long prefill on a CPU would.
Status wait_for_interrupt(const std::atomic<bool>* interrupt) {
  for (int i = 0; i < 10000 && !interrupt->load(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return interrupt->load() ? Status(Code::kCancelled, "interrupted") : internal_error("never interrupted");
}

TEST(engine_cancel_of_the_only_work_stops_the_step_between_layers) {
  FakeEngine fake;
  std::atomic<bool> entered{false};
  fake.runner->before_step = [&](const Batch&, const std::atomic<bool>* interrupt) {
    entered = true;
    return wait_for_interrupt(interrupt);
  };
  fake.start();
  REQUIRE_OK(fake.engine->submit(greedy_request(1, fake_prompt(9, 1), 4)));
  while (!entered) std::this_thread::yield();
  fake.engine->cancel(1);
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kCancelled);
  EXPECT_OK(fake.recorder.finished[1].event.status);
  fake.engine->cancel(1);    // again, and unknown ids: ignored
  fake.engine->cancel(777);
}

TEST(engine_cancel_of_one_of_two_lets_the_step_finish) {
  FakeEngine fake;
  std::atomic<int> phase{0};
  std::atomic<bool> saw_interrupt{false};
  fake.runner->before_step = [&](const Batch& batch, const std::atomic<bool>* interrupt) {
    if (batch.sequences.size() == 2 && phase == 0) {
      phase = 1;
      while (phase == 1) std::this_thread::yield();
      saw_interrupt = interrupt->load();
    }
    return Status();
  };
  fake.start();
  REQUIRE_OK(fake.engine->submit(greedy_request(1, fake_prompt(9, 1), 40)));
  REQUIRE_OK(fake.engine->submit(greedy_request(2, fake_prompt(9, 2), 40)));
  while (phase == 0) std::this_thread::yield();
  fake.engine->cancel(1);
  phase = 2;
  REQUIRE(fake.recorder.wait_finished(1));
  REQUIRE(fake.recorder.wait_finished(2));
  EXPECT(!saw_interrupt);
  EXPECT_EQ((fake.recorder.tokens[{2, 0}]), fake_greedy(fake_prompt(9, 2), 40));
}

TEST(engine_close_ends_everything_exactly_once) {
  FakeEngine fake;
  std::atomic<bool> entered{false};
  fake.runner->before_step = [&](const Batch&, const std::atomic<bool>* interrupt) {
    entered = true;
    return wait_for_interrupt(interrupt);
  };
  fake.start();
  for (uint64_t id = 1; id <= 20; ++id) REQUIRE_OK(fake.engine->submit(greedy_request(id, fake_prompt(9, 1), 4)));
  while (!entered) std::this_thread::yield();
  fake.engine->close();
  EXPECT_EQ(fake.recorder.finished.size(), size_t{20});
  for (const auto& [id, end] : fake.recorder.finished) EXPECT_EQ(end.choices.at(0).reason, FinishReason::kCancelled);
  EXPECT_ERROR(fake.engine->submit(greedy_request(99, fake_prompt(9, 1), 4)), "closing");
  fake.engine->close();
}

TEST(engine_drain_refuses_new_work_and_finishes_the_old) {
  FakeEngine fake;
  fake.start();
  REQUIRE_OK(fake.engine->submit(greedy_request(1, fake_prompt(9, 1), 30)));
  fake.engine->drain();
  EXPECT_ERROR(fake.engine->submit(greedy_request(2, fake_prompt(9, 1), 4)), "draining");
  EXPECT(fake.engine->load().draining);
  REQUIRE(fake.recorder.wait_finished(1));
  EXPECT_EQ((fake.recorder.tokens[{1, 0}].size()), size_t{30});
}

TEST(engine_inbox_is_bounded_but_keeps_a_place_for_other_tenants) {
  FakeEngineOptions options;
  options.max_waiting = 8;
  FakeEngine fake(options);
  std::atomic<bool> hold{true};
  fake.runner->before_step = [&](const Batch&, const std::atomic<bool>*) {
    while (hold) std::this_thread::yield();
    return Status();
  };
  fake.start();
  uint64_t id = 1;
  Status status;
  while (id < 100) {
    Request request = greedy_request(id, fake_prompt(9, 1), 4);
    request.tenant = "flood";
    status = fake.engine->submit(request);
    if (!status.ok()) break;
    ++id;
  }
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_ERROR(status, "inbox is full");
  EXPECT_LE(id, uint64_t{8 + 4 + 1});
  Request polite = greedy_request(500, fake_prompt(9, 2), 4);
  polite.tenant = "polite";
  EXPECT_OK(fake.engine->submit(polite));
  EXPECT_ERROR(fake.engine->submit(polite), "no live request has");
  hold = false;
  REQUIRE(fake.recorder.wait_finished(500));
  for (uint64_t i = 1; i < id; ++i) REQUIRE(fake.recorder.wait_finished(i));
}

TEST(engine_supersede_and_deadline_through_the_front_door) {
  FakeEngine fake;
  fake.runner->before_step = [](const Batch&, const std::atomic<bool>*) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return Status();
  };
  fake.start();
  Request older = greedy_request(1, fake_prompt(9, 1), 200);
  older.supersede_key = "buffer-1";
  older.principal = "anna";
  Request other_person = older;
  other_person.id = 2;
  other_person.principal = "bert";
  Request newer = older;
  newer.id = 3;
  newer.sampling.max_tokens = 3;
  Request hasty = greedy_request(4, fake_prompt(9, 3), 200);
  hasty.timeout_ms = 30;
  REQUIRE_OK(fake.engine->submit(older));
  REQUIRE_OK(fake.engine->submit(other_person));
  REQUIRE_OK(fake.engine->submit(hasty));
  REQUIRE(fake.recorder.wait([&] { return fake.recorder.tokens[{1, 0}].size() > 1; }));
  REQUIRE_OK(fake.engine->submit(newer));
  REQUIRE(fake.recorder.wait_finished(1));
  REQUIRE(fake.recorder.wait_finished(3));
  REQUIRE(fake.recorder.wait_finished(4));
  EXPECT_EQ(fake.recorder.finished[1].choices.at(0).reason, FinishReason::kSuperseded);
  EXPECT_EQ(fake.recorder.finished[3].choices.at(0).reason, FinishReason::kLength);
  EXPECT_EQ(fake.recorder.finished[4].choices.at(0).reason, FinishReason::kDeadline);
  EXPECT_OK(fake.recorder.finished[4].event.status);
  {
    std::lock_guard lock(fake.recorder.mutex);
    EXPECT(!fake.recorder.finished.contains(2));
  }
  fake.engine->cancel(2);
  REQUIRE(fake.recorder.wait_finished(2));
}

TEST(engine_step_allocates_nothing_once_warm) {
  if (!test::counts_allocations()) SKIP("allocation counting is off in sanitizer builds");
  FakeEngineOptions options;
  options.num_blocks = 48;
  options.max_num_seqs = 6;
  options.max_num_tokens = 16;
  FakeEngine fake(options);
  fake.check_integrity = false;
  std::atomic<uint64_t> first{0}, last{0}, steps{0};
  std::atomic<bool> go{false};
  fake.runner->before_step = [&](const Batch&, const std::atomic<bool>*) {
    while (!go) std::this_thread::yield();
    const uint64_t now = test::allocations();
    if (++steps == 3) first = now;
    last = now;
    return Status();
  };
  // No recorder: it would allocate. Counts ends only.
  EngineParts parts;
  std::atomic<int> ended{0};
  RunnerLimits limits{16, 6, 12, 192, 4, 48};
  auto runner = std::make_unique<test::FakeRunner>(limits);
  runner->before_step = fake.runner->before_step;
  parts.runner = std::move(runner);
  parts.limits = limits;
  parts.num_ids = test::kFakeIds;
  parts.info.max_waiting = 64;
  auto engine = make_engine(std::move(parts), [&](const StepOut& step) { ended += static_cast<int>(step.finished.size()); });
  for (uint64_t id = 0; id < 20; ++id) {
    Request request = greedy_request(id, fake_prompt(17 + static_cast<uint32_t>(id) % 5, static_cast<uint32_t>(id % 3)), 30);
    request.sampling.temperature = id % 2 == 0 ? 0.0f : 0.8f;
    request.sampling.top_p = 0.9f;
    request.sampling.repetition_penalty = 1.1f;
    request.sampling.logprobs = 5;
    if (id % 4 == 0) request.sampling.prompt_logprobs = 2;
    REQUIRE_OK(engine->submit(request));
  }
  go = true;
  while (ended < 20) std::this_thread::yield();
  EXPECT_LT(uint64_t{50}, steps.load());
  EXPECT_EQ(last.load() - first.load(), uint64_t{0});
  engine->close();
}

TEST(engine_fuzz_with_threads_gives_one_finished_each_and_exact_tokens) {
  std::mt19937_64 seeds(test::seed());
  for (int round = 0; round < 6; ++round) {
    FakeEngineOptions options;
    options.num_blocks = static_cast<uint32_t>(12 + seeds() % 40);
    options.max_num_seqs = static_cast<uint32_t>(1 + seeds() % 5);
    options.max_num_tokens = options.max_num_seqs + static_cast<uint32_t>(seeds() % 30);
    options.max_waiting = 30;
    FakeEngine fake(options);
    fake.start();
    std::mutex mutex;
    std::map<uint64_t, Request> accepted;
    const auto client = [&](uint64_t base, uint64_t seed) {
      std::mt19937_64 random(seed);
      for (uint64_t i = 0; i < 150; ++i) {
        const uint32_t room = options.num_blocks * options.block_size;
        const uint32_t length = static_cast<uint32_t>(1 + random() % (room / 2));
        Request request = greedy_request(base + i, fake_prompt(length, static_cast<uint32_t>(random() % 3)),
                                         static_cast<uint32_t>(random() % (room - length)));
        request.tenant = random() % 2 == 0 ? "a" : "b";
        request.priority_class = static_cast<PriorityClass>(1 + random() % 6);
        if (random() % 4 == 0) request.timeout_ms = static_cast<uint32_t>(1 + random() % 20);
        if (random() % 4 == 0) request.supersede_key = "k" + std::to_string(random() % 3);
        if (random() % 5 == 0 && request.sampling.max_tokens > 0) request.sampling.n = 3;
        {
          std::lock_guard lock(mutex);
          accepted[request.id] = request;
        }
        if (!fake.engine->submit(request).ok()) {
          std::lock_guard lock(mutex);
          accepted.erase(request.id);
          std::this_thread::sleep_for(std::chrono::microseconds(300));
        }
        if (random() % 3 == 0) fake.engine->cancel(base + random() % (i + 1));
      }
    };
    std::thread first(client, 0, seeds()), second(client, 1000, seeds());
    first.join();
    second.join();
    fake.engine->close();
    EXPECT_EQ(fake.recorder.finished.size(), accepted.size());
    for (const auto& [id, request] : accepted) {
      REQUIRE(fake.recorder.finished.contains(id));
      const auto& end = fake.recorder.finished[id];
      EXPECT_EQ(end.choices.size(), size_t{request.sampling.n});
      for (uint32_t c = 0; c < request.sampling.n; ++c) {
        const auto& tokens = fake.recorder.tokens[{id, c}];
        EXPECT_EQ(tokens, fake_greedy(request.token_ids, static_cast<uint32_t>(tokens.size())));
      }
    }
    EXPECT_EQ(fake.engine->load().free_blocks, options.num_blocks);
  }
}

}  // namespace
}  // namespace quern
