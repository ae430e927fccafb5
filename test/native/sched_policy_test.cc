// Scheduler policy on a virtual clock: order, chunks, fairness, starvation, deadlines, supersede, preemption, pressure.
#include <numeric>
#include <vector>

#include "sched_simulation.h"
#include "test.h"

namespace quern {
namespace {

using test::expected_output;
using test::kMs;
using test::prompt_of;
using test::Simulation;
using test::Spec;

SchedulerOptions small_options() {
  SchedulerOptions options;
  options.block_size = 4;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.max_logit_rows = 12;
  options.max_live_sequences = 512;
  options.max_tenants = 16;
  return options;
}

Spec spec(std::vector<uint32_t> prompt, uint32_t max_tokens, uint32_t tenant = 0, uint8_t priority_class = 3) {
  Spec out;
  out.prompt = std::move(prompt);
  out.max_tokens = max_tokens;
  out.tenant = tenant;
  out.priority_class = priority_class;
  return out;
}

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

TEST(sched_stronger_class_takes_the_slot_of_a_weaker_one) {
  auto options = small_options();
  options.max_num_seqs = 2;
  Simulation sim(options, 64);
  const uint64_t batch = sim.submit(spec(prompt_of(9, 1), 40, 0, 4));
  const uint64_t chat = sim.submit(spec(prompt_of(9, 2), 40, 0, 3));
  for (int i = 0; i < 5; ++i) EXPECT(sim.step());
  const uint64_t equal = sim.submit(spec(prompt_of(9, 4), 40, 0, 4));
  EXPECT(sim.step());
  EXPECT_EQ(sim.sequence(batch).preemptions, 0u);  // an equal class never displaces
  const uint64_t invoked = sim.submit(spec(prompt_of(9, 3), 4, 0, 1));
  EXPECT(sim.step());
  EXPECT_EQ(sim.sequence(batch).state, SequenceState::kWaiting);
  EXPECT_EQ(sim.sequence(chat).state, SequenceState::kRunning);
  sim.run_until_idle();
  EXPECT_LE(sim.ends.at({invoked, 0}).wait_ns, 5 * kMs);
  EXPECT_EQ(sim.ends.at({batch, 0}).preemptions, 1u);
  EXPECT_EQ(sim.ends.at({batch, 0}).output, expected_output(prompt_of(9, 1), 40));
  EXPECT_EQ(sim.ends.at({equal, 0}).cause, EndCause::kFinished);
}

TEST(sched_eviction_takes_the_tail_of_an_old_prefix_and_keeps_its_head) {
  Simulation sim(small_options(), 12);
  sim.submit(spec(prompt_of(40, 1), 1));  // ten blocks, released together
  sim.run_until_idle();
  sim.submit(spec(prompt_of(20, 2), 1));  // takes two free blocks and three cached ones
  sim.run_until_idle();
  const uint64_t again = sim.submit(spec(prompt_of(40, 1), 1));
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({again, 0}).cached, 28u);
}

TEST(sched_stronger_class_takes_the_blocks_of_weaker_ones) {
  Simulation sim(small_options(), 20);  // 80 tokens
  const uint64_t batch = sim.submit(spec(prompt_of(60, 1), 8, 0, 4));
  EXPECT(sim.step());
  const uint64_t invoked = sim.submit(spec(prompt_of(40, 2), 8, 0, 1));
  EXPECT(sim.step());
  EXPECT_EQ(sim.sequence(batch).state, SequenceState::kWaiting);
  EXPECT_EQ(sim.sequence(invoked).state, SequenceState::kRunning);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({batch, 0}).output, expected_output(prompt_of(60, 1), 8));
  // What cannot fit even then displaces nobody.
  const uint64_t weak = sim.submit(spec(prompt_of(30, 3), 30, 0, 4));
  const uint64_t chat = sim.submit(spec(prompt_of(30, 4), 30, 0, 1));
  EXPECT(sim.step());
  const uint64_t large = sim.submit(spec(prompt_of(60, 5), 4, 0, 3));
  EXPECT(sim.step());
  EXPECT_EQ(sim.sequence(weak).preemptions, 0u);
  sim.run_until_idle();
  EXPECT(sim.ends.contains({chat, 0}) && sim.ends.contains({large, 0}));
}

TEST(sched_preempts_the_youngest_when_blocks_run_out_and_loses_no_token) {
  Simulation sim(small_options(), 20);  // 80 tokens
  std::vector<uint64_t> ids;
  for (uint32_t i = 0; i < 4; ++i) ids.push_back(sim.submit(spec(prompt_of(10, i), 40)));
  sim.run_until_idle();
  uint32_t preemptions = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(sim.ends.at({ids[i], 0}).output, expected_output(prompt_of(10, i), 40));
    preemptions += sim.ends.at({ids[i], 0}).preemptions;
  }
  EXPECT_LT(0u, preemptions);
  EXPECT_EQ(sim.ends.at({ids[0], 0}).preemptions, 0u);
}

TEST(sched_weakest_class_gives_way_above_ninety_percent) {
  Simulation sim(small_options(), 40);  // 160 tokens
  const uint64_t batch = sim.submit(spec(prompt_of(60, 1), 60, 0, 4));
  EXPECT(sim.step());
  const uint64_t chat = sim.submit(spec(prompt_of(60, 2), 60, 0, 3));
  uint32_t held_max = 0;
  while (sim.is_live(chat)) {
    EXPECT(sim.step());
    held_max = std::max(held_max, sim.pool().held_count());
  }
  EXPECT_LT(0u, sim.scheduler().stats().pressure_evictions);
  EXPECT_LE(held_max, 38u);  // 90 % and the blocks of the step that crossed it
  EXPECT_EQ(sim.ends.at({chat, 0}).preemptions, 0u);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({batch, 0}).output, expected_output(prompt_of(60, 1), 60));
  EXPECT_LE(sim.ends.at({batch, 0}).preemptions, 3u);  // not put out and let in in turns
}

TEST(sched_large_prompt_is_not_passed_by_small_ones_for_ever) {
  Simulation sim(small_options(), 30);
  uint32_t seed = 100;
  for (int i = 0; i < 4; ++i) sim.submit(spec(prompt_of(12, seed++), 12));
  EXPECT(sim.step());
  const uint64_t large = sim.submit(spec(prompt_of(90, 1), 4));
  const uint64_t start = sim.now_ns;
  while (sim.is_live(large) && sim.now_ns < start + 3000 * kMs) {
    while (sim.live_count() < 8) sim.submit(spec(prompt_of(12, seed++), 12));
    EXPECT(sim.step());
  }
  EXPECT(!sim.is_live(large));
  sim.run_until_idle();
}

TEST(sched_prompt_rows_cover_the_prompt_once_even_when_preempted) {
  auto options = small_options();
  options.max_num_seqs = 2;
  options.max_logit_rows = 7;  // five prompt rows a step
  Simulation sim(options, 24);
  Spec request = spec(prompt_of(33, 1), 3, 0, 4);
  request.prompt_logprobs = true;
  const uint64_t id = sim.submit(request);
  std::vector<int> rows(33, 0);
  bool disturbed = false;
  while (sim.is_live(id)) {
    EXPECT(sim.step());
    for (const PlannedSlice& slice : sim.last_plan) {
      if (slice.sequence->request_id != id) continue;
      for (uint32_t r = slice.row_begin; r < slice.row_begin + slice.row_count; ++r) {
        if (r < 32) ++rows[r];
      }
    }
    if (!disturbed && sim.is_live(id) && sim.sequence(id).computed_count > 12) {
      disturbed = true;
      sim.submit(spec(prompt_of(70, 2), 2, 0, 1));
    }
  }
  for (int i = 0; i < 32; ++i) EXPECT_EQ(rows[static_cast<size_t>(i)], 1);
  EXPECT_LT(0u, sim.ends.at({id, 0}).preemptions);
  sim.run_until_idle();
}

TEST(sched_abandoned_step_counts_for_nothing) {
  Simulation sim(small_options(), 32);
  const uint64_t id = sim.submit(spec(prompt_of(13, 1), 5));
  EXPECT_EQ(sim.scheduler().schedule(sim.now_ns).size(), 1u);
  EXPECT_LT(0u, static_cast<uint32_t>(sim.scheduler().accounts().counter(0)));
  sim.scheduler().abandon();
  EXPECT_EQ(sim.scheduler().accounts().counter(0), 0u);
  EXPECT_EQ(sim.sequence(id).computed_count, 0u);
  sim.run_until_idle();
  EXPECT_EQ(sim.ends.at({id, 0}).output, expected_output(prompt_of(13, 1), 5));
}

}  // namespace
}  // namespace quern
