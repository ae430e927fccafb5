// SipHash-2-4-128 against the reference vectors, and what the prefix hasher tells apart.
#include <array>
#include <vector>

#include "cache/prefix_hasher.h"
#include "cache/siphash.h"
#include "test.h"

namespace quern {
namespace {

// Key 00 01 .. 0f, messages of 0, 1, 2 and 15 bytes 00 01 ..: from the reference implementation's vectors_sip128.
TEST(cache_siphash_matches_the_reference_vectors) {
  const Hash128 key{0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
  struct Vector {
    size_t size;
    std::array<uint8_t, 16> out;
  };
  const std::vector<Vector> vectors = {
      {0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93}},
      {1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45}},
      {2, {0x81, 0x77, 0x22, 0x8d, 0xa4, 0xa4, 0x5d, 0xc7, 0xfc, 0xa3, 0x8b, 0xde, 0xf6, 0x0a, 0xff, 0xe4}},
  };
  for (const Vector& vector : vectors) {
    std::vector<std::byte> message(vector.size);
    for (size_t i = 0; i < message.size(); ++i) message[i] = static_cast<std::byte>(i);
    const Hash128 hash = siphash_2_4_128(key, message);
    std::array<uint8_t, 16> bytes;
    for (size_t i = 0; i < 8; ++i) {
      bytes[i] = static_cast<uint8_t>(hash.low >> (8 * i));
      bytes[i + 8] = static_cast<uint8_t>(hash.high >> (8 * i));
    }
    EXPECT_EQ(bytes, vector.out);
  }
}

TEST(cache_prefix_hash_depends_on_parent_salt_and_ids) {
  const PrefixHasher hasher(Hash128{1, 2});
  const std::vector<uint32_t> ids{1, 2, 3, 4}, others{1, 2, 3, 5};
  const Hash128 salt_a = hasher.salt("a", ""), salt_b = hasher.salt("b", "");
  const Hash128 root = hasher.extend({}, salt_a, ids);
  EXPECT_EQ(root, hasher.extend({}, salt_a, ids));
  EXPECT_NE(root, hasher.extend({}, salt_b, ids));
  EXPECT_NE(root, hasher.extend({}, salt_a, others));
  EXPECT_NE(root, hasher.extend(root, salt_a, ids));
  EXPECT_NE(hasher.salt("a", "bc"), hasher.salt("ab", "c"));
  EXPECT_NE(hasher.salt("public", ""), hasher.public_salt());
  EXPECT_NE(root, PrefixHasher(Hash128{1, 3}).extend({}, PrefixHasher(Hash128{1, 3}).salt("a", ""), ids));
}

TEST(cache_prefix_hash_reads_blocks_of_any_size) {
  const PrefixHasher hasher(Hash128{5, 6});
  std::vector<uint32_t> ids(200, 7);
  const Hash128 whole = hasher.extend({}, {}, ids);
  for (size_t i = 0; i < ids.size(); i += 33) {
    auto changed = ids;
    changed[i] = 8;
    EXPECT_NE(whole, hasher.extend({}, {}, changed));
  }
  EXPECT_NE(whole, hasher.extend({}, {}, std::span(ids).first(199)));
}

}  // namespace
}  // namespace quern
