// Two small non-cryptographic hashes with fixed definitions: results may be stored or compared between machines.
#pragma once

#include <cstdint>
#include <string_view>

namespace quern {

inline constexpr uint64_t kFnvOffset = 0xCBF29CE484222325u;

// FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/). `state` continues an earlier hash.
constexpr uint64_t fnv1a64(std::string_view bytes, uint64_t state = kFnvOffset) {
  for (const char c : bytes) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return state;
}

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes every bit.
constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace quern
