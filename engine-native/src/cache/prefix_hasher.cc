#include "cache/prefix_hasher.h"

#include <sys/random.h>

#include <array>
#include <cstring>
#include <string>

#include "base/check.h"
#include "cache/siphash.h"

namespace quern {
namespace {

constexpr uint32_t kChunkIds = 64;  // ids hashed per call; longer blocks are chained

void append_u64(std::string& out, uint64_t value) {
  char bytes[8];
  std::memcpy(bytes, &value, 8);
  out.append(bytes, 8);
}

}  // namespace

PrefixHasher PrefixHasher::with_random_key() {
  Hash128 key;
  CHECK(getrandom(&key, sizeof key, 0) == static_cast<ssize_t>(sizeof key), "the system's random source failed");
  return PrefixHasher(key);
}

Hash128 PrefixHasher::name(std::span<const std::string_view> parts) const {
  std::string bytes;
  for (std::string_view part : parts) {
    append_u64(bytes, part.size());
    bytes.append(part);
  }
  return siphash_2_4_128(key_, std::as_bytes(std::span(bytes)));
}

Hash128 PrefixHasher::salt(std::string_view tenant, std::string_view cache_salt) const {
  const std::array<std::string_view, 3> parts{"tenant", tenant, cache_salt};
  return name(parts);
}

Hash128 PrefixHasher::public_salt() const {
  const std::array<std::string_view, 1> parts{"public"};
  return name(parts);
}

Hash128 PrefixHasher::extend(const Hash128& parent, const Hash128& salt, std::span<const uint32_t> block_ids) const {
  CHECK(!block_ids.empty(), "a block holds at least one token");
  Hash128 hash = parent;
  for (size_t begin = 0; begin < block_ids.size(); begin += kChunkIds) {
    const size_t count = std::min<size_t>(kChunkIds, block_ids.size() - begin);
    std::array<uint64_t, 5 + kChunkIds / 2> words{};
    words[0] = hash.low;
    words[1] = hash.high;
    words[2] = salt.low;
    words[3] = salt.high;
    words[4] = count;
    std::memcpy(&words[5], block_ids.data() + begin, count * sizeof(uint32_t));
    const size_t used_bytes = 5 * 8 + count * sizeof(uint32_t);
    hash = siphash_2_4_128(key_, std::as_bytes(std::span(words)).first(used_bytes));
  }
  return hash;
}

}  // namespace quern
