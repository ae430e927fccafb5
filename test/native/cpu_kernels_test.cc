// Row kernels against double precision, number formats, and the choice of an instruction set.
#include "backend/cpu/kernels.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cpu_testing.h"
#include "test.h"

namespace quern::cpu {

TEST(cpu_exp_is_accurate) {
  std::vector<float> x;
  for (float v = -87.0f; v <= 88.0f; v += 0.001f) x.push_back(v);
  std::vector<float> y(x.size());
  for (const Kernels* kernels : all_kernels()) {
    kernels->exp_row(x.data(), static_cast<uint32_t>(x.size()), y.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(y[i] / std::exp(double{x[i]}) - 1));
    EXPECT_LE(worst, 1.2e-7);  // one unit in the last place
  }
}

TEST(cpu_exp_at_the_edges) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {-inf, -1e30f, -87.5f, 0.0f, 88.0f, 1000.0f, inf, nan};
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> y(x.size());
    kernels->exp_row(x.data(), static_cast<uint32_t>(x.size()), y.data());
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_EQ(y[2], 0.0f);
    EXPECT_EQ(y[3], 1.0f);
    EXPECT_EQ(y[4], y[5]);
    EXPECT_EQ(y[4], y[6]);
    EXPECT(std::isnan(y[7]));
  }
}

TEST(cpu_rmsnorm_matches_double_precision) {
  for (const Kernels* kernels : all_kernels()) {
    for (uint32_t n : {1u, 15u, 16u, 17u, 64u, 100u, 896u}) {
      for (bool with_delta : {false, true}) {
        std::vector<float> x = random_floats(n, n), delta = random_floats(n, n + 1), w = random_floats(n, n + 2);
        std::vector<float> sum = x, out(n + 1, 42.0f);
        if (with_delta) std::transform(x.begin(), x.end(), delta.begin(), sum.begin(), std::plus<>());
        double squares = 0;
        for (float v : sum) squares += double{v} * v;
        kernels->rmsnorm_row(x.data(), with_delta ? delta.data() : nullptr, w.data(), n, 1e-6f, out.data());
        EXPECT(same_bits(x.data(), sum.data(), n));
        const double scale = 1 / std::sqrt(squares / n + 1e-6);
        for (uint32_t i = 0; i < n; ++i) EXPECT_NEAR(out[i], sum[i] * scale * w[i], 1e-6);
        EXPECT_EQ(out[n], 42.0f);
      }
    }
  }
}

TEST(cpu_swiglu_matches_double_precision) {
  for (const Kernels* kernels : all_kernels()) {
    for (uint32_t n : {1u, 16u, 33u, 500u}) {
      const std::vector<float> gate = random_floats(n, n, 20.0f), up = random_floats(n, n + 1);
      std::vector<float> out(n + 1, 42.0f);
      kernels->swiglu_row(gate.data(), up.data(), n, out.data());
      for (uint32_t i = 0; i < n; ++i) {
        const double expected = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
        EXPECT_NEAR(out[i], expected, 1e-6 + 4e-7 * std::abs(expected));
      }
      EXPECT_EQ(out[n], 42.0f);
    }
    const std::vector<float> far = {-1000.0f, 1000.0f}, one = {1.0f, 1.0f};
    float out[2];
    kernels->swiglu_row(far.data(), one.data(), 2, out);
    EXPECT_EQ(out[0], 0.0f);
    EXPECT_EQ(out[1], 1000.0f);
  }
}

TEST(cpu_swiglu_vanishes_at_far_negative_gates) {
  const float inf = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
  const std::vector<float> gate = {-inf, -largest, -1e30f, -1e6f, -89.0f, -88.0f, -87.0f, std::numeric_limits<float>::quiet_NaN()};
  const uint32_t n = static_cast<uint32_t>(gate.size());
  for (const Kernels* kernels : all_kernels()) {
    for (float factor : {1.0f, -1.0f, 1e38f}) {
      const std::vector<float> up(n, factor);
      std::vector<float> out(n, 42.0f);
      kernels->swiglu_row(gate.data(), up.data(), n, out.data());
      for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(out[i], 0.0f);
      for (uint32_t i = 5; i < 7; ++i) {
        const double expected = double{gate[i]} / (1 + std::exp(-double{gate[i]})) * double{factor};
        EXPECT_NEAR(out[i] / expected, 1.0, 4e-7);
      }
      EXPECT(std::isnan(out[7]));
    }
  }
}

TEST(cpu_bf16_and_f16_convert) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);   // a tie goes to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);
  EXPECT(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(-std::numeric_limits<float>::infinity())), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(f16_to_f32(0x3c00), 1.0f);
  EXPECT_EQ(f16_to_f32(0xc000), -2.0f);
  EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
  EXPECT_EQ(f16_to_f32(0x7bff), 65504.0f);
  EXPECT(std::isinf(f16_to_f32(0x7c00)) && std::isnan(f16_to_f32(0x7e00)));
}

TEST(cpu_isa_is_chosen_or_refused) {
  EXPECT_OK(choose_isa("portable"));
  EXPECT_ERROR(choose_isa("sse9"), "expected auto, portable, avx2, avx512 or avx512bf16");
  const std::pair<const char*, Isa> named[] = {
      {"portable", Isa::kPortable}, {"avx2", Isa::kAvx2}, {"avx512", Isa::kAvx512}, {"avx512bf16", Isa::kAvx512Bf16}};
  const Result<Isa> widest = choose_isa("auto");
  REQUIRE_OK(widest);
  for (const Isa isa : kEveryIsa) EXPECT(isa <= *widest || !isa_supported(isa));
  EXPECT(isa_supported(*widest));
  for (const auto& [name, isa] : named) {
    const Result<Isa> chosen = choose_isa(name);
    if (isa_supported(isa)) {
      REQUIRE_OK(chosen);
      EXPECT_EQ(*chosen, isa);
    } else {
      EXPECT_EQ(chosen.status().code(), Code::kFailedPrecondition);
      EXPECT_ERROR(chosen, "isa '" + std::string(name) + "' was asked for, but this processor (");
      EXPECT_ERROR(chosen, "lacks it; use 'auto'");
    }
  }
}

}  // namespace quern::cpu
