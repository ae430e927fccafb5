// TenantRegistry: tenant names to the small numbers that the scheduler uses. Bounded: when all slots are named, the
// longest idle tenant loses its slot (and its token counter).
//
// Thread safety: none; guarded by the inbox's lock.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace quern {

class TenantRegistry {
 public:
  explicit TenantRegistry(uint32_t capacity) : slots_(capacity) {}

  struct Lease {
    uint32_t slot = 0;
    bool is_new = false;  // the slot's counter must start anew
  };
  // `choices` more live sequences of the tenant. REQUIRES: fewer live tenants than capacity.
  Lease acquire(const std::string& tenant, uint32_t choices);
  void release(uint32_t slot, uint32_t choices);
  uint32_t live_count(const std::string& tenant) const;

 private:
  struct Slot {
    std::string name;
    uint32_t live = 0;
    uint64_t used_at = 0;
  };

  uint32_t free_slot();

  std::vector<Slot> slots_;
  std::unordered_map<std::string, uint32_t> by_name_;
  uint64_t uses_ = 0;
  uint32_t named_count_ = 0;
};

}  // namespace quern
