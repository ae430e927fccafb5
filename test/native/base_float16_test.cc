// base/float16: every 16-bit value there and back, and rounding to nearest even.
#include <cmath>
#include <limits>

#include "base/float16.h"
#include "test.h"

namespace quern {
namespace {

TEST(base_bf16_round_trip_of_every_value) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT(std::isnan(bf16_to_f32(f32_to_bf16(value))));
    } else {
      EXPECT_EQ(f32_to_bf16(value), static_cast<uint16_t>(bits));
    }
  }
}

TEST(base_f16_round_trip_of_every_value) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      EXPECT_EQ(f32_to_f16(value), static_cast<uint16_t>(bits));
    }
  }
}

// Between neighbours a < b: below the middle a, above it b, in the middle the even one.
template <typename ToF32, typename FromF32>
void check_rounding(uint32_t last_finite, ToF32 widen, FromF32 narrow) {
  for (uint32_t bits = 0; bits < last_finite; ++bits) {
    const float low = widen(static_cast<uint16_t>(bits)), high = widen(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    const uint16_t even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(narrow(middle), even);
    EXPECT_EQ(narrow(std::nextafter(middle, 0.0f)), static_cast<uint16_t>(bits));
    EXPECT_EQ(narrow(std::nextafter(middle, std::numeric_limits<float>::max())), static_cast<uint16_t>(bits + 1));
    EXPECT_EQ(narrow(-middle), static_cast<uint16_t>(even | 0x8000u));
  }
}

TEST(base_f16_rounds_to_nearest_even) { check_rounding(0x7BFF, f16_to_f32, f32_to_f16); }
TEST(base_bf16_rounds_to_nearest_even) { check_rounding(0x7F7F, bf16_to_f32, f32_to_bf16); }

TEST(base_16_bit_formats_at_their_ends) {
  EXPECT_EQ(f16_to_f32(0x3C00), 1.0f);
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_f32(0x7BFF), 65504.0f);
  EXPECT_EQ(f32_to_f16(65519.996f), uint16_t{0x7BFF});
  EXPECT_EQ(f32_to_f16(65520.0f), uint16_t{0x7C00});
  EXPECT_EQ(f32_to_f16(1e30f), uint16_t{0x7C00});
  EXPECT_EQ(f32_to_f16(0x1p-25f), uint16_t{0});
  EXPECT_EQ(f32_to_bf16(3.3961775e38f), uint16_t{0x7F80});  // above the middle of the last step: infinity
  EXPECT_EQ(bf16_to_f32(0x3F80), 1.0f);
}

}  // namespace
}  // namespace quern
