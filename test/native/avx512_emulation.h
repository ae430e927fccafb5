// The AVX-512 intrinsics that the CPU kernels use, in plain C++: kernels_avx512*.cc, compiled over this, run on machines
// without AVX-512 (reference_avx512.cc). What it shows is that the kernels compute the right thing if the instructions do
// what their manual says; it says nothing about speed, or about what the compiler makes of the real intrinsics.
//
// Masked-out elements are not touched, as the hardware promises. vdpbf16ps and vcvtneps2bf16 follow the operation sections of
// Intel's manual: denormals count as zero, sums round to nearest even, the odd element of a pair is added first.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace quern::avx512_emulation {

// GCC's and Clang's vectors: element-wise operators come with them.
typedef float Floats __attribute__((vector_size(64), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), may_alias));
typedef float FloatsUnaligned __attribute__((vector_size(64), aligned(1), may_alias));
typedef int32_t IntsUnaligned __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), may_alias));
typedef float Floats8 __attribute__((vector_size(32), may_alias));

#define QUERN_EMULATED [[gnu::always_inline]] static inline

QUERN_EMULATED Floats set1(float x) { return Floats{} + x; }
QUERN_EMULATED Ints set1(int x) { return Ints{} + x; }
QUERN_EMULATED Floats loadu(const void* p) { return *static_cast<const FloatsUnaligned*>(p); }
QUERN_EMULATED Ints loadu_ints(const void* p) { return *static_cast<const IntsUnaligned*>(p); }
QUERN_EMULATED void storeu(void* p, Floats x) { *static_cast<FloatsUnaligned*>(p) = x; }
QUERN_EMULATED Floats maskz_loadu(__mmask16 mask, const float* p) {
  Floats r = {};
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) r[i] = p[i];
  return r;
}
QUERN_EMULATED void mask_storeu(float* p, __mmask16 mask, Floats x) {
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) p[i] = x[i];
}
QUERN_EMULATED Floats fmadd(Floats a, Floats b, Floats c) {
  for (int i = 0; i < 16; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
// The second operand where either is NaN, and where both are zero.
QUERN_EMULATED Floats max(Floats a, Floats b) { return a > b ? a : b; }
QUERN_EMULATED Floats min(Floats a, Floats b) { return a < b ? a : b; }
QUERN_EMULATED Floats mask_blend(__mmask16 mask, Floats a, Floats b) {
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) a[i] = b[i];
  return a;
}
QUERN_EMULATED __mmask16 less_mask(Floats a, Floats b) {
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<unsigned>(a[i] < b[i]) << i;
  return static_cast<__mmask16>(mask);
}
QUERN_EMULATED Ints shift_left(Ints a, unsigned count) { return a << static_cast<int>(count); }
QUERN_EMULATED __m256 eight(Floats a, int first) {
  Floats8 r = {};
  for (int i = 0; i < 8; ++i) r[i] = a[first + i];
  return (__m256)r;
}

QUERN_EMULATED float as_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
QUERN_EMULATED uint32_t as_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
QUERN_EMULATED float flushed(float value) {
  const uint32_t bits = as_bits(value);
  return (bits & 0x7f800000u) == 0 ? as_float(bits & 0x80000000u) : value;
}
QUERN_EMULATED Floats dot(Floats sum, Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t w = static_cast<uint32_t>(a[i]), x = static_cast<uint32_t>(b[i]);
    const float odd = __builtin_fmaf(flushed(as_float(w & 0xffff0000u)), flushed(as_float(x & 0xffff0000u)), flushed(sum[i]));
    sum[i] = flushed(__builtin_fmaf(flushed(as_float(w << 16)), flushed(as_float(x << 16)), flushed(odd)));
  }
  return sum;
}
QUERN_EMULATED Halves narrow(Floats a) {
  Halves r = {};
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = as_bits(flushed(a[i]));
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = nan ? bits | 0x00400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    r[i] = static_cast<uint16_t>(rounded >> 16);
  }
  return r;
}
#undef QUERN_EMULATED

}  // namespace quern::avx512_emulation

// From here on the names of the intrinsics mean the functions above. An intrinsic that is missing here fails to compile.
#undef _mm512_slli_epi32
#undef _mm512_cmp_ps_mask
#undef _mm512_extractf32x8_ps
#define __m512 ::quern::avx512_emulation::Floats
#define __m512i ::quern::avx512_emulation::Ints
#define __m512bh ::quern::avx512_emulation::Ints
#define _mm512_setzero_ps() (::quern::avx512_emulation::Floats{})
#define _mm512_set1_ps(x) ::quern::avx512_emulation::set1(static_cast<float>(x))
#define _mm512_set1_epi32(x) ::quern::avx512_emulation::set1(static_cast<int>(x))
#define _mm512_loadu_ps(p) ::quern::avx512_emulation::loadu(p)
#define _mm512_loadu_si512(p) ::quern::avx512_emulation::loadu_ints(p)
#define _mm512_storeu_ps(p, x) ::quern::avx512_emulation::storeu(p, x)
#define _mm512_maskz_loadu_ps(mask, p) ::quern::avx512_emulation::maskz_loadu(mask, p)
#define _mm512_mask_storeu_ps(p, mask, x) ::quern::avx512_emulation::mask_storeu(p, mask, x)
#define _mm512_castsi512_ps(x) ((__m512)(x))
#define _mm512_castps_si512(x) ((__m512i)(x))
#define _mm512_slli_epi32(x, count) ::quern::avx512_emulation::shift_left(x, count)
#define _mm512_and_si512(x, y) ((x) & (y))
#define _mm512_add_epi32(x, y) ((x) + (y))
#define _mm512_fmadd_ps(x, y, z) ::quern::avx512_emulation::fmadd(x, y, z)
#define _mm512_add_ps(x, y) ((x) + (y))
#define _mm512_sub_ps(x, y) ((x) - (y))
#define _mm512_mul_ps(x, y) ((x) * (y))
#define _mm512_div_ps(x, y) ((x) / (y))
#define _mm512_max_ps(x, y) ::quern::avx512_emulation::max(x, y)
#define _mm512_min_ps(x, y) ::quern::avx512_emulation::min(x, y)
#define _mm512_mask_blend_ps(mask, x, y) ::quern::avx512_emulation::mask_blend(mask, x, y)
#define _mm512_cmp_ps_mask(x, y, compare) QUERN_EMULATED_COMPARE_##compare(x, y)
#define QUERN_EMULATED_COMPARE__CMP_LT_OQ(x, y) ::quern::avx512_emulation::less_mask(x, y)
#define _mm512_cvtss_f32(x) ((x)[0])
#define _mm512_castps512_ps256(x) ::quern::avx512_emulation::eight(x, 0)
#define _mm512_extractf32x8_ps(x, half) ::quern::avx512_emulation::eight(x, 8 * (half))
#define _mm512_dpbf16_ps(sum, x, y) ::quern::avx512_emulation::dot(sum, x, y)
#define _mm512_cvtneps_pbh(x) ::quern::avx512_emulation::narrow(x)
