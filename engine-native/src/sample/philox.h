// Philox4x32-10: a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). The same key and counter give the same numbers on any machine, in any batch, after any preemption.
#pragma once

#include <array>
#include <cstdint>

namespace quern {

using PhiloxWords = std::array<uint32_t, 4>;

// Ten rounds over a 128-bit counter under a 64-bit key (low word first).
inline PhiloxWords philox_4x32_10(PhiloxWords counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1) with 53 bits, for one position of one choice.
inline double philox_uniform(uint64_t seed, uint32_t position, uint32_t choice) {
  const PhiloxWords words = philox_4x32_10({position, choice, 0, 0}, seed);
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace quern
