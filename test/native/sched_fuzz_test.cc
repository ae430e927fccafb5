// Scheduler under random load on tiny pools: no leak, no wrong block, exactly one end per sequence, right tokens.
//
// Round i runs with seed --seed + i (the default is fixed); --sched-rounds N sets their number. A round that fails or aborts
// says how to run it alone.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <random>
#include <vector>

#include "sched_simulation.h"
#include "test.h"

namespace quern {
namespace {

using test::expected_output;
using test::kMs;
using test::Simulation;
using test::Spec;

struct Submitted {
  uint64_t id;
  Spec spec;
};

SchedulerOptions random_options(std::mt19937_64& random) {
  SchedulerOptions options;
  options.block_size = 1u << (random() % 4 + 1);
  options.max_num_seqs = static_cast<uint32_t>(1 + random() % 6);
  options.max_num_batched_tokens = options.max_num_seqs + static_cast<uint32_t>(random() % 40);
  options.max_logit_rows = options.max_num_seqs + 1 + static_cast<uint32_t>(random() % 6);
  options.max_live_sequences = 256;
  options.max_tenants = 4;
  options.size_chunks_by_time = random() % 2 == 0;
  options.starvation_ns = (1 + random() % 200) * kMs;
  options.promotion_interval_ns = (random() % 100) * kMs;
  return options;
}

Spec random_spec(std::mt19937_64& random, uint32_t tokens_max) {
  Spec spec;
  const uint32_t total = 2 + static_cast<uint32_t>(random() % (tokens_max - 1));
  spec.max_tokens = static_cast<uint32_t>(random() % total);
  const uint32_t length = std::max(1u, total - spec.max_tokens);
  spec.max_tokens = std::min(spec.max_tokens, total - length);
  // Few distinct beginnings, so that prefixes are shared.
  spec.prompt = test::prompt_of(length, static_cast<uint32_t>(random() % 4));
  if (random() % 2 == 0 && length > 3) spec.prompt[length / 2] = static_cast<uint32_t>(random() % 1000);
  spec.tenant = static_cast<uint32_t>(random() % 4);
  spec.priority_class = static_cast<uint8_t>(1 + random() % 6);
  spec.priority = static_cast<int32_t>(random() % 5) - 2;
  if (random() % 5 == 0) spec.timeout_ns = (1 + random() % 300) * kMs;
  if (random() % 5 == 0) spec.supersede = 1 + random() % 3;
  if (random() % 6 == 0 && spec.max_tokens > 0) spec.n = static_cast<uint32_t>(2 + random() % 3);
  spec.prompt_logprobs = random() % 8 == 0;
  return spec;
}

// What the rounds have met so far.
struct Seen {
  uint64_t ends[static_cast<size_t>(EndCause::kSuperseded) + 1] = {};
  uint64_t tokens = 0;
  SchedulerStats stats;
};

void run_one(uint64_t seed, Seen& seen) {
  std::mt19937_64 random(seed);
  const SchedulerOptions options = random_options(random);
  const uint32_t num_blocks = static_cast<uint32_t>(3 + random() % 40);
  Simulation sim(options, num_blocks);
  const uint32_t tokens_max = num_blocks * options.block_size;
  std::vector<Submitted> submitted;
  for (int round = 0; round < 300; ++round) {
    if (random() % 3 == 0 && sim.live_count() < 40) {
      const Spec spec = random_spec(random, tokens_max);
      submitted.push_back({sim.submit(spec), spec});
    }
    if (random() % 12 == 0 && !submitted.empty()) sim.cancel(submitted[random() % submitted.size()].id);
    if (random() % 30 == 0) sim.now_ns += (random() % 100) * kMs;
    if (random() % 25 == 0) {
      if (!sim.scheduler().schedule(sim.now_ns).empty()) sim.scheduler().abandon();
    } else {
      (void)sim.step();
    }
  }
  sim.run_until_idle(20000);
  for (const Submitted& request : submitted) {
    for (uint32_t c = 0; c < request.spec.n; ++c) {
      const auto end = sim.ends.find({request.id, c});
      if (end == sim.ends.end()) {
        test::fail(__FILE__, __LINE__, "no end for request " + std::to_string(request.id));
        continue;
      }
      const auto& output = end->second.output;
      seen.ends[static_cast<size_t>(end->second.cause)] += 1;
      seen.tokens += output.size();
      EXPECT_EQ(output, expected_output(request.spec.prompt, static_cast<uint32_t>(output.size())));
      if (end->second.cause == EndCause::kFinished) EXPECT_EQ(output.size(), size_t{request.spec.max_tokens});
    }
  }
  const SchedulerStats& stats = sim.scheduler().stats();
  seen.stats.preemptions += stats.preemptions, seen.stats.promotions += stats.promotions;
  seen.stats.displacements += stats.displacements, seen.stats.pressure_evictions += stats.pressure_evictions;
  seen.stats.prefix_hit_tokens += stats.prefix_hit_tokens;
  EXPECT_EQ(sim.pool().held_count(), 0u);
  EXPECT_EQ(sim.scheduler().running_count() + sim.scheduler().waiting_count(), 0u);
}

std::atomic<uint64_t> running_seed{0};

void print_running_seed() {
  std::fprintf(stderr, "  sched_fuzz: the failing round has seed %llu; alone: --filter sched_fuzz --seed %llu --sched-rounds 1\n",
               static_cast<unsigned long long>(running_seed), static_cast<unsigned long long>(running_seed));
}

// A failed CHECK aborts: the round must be known then too.
void on_abort(int) {
  print_running_seed();
  std::signal(SIGABRT, SIG_DFL);
  std::raise(SIGABRT);
}

TEST(sched_fuzz) {
  const int rounds = std::stoi(test::option("sched-rounds", "300"));
  const auto before = std::signal(SIGABRT, on_abort);
  Seen seen;
  for (int i = 0; i < rounds; ++i) {
    const uint64_t failures = test::failures();
    running_seed = test::seed() + static_cast<uint64_t>(i);
    run_one(running_seed, seen);
    if (test::failures() == failures) continue;
    print_running_seed();
    break;  // the next rounds would only bury it
  }
  std::signal(SIGABRT, before);
  if (rounds < 100 || test::failures() > 0) return;
  // Or the rounds would have tested less than they say.
  for (const uint64_t count : seen.ends) EXPECT_LT(0u, count);
  EXPECT_LT(0u, seen.tokens);
  EXPECT_LT(0u, seen.stats.preemptions);
  EXPECT_LT(0u, seen.stats.promotions);
  EXPECT_LT(0u, seen.stats.displacements);
  EXPECT_LT(0u, seen.stats.pressure_evictions);
  EXPECT_LT(0u, seen.stats.prefix_hit_tokens);
}

}  // namespace
}  // namespace quern
