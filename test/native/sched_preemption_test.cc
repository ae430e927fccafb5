// Who gives way on a virtual clock when slots or blocks run out: eviction, preemption, pressure, abandoned steps.
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
