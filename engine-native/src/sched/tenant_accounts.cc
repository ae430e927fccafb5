#include "sched/tenant_accounts.h"

#include <algorithm>

#include "base/check.h"

namespace quern {

void TenantAccounts::reset(uint32_t tenant) {
  CHECK(accounts_[tenant].active_count == 0, "a tenant's slot was given away while in use");
  accounts_[tenant] = Account{};
}

void TenantAccounts::enter(uint32_t tenant) {
  Account& account = accounts_[tenant];
  if (account.active_count++ > 0) return;
  uint64_t lowest = UINT64_MAX;
  for (uint32_t other : active_) lowest = std::min(lowest, accounts_[other].counter);
  if (lowest != UINT64_MAX) account.counter = std::max(account.counter, lowest);
  account.active_at = static_cast<uint32_t>(active_.size());
  active_.push_back(tenant);
}

void TenantAccounts::leave(uint32_t tenant) {
  Account& account = accounts_[tenant];
  CHECK(account.active_count > 0, "a tenant left more often than it entered");
  if (--account.active_count > 0) return;
  const uint32_t last = active_.back();
  active_[account.active_at] = last;
  accounts_[last].active_at = account.active_at;
  active_.pop_back();
}

void TenantAccounts::charge(uint32_t tenant, uint64_t cost) { accounts_[tenant].counter += cost; }

void TenantAccounts::refund(uint32_t tenant, uint64_t cost) {
  accounts_[tenant].counter -= std::min(accounts_[tenant].counter, cost);
}

}  // namespace quern
