#include "cache/siphash.h"

#include <bit>
#include <cstring>

namespace quern {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

struct SipState {
  uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }

  uint64_t squeeze() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

Hash128 siphash_2_4_128(const Hash128& key, std::span<const std::byte> bytes) {
  SipState state{key.low ^ 0x736f6d6570736575ULL, key.high ^ 0x646f72616e646f6dULL, key.low ^ 0x6c7967656e657261ULL,
                 key.high ^ 0x7465646279746573ULL};
  state.v1 ^= 0xee;  // marks the 128-bit variant

  size_t offset = 0;
  for (; offset + 8 <= bytes.size(); offset += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + offset, 8);
    state.absorb(word);
  }
  uint64_t last = static_cast<uint64_t>(bytes.size()) << 56;
  for (size_t i = 0; offset + i < bytes.size(); ++i) {
    last |= static_cast<uint64_t>(bytes[offset + i]) << (8 * i);
  }
  state.absorb(last);

  Hash128 out;
  state.v2 ^= 0xee;
  out.low = state.squeeze();
  state.v1 ^= 0xdd;
  out.high = state.squeeze();
  return out;
}

}  // namespace quern
