// SipHash-2-4 with 128-bit output (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012, and the reference
// code's 128-bit variant). Keyed, so that nobody who does not know the process key can build two prefixes that collide.
//
// Thread safety: pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cache/hash128.h"

namespace quern {

// Hashes bytes under a 128-bit key given as two little-endian halves.
Hash128 siphash_2_4_128(const Hash128& key, std::span<const std::byte> bytes);

}  // namespace quern
