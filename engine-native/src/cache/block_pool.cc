#include "cache/block_pool.h"

#include "base/check.h"

namespace quern {

BlockPool::BlockPool(uint32_t num_blocks) : blocks_(num_blocks), index_(num_blocks) {
  CHECK(num_blocks > 0, "a block pool holds at least one block");
  for (uint32_t block = num_blocks; block-- > 0;) push_free(block);
}

void BlockPool::push_free(uint32_t block) {
  Block& b = blocks_[block];
  if (b.published) {  // least recently used prefixes at the front
    b.previous = free_back_;
    b.next = kNone;
    (free_back_ == kNone ? free_front_ : blocks_[free_back_].next) = block;
    free_back_ = block;
    ++cached_count_;
  } else {
    b.previous = kNone;
    b.next = free_front_;
    (free_front_ == kNone ? free_back_ : blocks_[free_front_].previous) = block;
    free_front_ = block;
  }
  ++free_count_;
}

void BlockPool::remove_free(uint32_t block) {
  Block& b = blocks_[block];
  (b.previous == kNone ? free_front_ : blocks_[b.previous].next) = b.next;
  (b.next == kNone ? free_back_ : blocks_[b.next].previous) = b.previous;
  b.previous = b.next = kNone;
  --free_count_;
  if (b.published) --cached_count_;
}

void BlockPool::forget_prefix(uint32_t block) {
  Block& b = blocks_[block];
  if (!b.published) return;
  index_.erase(b.hash);
  b.published = false;
}

std::optional<uint32_t> BlockPool::allocate() {
  if (free_front_ == kNone) return std::nullopt;
  const uint32_t block = free_front_;
  remove_free(block);
  forget_prefix(block);
  Block& b = blocks_[block];
  b.ref_count = 1;
  ++b.generation;
  return block;
}

void BlockPool::ref(uint32_t block) {
  CHECK(block < blocks_.size(), "block index out of range");
  Block& b = blocks_[block];
  if (b.ref_count == 0) {
    CHECK(b.published, "took a reference to a free block that holds no prefix");
    remove_free(block);
  }
  ++b.ref_count;
}

void BlockPool::unref(uint32_t block) {
  CHECK(block < blocks_.size(), "block index out of range");
  Block& b = blocks_[block];
  CHECK(b.ref_count > 0, "released a block that nobody holds");
  if (--b.ref_count == 0) push_free(block);
}

bool BlockPool::publish(uint32_t block, const Hash128& hash) {
  CHECK(block < blocks_.size(), "block index out of range");
  Block& b = blocks_[block];
  CHECK(b.ref_count > 0, "published a free block");
  CHECK(!b.published, "published a block twice");
  if (!index_.insert(hash, block)) return false;
  b.hash = hash;
  b.published = true;
  return true;
}

std::string BlockPool::check_integrity(std::span<const uint32_t> holders) const {
  uint32_t walked = 0, cached = 0, published = 0;
  uint32_t previous = kNone;
  bool seen_cached = false;
  for (uint32_t at = free_front_; at != kNone; previous = at, at = blocks_[at].next) {
    const Block& b = blocks_[at];
    if (++walked > blocks_.size()) return "the free list has a cycle";
    if (b.previous != previous) return "free list links disagree at block " + std::to_string(at);
    if (b.ref_count != 0) return "held block " + std::to_string(at) + " is in the free list";
    if (b.published) ++cached;
    if (seen_cached && !b.published) return "block without prefix behind a cached one";
    seen_cached = seen_cached || b.published;
  }
  if (previous != free_back_) return "the free list's back is not its last block";
  if (walked != free_count_) return "free_count " + std::to_string(free_count_) + ", list " + std::to_string(walked);
  if (cached != cached_count_) return "cached_count " + std::to_string(cached_count_) + ", list " + std::to_string(cached);
  uint32_t held = 0;
  for (uint32_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    if (b.ref_count > 0) ++held;
    if (b.published) {
      ++published;
      if (index_.find(b.hash) != i) return "block " + std::to_string(i) + "'s prefix is not its own in the index";
    }
    if (!holders.empty() && holders[i] != b.ref_count) {
      return "block " + std::to_string(i) + ": ref_count " + std::to_string(b.ref_count) + ", holders " +
             std::to_string(holders[i]);
    }
  }
  if (held + walked != blocks_.size()) return "a block is neither held nor in the free list";
  if (published != index_.count()) return "the index holds entries of no block";
  return "";
}

}  // namespace quern
