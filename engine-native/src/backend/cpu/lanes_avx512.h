// 16 fp32 lanes as one zmm register. bf16 weights are expanded and multiplied in fp32: exact products, and activations
// keep their precision. Needs AVX-512 F, BW, DQ and VL; what vdpbf16ps does instead is in lanes_avx512bf16.h.
#pragma once

#include <immintrin.h>

#include "backend/cpu/kernels.h"

namespace quern::cpu {

struct LanesAvx512 {
  using Self = LanesAvx512;

  __m512 v;

#define QUERN_LANES [[gnu::always_inline]] static inline
  QUERN_LANES Self zero() { return {_mm512_setzero_ps()}; }
  QUERN_LANES Self splat(float x) { return {_mm512_set1_ps(x)}; }
  QUERN_LANES Self broadcast(const float* p) { return {_mm512_set1_ps(*p)}; }
  QUERN_LANES Self load(const float* p) { return {_mm512_loadu_ps(p)}; }
  [[gnu::always_inline]] inline void store(float* p) const { _mm512_storeu_ps(p, v); }
  // Lanes from count on are zero and not read.
  QUERN_LANES Self load_some(const float* p, uint32_t count) { return {_mm512_maskz_loadu_ps(lane_mask(count), p)}; }
  [[gnu::always_inline]] inline void store_some(float* p, uint32_t count) const {
    _mm512_mask_storeu_ps(p, lane_mask(count), v);
  }

  // The even and the odd k of a pair of strip columns.
  QUERN_LANES Self even(const float* w) { return load(w); }
  QUERN_LANES Self odd(const float* w) { return load(w + kStripRows); }
  QUERN_LANES Self even(const uint16_t* w) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(w), 16))};
  }
  QUERN_LANES Self odd(const uint16_t* w) {
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(w), high))};
  }

  // *this += x * y.
  [[gnu::always_inline]] inline void add_product(const Self& x, const Self& y) { v = _mm512_fmadd_ps(x.v, y.v, v); }
  QUERN_LANES Self fma(const Self& x, const Self& y, const Self& z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
  QUERN_LANES Self add(const Self& x, const Self& y) { return {_mm512_add_ps(x.v, y.v)}; }
  QUERN_LANES Self sub(const Self& x, const Self& y) { return {_mm512_sub_ps(x.v, y.v)}; }
  QUERN_LANES Self mul(const Self& x, const Self& y) { return {_mm512_mul_ps(x.v, y.v)}; }
  QUERN_LANES Self div(const Self& x, const Self& y) { return {_mm512_div_ps(x.v, y.v)}; }
  // The second operand where either is NaN.
  QUERN_LANES Self max(const Self& x, const Self& y) { return {_mm512_max_ps(x.v, y.v)}; }
  QUERN_LANES Self min(const Self& x, const Self& y) { return {_mm512_min_ps(x.v, y.v)}; }
  // x in the lanes below count, y in the others.
  QUERN_LANES Self first(uint32_t count, const Self& x, const Self& y) {
    return {_mm512_mask_blend_ps(lane_mask(count), y.v, x.v)};
  }
  // 0 where x < limit, else value.
  QUERN_LANES Self zero_below(const Self& x, float limit, const Self& value) {
    const __mmask16 below = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_LT_OQ);
    return {_mm512_mask_blend_ps(below, value.v, _mm512_setzero_ps())};
  }
  // value * 2^n where biased = 1.5 * 2^23 + n: n is added to the exponent.
  QUERN_LANES Self scale_by_power_of_two(const Self& value, const Self& biased) {
    const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(biased.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(value.v), shifted))};
  }

  [[gnu::always_inline]] inline float lowest_lane() const { return _mm512_cvtss_f32(v); }
  [[gnu::always_inline]] inline float sum() const {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));  // i with i + 8
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  [[gnu::always_inline]] inline float maximum() const {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  QUERN_LANES __mmask16 lane_mask(uint32_t count) {
    return static_cast<__mmask16>(count >= kStripRows ? 0xffffu : (1u << count) - 1u);
  }
#undef QUERN_LANES
};

}  // namespace quern::cpu
