// TenantAccounts: who pays, who goes first, and that idling saves up nothing.
#include "sched/tenant_accounts.h"
#include "test.h"

namespace quern {
namespace {

TEST(sched_tenant_that_returns_is_lifted_to_the_lowest_active_counter) {
  TenantAccounts accounts(4);
  accounts.enter(0);
  accounts.charge(0, 1000);
  accounts.enter(1);  // new, while tenant 0 is busy: no credit for the past
  EXPECT_EQ(accounts.counter(1), uint64_t{1000});
  accounts.charge(1, 50);
  accounts.leave(1);
  accounts.charge(0, 500);
  accounts.enter(1);
  EXPECT_EQ(accounts.counter(1), uint64_t{1500});
  accounts.leave(0);
  accounts.charge(1, 10);
  accounts.enter(0);  // its own counter is lower than the only other's: lifted again
  EXPECT_EQ(accounts.counter(0), uint64_t{1510});
}

TEST(sched_tenant_debt_survives_a_pause) {
  TenantAccounts accounts(4);
  accounts.enter(0);
  accounts.enter(1);
  accounts.charge(0, 900);
  accounts.leave(0);
  accounts.enter(0);
  EXPECT_EQ(accounts.counter(0), uint64_t{900});
  accounts.refund(0, 100);
  EXPECT_EQ(accounts.counter(0), uint64_t{800});
  accounts.refund(0, 10000);
  EXPECT_EQ(accounts.counter(0), uint64_t{0});
}

TEST(sched_tenant_slot_starts_anew_for_another_owner) {
  TenantAccounts accounts(2);
  accounts.enter(0);
  accounts.charge(0, 70);
  accounts.leave(0);
  accounts.reset(0);
  EXPECT_EQ(accounts.counter(0), uint64_t{0});
  EXPECT_EQ(accounts.active_count(0), 0u);
}

}  // namespace
}  // namespace quern
