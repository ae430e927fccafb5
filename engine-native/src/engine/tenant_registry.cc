#include "engine/tenant_registry.h"

#include "base/check.h"

namespace quern {

uint32_t TenantRegistry::free_slot() {
  if (named_count_ < slots_.size()) return named_count_++;
  uint32_t oldest = UINT32_MAX;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].live == 0 && (oldest == UINT32_MAX || slots_[i].used_at < slots_[oldest].used_at)) oldest = i;
  }
  CHECK(oldest != UINT32_MAX, "more live tenants than slots");
  by_name_.erase(slots_[oldest].name);
  return oldest;
}

TenantRegistry::Lease TenantRegistry::acquire(const std::string& tenant, uint32_t choices) {
  Lease lease;
  const auto found = by_name_.find(tenant);
  if (found != by_name_.end()) {
    lease.slot = found->second;
  } else {
    lease = {free_slot(), true};
    slots_[lease.slot] = {tenant, 0, 0};
    by_name_[tenant] = lease.slot;
  }
  slots_[lease.slot].live += choices;
  slots_[lease.slot].used_at = ++uses_;
  return lease;
}

void TenantRegistry::release(uint32_t slot, uint32_t choices) {
  CHECK(slots_[slot].live >= choices, "a tenant released more than it held");
  slots_[slot].live -= choices;
}

uint32_t TenantRegistry::live_count(const std::string& tenant) const {
  const auto found = by_name_.find(tenant);
  return found == by_name_.end() ? 0 : slots_[found->second].live;
}

}  // namespace quern
