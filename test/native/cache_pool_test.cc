// BlockPool and PrefixIndex: counts, order of eviction, and a random walk against a plain model.
#include <map>
#include <random>
#include <vector>

#include "cache/block_pool.h"
#include "cache/prefix_index.h"
#include "test.h"

namespace quern {
namespace {

Hash128 hash_of(uint64_t n) { return Hash128{n * 0x9e3779b97f4a7c15ULL, n + 1}; }

TEST(cache_pool_hands_out_every_block_once) {
  BlockPool pool(5);
  std::vector<bool> seen(5, false);
  for (int i = 0; i < 5; ++i) {
    const auto block = pool.allocate();
    REQUIRE(block.has_value());
    EXPECT(!seen[*block]);
    seen[*block] = true;
  }
  EXPECT(!pool.allocate().has_value());
  EXPECT_EQ(pool.free_count(), 0u);
  EXPECT_EQ(pool.check_integrity({}), std::string());
}

TEST(cache_pool_takes_unpublished_blocks_before_prefixes) {
  BlockPool pool(3);
  const uint32_t a = *pool.allocate(), b = *pool.allocate(), c = *pool.allocate();
  EXPECT(pool.publish(a, hash_of(1)));
  pool.unref(a);
  pool.unref(b);
  EXPECT_EQ(pool.cached_count(), 1u);
  EXPECT_EQ(*pool.allocate(), b);
  EXPECT(pool.find(hash_of(1)).has_value());
  EXPECT_EQ(*pool.allocate(), a);
  EXPECT(!pool.find(hash_of(1)).has_value());
  pool.unref(c);
  EXPECT_EQ(pool.check_integrity({}), std::string());
}

TEST(cache_pool_evicts_tails_before_heads) {
  BlockPool pool(4);
  std::vector<uint32_t> blocks;
  for (uint64_t i = 0; i < 4; ++i) {
    blocks.push_back(*pool.allocate());
    EXPECT(pool.publish(blocks.back(), hash_of(i)));
  }
  for (size_t i = 4; i-- > 0;) pool.unref(blocks[i]);  // as a sequence releases: last to first
  EXPECT_EQ(*pool.allocate(), blocks[3]);
  EXPECT_EQ(*pool.allocate(), blocks[2]);
  EXPECT(pool.find(hash_of(0)).has_value() && pool.find(hash_of(1)).has_value());
}

TEST(cache_pool_revives_a_hit_and_counts_generations) {
  BlockPool pool(2);
  const uint32_t a = *pool.allocate();
  const uint32_t generation = pool.generation(a);
  EXPECT(pool.publish(a, hash_of(7)));
  pool.unref(a);
  pool.ref(*pool.find(hash_of(7)));
  EXPECT_EQ(pool.ref_count(a), 1u);
  EXPECT_EQ(pool.generation(a), generation);
  EXPECT_EQ(pool.cached_count(), 0u);
  pool.unref(a);
  (void)pool.allocate();
  (void)pool.allocate();
  EXPECT_EQ(pool.generation(a), generation + 1);
}

TEST(cache_pool_keeps_the_first_of_two_twins) {
  BlockPool pool(2);
  const uint32_t a = *pool.allocate(), b = *pool.allocate();
  EXPECT(pool.publish(a, hash_of(3)));
  EXPECT(!pool.publish(b, hash_of(3)));
  EXPECT_EQ(*pool.find(hash_of(3)), a);
  EXPECT_EQ(pool.check_integrity({}), std::string());
}

TEST(cache_pool_integrity_sees_a_wrong_holder_count) {
  BlockPool pool(2);
  const uint32_t a = *pool.allocate();
  std::vector<uint32_t> holders(2, 0);
  holders[a] = 2;
  EXPECT_NE(pool.check_integrity(holders), std::string());
  holders[a] = 1;
  EXPECT_EQ(pool.check_integrity(holders), std::string());
}

TEST(cache_index_matches_a_map_under_random_use) {
  std::mt19937_64 random(test::seed());
  PrefixIndex index(64);
  std::map<uint64_t, uint32_t> model;
  for (int step = 0; step < 20000; ++step) {
    const uint64_t n = random() % 100;
    // Only eight homes, so that runs collide and wrap.
    const Hash128 hash{n % 8 + 120, n};
    if (model.contains(n)) {
      if (random() % 2 == 0) {
        index.erase(hash);
        model.erase(n);
      } else {
        EXPECT(!index.insert(hash, 1));
      }
    } else if (model.size() < 64) {
      const uint32_t block = static_cast<uint32_t>(random());
      EXPECT(index.insert(hash, block));
      model[n] = block;
    }
    for (uint64_t m = 0; m < 100; m += 1 + random() % 9) {
      const auto found = index.find(Hash128{m % 8 + 120, m});
      const auto expected = model.find(m);
      EXPECT_EQ(found.has_value(), expected != model.end());
      if (found && expected != model.end()) EXPECT_EQ(*found, expected->second);
    }
    EXPECT_EQ(index.count(), static_cast<uint32_t>(model.size()));
  }
}

TEST(cache_pool_keeps_its_invariants_under_random_use) {
  std::mt19937_64 random(test::seed());
  BlockPool pool(17);
  std::vector<uint32_t> held;  // one entry per reference
  uint64_t next_hash = 1;
  for (int step = 0; step < 20000; ++step) {
    const uint64_t dice = random() % 4;
    if (dice == 0) {
      if (const auto block = pool.allocate()) {
        held.push_back(*block);
        if (random() % 2 == 0) EXPECT(pool.publish(*block, hash_of(next_hash++)));
      }
    } else if (dice == 1 && next_hash > 1) {
      const uint64_t back = 1 + random() % std::min<uint64_t>(next_hash - 1, 20);
      if (const auto block = pool.find(hash_of(next_hash - back))) {
        pool.ref(*block);
        held.push_back(*block);
      }
    } else if (!held.empty()) {
      const size_t at = random() % held.size();
      pool.unref(held[at]);
      held[at] = held.back();
      held.pop_back();
    }
    std::vector<uint32_t> holders(pool.num_blocks(), 0);
    for (uint32_t block : held) ++holders[block];
    const std::string violation = pool.check_integrity(holders);
    REQUIRE(violation.empty() || (test::fail(__FILE__, __LINE__, violation), false));
  }
}

}  // namespace
}  // namespace quern
