// A 128-bit hash value: the name of a prefix, a salt or a supersede key.
#pragma once

#include <cstdint>

namespace quern {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  friend bool operator==(const Hash128&, const Hash128&) = default;
  bool is_zero() const { return low == 0 && high == 0; }
};

}  // namespace quern
