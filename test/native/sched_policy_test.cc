// Scheduler policy on a virtual clock: order, chunks, fairness, starvation, deadlines, supersede.
#include <vector>

#include "sched_simulation.h"
#include "test.h"

namespace quern {
namespace {

using test::expected_output;
using test::kMs;
using test::prompt_of;
using test::Simulation;
using test::small_options;
using test::Spec;
using test::spec;

TEST(sched_runs_one_request_to_its_limit) {
  Simulation sim(small_options(), 32);
  const uint64_t id = sim.submit(spec(prompt_of(13, 1), 9));
  sim.run_until_idle();
  const auto& end = sim.ends.at({id, 0});
  EXPECT_EQ(end.cause, EndCause::kFinished);
  EXPECT_EQ(end.output, expected_output(prompt_of(13, 1), 9));
  EXPECT_EQ(sim.pool().held_count(), 0u);
}

TEST(sched_hits_a_prefix_but_never_the_last_token) {
  Simulation sim(small_options(), 32);
  sim.submit(spec(prompt_of(16, 1), 1));
  sim.run_until_idle();
  const uint64_t again = sim.submit(spec(prompt_of(16, 1), 3));
  const uint64_t stranger = sim.submit(spec(prompt_of(16, 1), 3, 1));
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({again, 0}).cached, 12u);  // 16 are cached, the block of the last token runs again
  EXPECT_EQ(sim.ends.at({stranger, 0}).cached, 0u);
  EXPECT_EQ(sim.ends.at({again, 0}).output, expected_output(prompt_of(16, 1), 3));
}

TEST(sched_warm_computes_the_prompt_and_nothing_else) {
  Simulation sim(small_options(), 32);
  const uint64_t warm = sim.submit(spec(prompt_of(20, 1), 0, 0, 6));
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({warm, 0}).cause, EndCause::kFinished);
  EXPECT_EQ(sim.ends.at({warm, 0}).output.size(), 0u);
  const uint64_t hot = sim.submit(spec(prompt_of(20, 1), 2));
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({hot, 0}).cached, 16u);
}

TEST(sched_choices_share_the_prompt) {
  Simulation sim(small_options(), 64);
  Spec request = spec(prompt_of(18, 1), 5);
  request.n = 4;
  const uint64_t id = sim.submit(request);
  EXPECT(sim.step());
  EXPECT_EQ(sim.last_plan.size(), 1u);  // the others wait for choice 0's prompt
  EXPECT(sim.step());
  EXPECT_EQ(sim.last_plan.size(), 4u);
  for (const PlannedSlice& slice : sim.last_plan) EXPECT_LE(slice.count, 2u);
  sim.run_until_idle();
  for (uint32_t c = 0; c < 4; ++c) EXPECT_EQ(sim.ends.at({id, c}).output, expected_output(prompt_of(18, 1), 5));
}

TEST(sched_choices_wait_until_the_whole_prompt_is_computed) {
  Simulation sim(small_options(), 128);
  Spec request = spec(prompt_of(150, 1), 3);
  request.n = 3;
  const uint64_t id = sim.submit(request);
  uint32_t computed = 0;
  for (int steps = 0; computed < 150; ++steps) {
    REQUIRE(steps < 10);
    EXPECT(sim.step());
    EXPECT_EQ(sim.last_plan.size(), 1u);
    for (const PlannedSlice& slice : sim.last_plan) computed += slice.count;
  }
  EXPECT(sim.step());
  EXPECT_EQ(sim.last_plan.size(), 3u);
  sim.run_until_idle();
  for (uint32_t c = 1; c < 3; ++c) EXPECT_EQ(sim.ends.at({id, c}).cached, 148u);
}

TEST(sched_decodes_run_in_every_step_beside_a_long_prefill) {
  auto options = small_options();
  options.max_num_batched_tokens = 256;
  Simulation sim(options, 300);
  for (uint32_t i = 0; i < 4; ++i) sim.submit(spec(prompt_of(40, i), 2));  // teaches the cost model
  sim.run_until_idle();
  const uint64_t talker = sim.submit(spec(prompt_of(8, 50), 60));
  while (sim.sequence(talker).output_count() < 2) EXPECT(sim.step());
  sim.submit(spec(prompt_of(900, 60), 1, 1));
  int mixed = 0;
  while (sim.is_live(talker) && sim.live_count() == 2) {
    const uint64_t before = sim.now_ns;
    const uint32_t had = sim.sequence(talker).output_count();
    EXPECT(sim.step());
    if (sim.is_live(talker)) EXPECT_EQ(sim.sequence(talker).output_count(), had + 1);
    if (sim.last_plan.size() == 2) {
      ++mixed;
      // Chunks are sized by time: a step stays near its target though the budget would allow more.
      EXPECT_LE(sim.now_ns - before, options.mixed_step_ns * 5 / 4);
    }
  }
  EXPECT_LE(3, mixed);
  sim.run_until_idle();
}

TEST(sched_orders_by_class_then_priority_then_arrival) {
  auto options = small_options();
  options.max_num_seqs = 1;
  Simulation sim(options, 64);
  const uint64_t batch = sim.submit(spec(prompt_of(8, 1), 2, 0, 4));
  const uint64_t late = sim.submit(spec(prompt_of(8, 2), 2, 0, 3));
  Spec urgent = spec(prompt_of(8, 3), 2, 0, 3);
  urgent.priority = -5;
  const uint64_t first = sim.submit(urgent);
  const uint64_t invoked = sim.submit(spec(prompt_of(8, 4), 2, 0, 1));
  sim.run_until_idle();
  EXPECT_LT(sim.ends.at({invoked, 0}).at_ns, sim.ends.at({first, 0}).at_ns);
  EXPECT_LT(sim.ends.at({first, 0}).at_ns, sim.ends.at({late, 0}).at_ns);
  EXPECT_LT(sim.ends.at({late, 0}).at_ns, sim.ends.at({batch, 0}).at_ns);
}

TEST(sched_flood_of_one_tenant_does_not_delay_another) {
  auto options = small_options();
  Simulation sim(options, 128);
  for (uint32_t i = 0; i < 200; ++i) sim.submit(spec(prompt_of(24, i), 8, 0));
  for (int i = 0; i < 10; ++i) EXPECT(sim.step());
  uint64_t worst = 0;
  for (uint32_t i = 0; i < 10; ++i) {
    const uint64_t id = sim.submit(spec(prompt_of(24, 1000 + i), 8, 1));
    while (sim.is_live(id)) EXPECT(sim.step());
    worst = std::max(worst, sim.ends.at({id, 0}).wait_ns);
  }
  // At most until one of the flood's running sequences ends; the flood itself takes far longer.
  EXPECT_LE(worst, 120 * kMs);
  const uint64_t polite_done = sim.now_ns;
  sim.run_until_idle();
  EXPECT_LT(polite_done + 500 * kMs, sim.now_ns);
}

TEST(sched_shares_tokens_evenly_between_backlogged_tenants) {
  Simulation sim(small_options(), 128);
  // Three tenants with very different request sizes, all backlogged.
  const uint32_t sizes[3] = {8, 40, 100};
  for (uint32_t i = 0; i < 60; ++i) {
    for (uint32_t t = 0; t < 3; ++t) sim.submit(spec(prompt_of(sizes[t], t * 1000 + i), 4, t));
  }
  std::vector<double> served(3, 0);
  for (int i = 0; i < 60; ++i) {
    EXPECT(sim.step());
    for (const PlannedSlice& slice : sim.last_plan) {
      served[slice.sequence->tenant] += static_cast<double>(slice.count) * (slice.decode ? 2 : 1);
    }
  }
  const double sum = served[0] + served[1] + served[2];
  const double squares = served[0] * served[0] + served[1] * served[1] + served[2] * served[2];
  const double jain = sum * sum / (3 * squares);  // 1 = perfectly fair, 1/3 = one takes all
  EXPECT_LT(0.95, jain);
  sim.run_until_idle();
}

TEST(sched_starving_request_is_promoted_under_a_stronger_flood) {
  auto options = small_options();
  options.max_num_seqs = 1;
  options.starvation_ns = 500 * kMs;
  Simulation sim(options, 128);
  const uint64_t blocker = sim.submit(spec(prompt_of(8, 0), 4, 1, 1));
  EXPECT(sim.step());
  const uint64_t weak = sim.submit(spec(prompt_of(8, 1), 4, 0, 5));
  const uint64_t start = sim.now_ns;
  uint32_t seed = 10;
  while (sim.is_live(weak) && sim.now_ns < start + 5000 * kMs) {
    while (sim.live_count() < 6) sim.submit(spec(prompt_of(8, seed++), 4, 1, 1));
    EXPECT(sim.step());
  }
  REQUIRE(!sim.is_live(weak));
  EXPECT_EQ(sim.ends.at({weak, 0}).cause, EndCause::kFinished);
  EXPECT_LE(sim.ends.at({weak, 0}).wait_ns, 600 * kMs);
  EXPECT_LE(500 * kMs, sim.ends.at({weak, 0}).wait_ns);
  EXPECT_EQ(sim.ends.at({weak, 0}).preemptions, 0u);
  EXPECT(sim.ends.contains({blocker, 0}));
}

TEST(sched_promotion_does_not_lift_a_whole_flood) {
  auto options = small_options();
  options.max_num_seqs = 1;
  options.starvation_ns = 100 * kMs;
  options.promotion_interval_ns = 1000 * kMs;
  Simulation sim(options, 128);
  for (uint32_t i = 0; i < 100; ++i) sim.submit(spec(prompt_of(8, i), 4, 0, 4));
  sim.now_ns += 200 * kMs;
  const uint64_t before = sim.scheduler().stats().promotions;
  for (int i = 0; i < 20; ++i) EXPECT(sim.step());
  const uint64_t invoked = sim.submit(spec(prompt_of(8, 500), 4, 1, 1));
  while (sim.is_live(invoked)) EXPECT(sim.step());
  EXPECT_LE(sim.scheduler().stats().promotions - before, 2u);
  EXPECT_LE(sim.ends.at({invoked, 0}).wait_ns, 50 * kMs);
  sim.run_until_idle();
}

TEST(sched_expired_in_queue_never_runs) {
  auto options = small_options();
  options.max_num_seqs = 1;
  Simulation sim(options, 64);
  sim.submit(spec(prompt_of(8, 1), 40));
  EXPECT(sim.step());
  Spec hasty = spec(prompt_of(8, 2), 4);
  hasty.timeout_ns = 10 * kMs;
  const uint64_t id = sim.submit(hasty);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({id, 0}).cause, EndCause::kDeadline);
  EXPECT_EQ(sim.ends.at({id, 0}).wait_ns, UINT64_MAX);
}

TEST(sched_running_request_ends_at_its_deadline_with_what_it_has) {
  Simulation sim(small_options(), 64);
  Spec request = spec(prompt_of(8, 1), 100);
  request.timeout_ns = 30 * kMs;
  const uint64_t id = sim.submit(request);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({id, 0}).cause, EndCause::kDeadline);
  EXPECT_LT(2u, static_cast<uint32_t>(sim.ends.at({id, 0}).output.size()));
  EXPECT_LE(sim.ends.at({id, 0}).at_ns, 1000 * kMs + 33 * kMs);
}

TEST(sched_refuses_infeasible_work_before_prefill) {
  Simulation sim(small_options(), 600);
  Spec hopeless = spec(prompt_of(2000, 99), 4);
  hopeless.timeout_ns = 50 * kMs;
  // Nothing measured yet: no verdict, it may try.
  for (uint32_t i = 0; i < 4; ++i) sim.submit(spec(prompt_of(200, i), 2));
  sim.run_until_idle();
  const uint64_t id = sim.submit(hopeless);  // needs about 200 ms
  REQUIRE(sim.ends.contains({id, 0}));
  EXPECT_EQ(sim.ends.at({id, 0}).cause, EndCause::kInfeasible);
  EXPECT_EQ(sim.ends.at({id, 0}).wait_ns, UINT64_MAX);
  hopeless.timeout_ns = 2000 * kMs;
  const uint64_t possible = sim.submit(hopeless);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({possible, 0}).cause, EndCause::kFinished);
}

TEST(sched_refuses_work_that_the_queue_ahead_makes_late) {
  Simulation sim(small_options(), 600);
  for (uint32_t i = 0; i < 4; ++i) sim.submit(spec(prompt_of(200, i), 2));
  sim.run_until_idle();
  for (uint32_t i = 0; i < 10; ++i) sim.submit(spec(prompt_of(400, 10 + i), 2));  // about 400 ms of prefill
  Spec request = spec(prompt_of(100, 50), 2);
  request.timeout_ns = 200 * kMs;
  const uint64_t late = sim.submit(request);
  REQUIRE(sim.ends.contains({late, 0}));
  EXPECT_EQ(sim.ends.at({late, 0}).cause, EndCause::kOverloaded);
  // The same from another tenant has its own share, and a stronger class goes first: both are accepted.
  request.tenant = 1;
  const uint64_t other = sim.submit(request);
  request.tenant = 0;
  request.priority_class = 1;
  const uint64_t strong = sim.submit(request);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({other, 0}).cause, EndCause::kFinished);
  EXPECT_EQ(sim.ends.at({strong, 0}).cause, EndCause::kFinished);
}

TEST(sched_newer_request_supersedes_the_older) {
  Simulation sim(small_options(), 64);
  Spec request = spec(prompt_of(8, 1), 50);
  request.supersede = 77;
  request.n = 2;
  const uint64_t older = sim.submit(request);
  for (int i = 0; i < 4; ++i) EXPECT(sim.step());
  Spec other = spec(prompt_of(8, 2), 5);
  other.supersede = 78;
  const uint64_t bystander = sim.submit(other);
  EXPECT(sim.is_live(older));
  const uint64_t newer = sim.submit(request);
  EXPECT(!sim.is_live(older));
  EXPECT_EQ(sim.ends.at({older, 0}).cause, EndCause::kSuperseded);
  EXPECT_EQ(sim.ends.at({older, 1}).cause, EndCause::kSuperseded);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({newer, 0}).cause, EndCause::kFinished);
  EXPECT_EQ(sim.ends.at({bystander, 0}).cause, EndCause::kFinished);
}

}  // namespace
}  // namespace quern
