// TenantAccounts: fair shares by a virtual token counter per tenant (Sheng et al., "Fairness in Serving Large Language
// Models", OSDI 2024). Serving a tenant raises its counter by the cost of its tokens; the tenant with the lowest counter goes
// first. A tenant that comes back from idling is lifted to the lowest active counter: idling saves up nothing.
//
// Thread safety: none; the engine thread owns it. Invariant: active_count equals the tenant's sequences in the scheduler.
#pragma once

#include <cstdint>
#include <vector>

namespace quern {

class TenantAccounts {
 public:
  explicit TenantAccounts(uint32_t capacity) : accounts_(capacity) { active_.reserve(capacity); }

  uint32_t capacity() const { return static_cast<uint32_t>(accounts_.size()); }
  // A slot got a new owner: starts at zero cost. REQUIRES: no active sequence.
  void reset(uint32_t tenant);
  // A sequence of the tenant entered / left the scheduler.
  void enter(uint32_t tenant);
  void leave(uint32_t tenant);
  void charge(uint32_t tenant, uint64_t cost);
  void refund(uint32_t tenant, uint64_t cost);
  uint64_t counter(uint32_t tenant) const { return accounts_[tenant].counter; }
  uint32_t active_count(uint32_t tenant) const { return accounts_[tenant].active_count; }

 private:
  struct Account {
    uint64_t counter = 0;
    uint32_t active_count = 0;
    uint32_t active_at = 0;  // position in active_
  };

  std::vector<Account> accounts_;
  std::vector<uint32_t> active_;  // slots with active sequences, so that a lift looks at few
};

}  // namespace quern
