// Names prefixes: a keyed 128-bit chain hash over full blocks.
//
//   h(block i) = H(key; h(block i - 1), salt, ids of block i)
//
// The salt is the tenant's (tenant name and cache salt), so a tenant can neither hit nor time another tenant's prompts.
// One region is shared on purpose: blocks that lie wholly inside the first `public_prefix_tokens` tokens (system and tool
// prefixes) are hashed with the public salt. A tenant's blocks chain onto them with the tenant's own salt.
//
// Thread safety: immutable after construction; may be shared. Invariant: equal hashes mean equal prefixes (2^-64 class
// collision odds, and the key is drawn per process, so collisions cannot be prepared).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "cache/hash128.h"

namespace quern {

class PrefixHasher {
 public:
  explicit PrefixHasher(const Hash128& key) : key_(key) {}

  // A hasher with a fresh key from the system's random source.
  static PrefixHasher with_random_key();

  // The salt of one tenant's region.
  Hash128 salt(std::string_view tenant, std::string_view cache_salt) const;
  // The salt of the region that all tenants share.
  Hash128 public_salt() const;
  // Any list of strings to one name; used for supersede keys. Length-prefixed, so ("a", "bc") differs from ("ab", "c").
  Hash128 name(std::span<const std::string_view> parts) const;

  // The name of the prefix that ends with this full block. `parent` is zero for the first block.
  Hash128 extend(const Hash128& parent, const Hash128& salt, std::span<const uint32_t> block_ids) const;

 private:
  Hash128 key_;
};

}  // namespace quern
