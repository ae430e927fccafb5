#include "cache/prefix_index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace quern {

PrefixIndex::PrefixIndex(uint32_t capacity) : capacity_(capacity) {
  CHECK(capacity <= (1u << 30), "prefix index capacity: expected at most 2^30");
  const uint32_t size = std::bit_ceil(std::max(capacity * 2, 2u));
  entries_.resize(size);
  mask_ = size - 1;
}

uint32_t PrefixIndex::probe(const Hash128& hash) const {
  uint32_t at = home(hash);
  while (entries_[at].used && !(entries_[at].hash == hash)) at = (at + 1) & mask_;
  return at;
}

std::optional<uint32_t> PrefixIndex::find(const Hash128& hash) const {
  const Entry& entry = entries_[probe(hash)];
  if (!entry.used) return std::nullopt;
  return entry.block;
}

bool PrefixIndex::insert(const Hash128& hash, uint32_t block) {
  Entry& entry = entries_[probe(hash)];
  if (entry.used) return false;
  CHECK(count_ < capacity_, "prefix index is full: a block was published twice");
  entry = {hash, block, true};
  ++count_;
  return true;
}

void PrefixIndex::erase(const Hash128& hash) {
  uint32_t hole = probe(hash);
  CHECK(entries_[hole].used, "erased a prefix that is not in the index");
  // Backward shift: pull later entries of the run into the hole where their home allows it.
  for (uint32_t at = (hole + 1) & mask_; entries_[at].used; at = (at + 1) & mask_) {
    const uint32_t wanted = home(entries_[at].hash);
    if (((at - wanted) & mask_) >= ((at - hole) & mask_)) {
      entries_[hole] = entries_[at];
      hole = at;
    }
  }
  entries_[hole].used = false;
  --count_;
}

}  // namespace quern
