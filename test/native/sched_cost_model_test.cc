// CostModel: learns the time of decodes and of prefill tokens, shrugs off outliers, sizes chunks.
#include "sched/cost_model.h"
#include "sched/limits.h"
#include "test.h"

namespace quern {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(sched_cost_learns_prefill_and_decode_time) {
  CostModel cost;
  EXPECT(!cost.trusted());
  EXPECT_EQ(cost.prefill_ns(1000), uint64_t{0});
  for (int i = 0; i < 20; ++i) {
    cost.observe(4, 0, 20 * kMs);              // decodes: 20 ms
    cost.observe(4, 100, 20 * kMs + 50 * kMs); // half a millisecond per prefill token beside them
  }
  EXPECT(cost.trusted());
  EXPECT_NEAR(static_cast<double>(cost.prefill_ns(1000)), 500e6, 5e6);
  EXPECT_NEAR(static_cast<double>(cost.decode_step_ns()), 20e6, 1e5);
  EXPECT_NEAR(static_cast<double>(cost.prefill_budget(4, 80 * kMs)), 120.0, 3.0);
}

TEST(sched_cost_outlier_counts_little) {
  CostModel cost;
  for (int i = 0; i < 20; ++i) cost.observe(0, 100, 50 * kMs);
  const uint64_t before = cost.prefill_ns(100);
  cost.observe(0, 100, 60'000 * kMs);  // the machine slept for a minute
  EXPECT_LE(cost.prefill_ns(100), before * 3 / 2);
}

TEST(sched_cost_budget_has_floors) {
  CostModel cost;
  EXPECT_EQ(cost.prefill_budget(0, 100 * kMs), limits::kPrefillChunkFirst);
  for (int i = 0; i < 5; ++i) cost.observe(0, 10, 1000 * kMs);  // 100 ms a token
  EXPECT_EQ(cost.prefill_budget(0, 100 * kMs), limits::kPrefillChunkMin);
  EXPECT_EQ(cost.prefill_budget(3, 100 * kMs), limits::kMixedChunkMin);
}

TEST(sched_cost_prefill_gets_as_much_time_as_slow_decodes) {
  CostModel cost;
  for (int i = 0; i < 30; ++i) {
    cost.observe(2, 0, 200 * kMs);
    cost.observe(2, 100, 300 * kMs);  // one millisecond a token
  }
  EXPECT_NEAR(static_cast<double>(cost.prefill_budget(2, 80 * kMs)), 200.0, 10.0);
}

}  // namespace
}  // namespace quern
