// 16 fp32 sums as one zmm register, fed by 16 pairs of bf16 at a time (vdpbf16ps). Needs AVX-512 F and BF16.
#pragma once

#include <immintrin.h>

#include "backend/cpu/kernels.h"

namespace quern::cpu {

struct LanesAvx512Bf16 {
  using Self = LanesAvx512Bf16;
  using Pairs = __m512i;

  __m512 v;

#define QUERN_LANES [[gnu::always_inline]] static inline
  QUERN_LANES Self zero() { return {_mm512_setzero_ps()}; }
  QUERN_LANES Self load(const float* p) { return {_mm512_loadu_ps(p)}; }
  [[gnu::always_inline]] inline void store(float* p) const { _mm512_storeu_ps(p, v); }

  QUERN_LANES Pairs pairs(const uint16_t* w) { return _mm512_loadu_si512(w); }
  QUERN_LANES Pairs broadcast_pair(const uint16_t* x) {
    int both;
    __builtin_memcpy(&both, x, sizeof both);
    return _mm512_set1_epi32(both);
  }
  // *this += odd(w) * odd(x), then += even(w) * even(x): the order that the instruction prescribes.
  [[gnu::always_inline]] inline void add_dot(const Pairs& w, const Pairs& x) { v = _mm512_dpbf16_ps(v, (__m512bh)w, (__m512bh)x); }

  // 16 values to the nearest bf16; those from count on are zero and not read.
  QUERN_LANES void narrow(const float* in, uint32_t count, uint16_t* out) {
    const __mmask16 mask = static_cast<__mmask16>(count >= kStripRows ? 0xffffu : (1u << count) - 1u);
    const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, in));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), narrow);
  }
#undef QUERN_LANES
};

}  // namespace quern::cpu
