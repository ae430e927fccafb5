// BlockPool: the KV cache's blocks as integers: reference counts, an LRU free list, and which block holds which prefix.
//
// A block is free (reference count 0) or held. A free block may still hold a published prefix; it stays findable until
// it is taken for something else. Free blocks form one list: blocks without a prefix are taken first, then the prefix
// that was released longest ago. Sequences release their blocks last to first, so tails go before heads.
//
// Thread safety: none; the engine thread owns it. Invariants (check_integrity): every block is exactly once in the free
// list or held; index entries and blocks' hashes agree; nothing allocates after construction; all operations are O(1).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/hash128.h"
#include "cache/prefix_index.h"

namespace quern {

class BlockPool {
 public:
  explicit BlockPool(uint32_t num_blocks);

  // Takes a free block (reference count 1), dropping the prefix it held. Nullopt when none is free.
  std::optional<uint32_t> allocate();
  // One more holder. The block may be free (a prefix hit revives it).
  void ref(uint32_t block);
  // One holder less; at zero the block becomes free. REQUIRES: held.
  void unref(uint32_t block);

  // Makes a held block findable under its prefix. False when another block already holds that prefix; then this one
  // stays private. REQUIRES: the block is full, its step finished, and it was not published before.
  bool publish(uint32_t block, const Hash128& hash);
  std::optional<uint32_t> find(const Hash128& hash) const { return index_.find(hash); }
  bool is_free(uint32_t block) const { return blocks_[block].ref_count == 0; }

  uint32_t num_blocks() const { return static_cast<uint32_t>(blocks_.size()); }
  uint32_t free_count() const { return free_count_; }      // free, with or without a prefix
  uint32_t cached_count() const { return cached_count_; }  // free and holding a prefix
  uint32_t held_count() const { return num_blocks() - free_count_; }
  uint32_t ref_count(uint32_t block) const { return blocks_[block].ref_count; }
  // Changes each time the block is taken for new content; tells stale uses apart.
  uint32_t generation(uint32_t block) const { return blocks_[block].generation; }

  // Empty when all invariants hold, else the first violation. `holders[b]` is how many references the caller believes
  // block b has; empty skips that comparison. O(num_blocks); for tests and debug builds.
  std::string check_integrity(std::span<const uint32_t> holders) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Block {
    uint32_t ref_count = 0;
    uint32_t generation = 0;
    uint32_t previous = kNone, next = kNone;  // free list neighbours
    bool published = false;
    Hash128 hash;
  };

  void push_free(uint32_t block);
  void remove_free(uint32_t block);
  void forget_prefix(uint32_t block);

  std::vector<Block> blocks_;
  PrefixIndex index_;
  uint32_t free_front_ = kNone;  // taken next
  uint32_t free_back_ = kNone;
  uint32_t free_count_ = 0;
  uint32_t cached_count_ = 0;
};

}  // namespace quern
