// PrefixIndex: from a prefix's hash to the block that holds its last tokens. The radix tree over full blocks, kept flat:
// a chain hash names the whole path from the root, so one look-up per block walks it.
//
// Thread safety: none; the engine thread owns it. Invariants: at most one block per hash and one hash per block; never
// allocates after construction (open addressing, at most half full, deletion by backward shift).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cache/hash128.h"

namespace quern {

class PrefixIndex {
 public:
  // Holds up to `capacity` entries.
  explicit PrefixIndex(uint32_t capacity);

  std::optional<uint32_t> find(const Hash128& hash) const;
  // False when the hash is already there (the older block stays).
  bool insert(const Hash128& hash, uint32_t block);
  // REQUIRES: the hash is there.
  void erase(const Hash128& hash);
  uint32_t count() const { return count_; }

 private:
  struct Entry {
    Hash128 hash;
    uint32_t block = 0;
    bool used = false;
  };

  uint32_t home(const Hash128& hash) const { return static_cast<uint32_t>(hash.low) & mask_; }
  // Where the hash is, or the free entry where it would go.
  uint32_t probe(const Hash128& hash) const;

  std::vector<Entry> entries_;
  uint32_t mask_ = 0;
  uint32_t capacity_ = 0;
  uint32_t count_ = 0;
};

}  // namespace quern
