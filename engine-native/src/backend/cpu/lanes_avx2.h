// 16 fp32 lanes as two ymm registers.
#pragma once

#include <immintrin.h>

#include "backend/cpu/kernels.h"

namespace quern::cpu {

struct LanesAvx2 {
  using Self = LanesAvx2;

  __m256 a, b;  // lanes 0-7, 8-15

#define QUERN_LANES [[gnu::always_inline]] static inline
  QUERN_LANES Self zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  QUERN_LANES Self splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  QUERN_LANES Self broadcast(const float* p) {
    const __m256 x = _mm256_broadcast_ss(p);
    return {x, x};
  }
  QUERN_LANES Self load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  [[gnu::always_inline]] inline void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  // Lanes from count on are zero and not read.
  QUERN_LANES Self load_some(const float* p, uint32_t count) {
    const __m256i low = lane_mask(count, 0), high = lane_mask(count, 8);
    return {_mm256_maskload_ps(p, low), _mm256_maskload_ps(p + 8, high)};
  }
  [[gnu::always_inline]] inline void store_some(float* p, uint32_t count) const {
    _mm256_maskstore_ps(p, lane_mask(count, 0), a);
    _mm256_maskstore_ps(p + 8, lane_mask(count, 8), b);
  }

  // The even and the odd k of a pair of strip columns.
  QUERN_LANES Self even(const float* w) { return load(w); }
  QUERN_LANES Self odd(const float* w) { return load(w + kStripRows); }
  QUERN_LANES Self even(const uint16_t* w) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs(w), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(pairs(w + kStripRows), 16))};
  }
  QUERN_LANES Self odd(const uint16_t* w) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(pairs(w), high)),
            _mm256_castsi256_ps(_mm256_and_si256(pairs(w + kStripRows), high))};
  }

  // *this += x * y. Assembly keeps the compiler from reordering the tile's multiply-adds: GCC 12 hoists the broadcasts
  // and then spills the sums.
  [[gnu::always_inline]] inline void add_product(const Self& x, const Self& y) {
    asm volatile("vfmadd231ps %1, %2, %0" : "+x"(a) : "x"(x.a), "x"(y.a));
    asm volatile("vfmadd231ps %1, %2, %0" : "+x"(b) : "x"(x.b), "x"(y.b));
  }
  QUERN_LANES Self fma(const Self& x, const Self& y, const Self& z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  QUERN_LANES Self add(const Self& x, const Self& y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  QUERN_LANES Self sub(const Self& x, const Self& y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  QUERN_LANES Self mul(const Self& x, const Self& y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  QUERN_LANES Self div(const Self& x, const Self& y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  // The second operand where either is NaN.
  QUERN_LANES Self max(const Self& x, const Self& y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  QUERN_LANES Self min(const Self& x, const Self& y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  // x in the lanes below count, y in the others.
  QUERN_LANES Self first(uint32_t count, const Self& x, const Self& y) {
    return {_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(lane_mask(count, 0))),
            _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(lane_mask(count, 8)))};
  }
  // 0 where x < limit, else value.
  QUERN_LANES Self zero_below(const Self& x, float limit, const Self& value) {
    const __m256 bound = _mm256_set1_ps(limit);
    return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, bound, _CMP_LT_OQ), value.a),
            _mm256_andnot_ps(_mm256_cmp_ps(x.b, bound, _CMP_LT_OQ), value.b)};
  }
  // value * 2^n where biased = 1.5 * 2^23 + n: n is added to the exponent.
  QUERN_LANES Self scale_by_power_of_two(const Self& value, const Self& biased) {
    return {add_exponent(value.a, biased.a), add_exponent(value.b, biased.b)};
  }

  [[gnu::always_inline]] inline float lowest_lane() const { return _mm256_cvtss_f32(a); }
  [[gnu::always_inline]] inline float sum() const {
    const __m256 eight = _mm256_add_ps(a, b);  // lane i with i + 8
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  [[gnu::always_inline]] inline float maximum() const {
    const __m256 eight = _mm256_max_ps(a, b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  QUERN_LANES __m256i pairs(const uint16_t* w) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)); }
  QUERN_LANES __m256i lane_mask(uint32_t count, int first_lane) {
    const __m256i lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first_lane));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
  }
  QUERN_LANES __m256 add_exponent(__m256 value, __m256 biased) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(biased), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), shifted));
  }
#undef QUERN_LANES
};

}  // namespace quern::cpu
