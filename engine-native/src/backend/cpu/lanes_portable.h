// 16 fp32 lanes as four vectors of four (GCC's and Clang's vector extension): SSE2 on x86-64, NEON on aarch64.
// Where the machine has no fused multiply-add, a product and a sum round separately.
#pragma once

#include "backend/cpu/kernels.h"

namespace quern::cpu {

struct LanesPortable {
  typedef float Float4 __attribute__((vector_size(16)));
  typedef float Float4Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Int4 __attribute__((vector_size(16)));
  typedef int32_t Int4Unaligned __attribute__((vector_size(16), aligned(2), may_alias));
  using Self = LanesPortable;

  Float4 v[4];

#define QUERN_LANES [[gnu::always_inline]] static inline
  QUERN_LANES Self splat(float x) {
    const Float4 f = {x, x, x, x};
    return {{f, f, f, f}};
  }
  QUERN_LANES Self zero() { return splat(0.0f); }
  QUERN_LANES Self broadcast(const float* p) { return splat(*p); }
  QUERN_LANES Self load(const float* p) {
    const Float4Unaligned* q = reinterpret_cast<const Float4Unaligned*>(p);
    return {{q[0], q[1], q[2], q[3]}};
  }
  [[gnu::always_inline]] inline void store(float* p) const {
    Float4Unaligned* q = reinterpret_cast<Float4Unaligned*>(p);
    for (int i = 0; i < 4; ++i) q[i] = v[i];
  }
  // Lanes from count on are zero and not read.
  QUERN_LANES Self load_some(const float* p, uint32_t count) {
    float full[kStripRows] = {};
    for (uint32_t i = 0; i < count; ++i) full[i] = p[i];
    return load(full);
  }
  [[gnu::always_inline]] inline void store_some(float* p, uint32_t count) const {
    float full[kStripRows];
    store(full);
    for (uint32_t i = 0; i < count; ++i) p[i] = full[i];
  }

  // The even and the odd k of a pair of strip columns.
  QUERN_LANES Self even(const float* w) { return load(w); }
  QUERN_LANES Self odd(const float* w) { return load(w + kStripRows); }
  QUERN_LANES Self even(const uint16_t* w) {
    const Int4Unaligned* q = reinterpret_cast<const Int4Unaligned*>(w);
    Self r;
    for (int i = 0; i < 4; ++i) r.v[i] = reinterpret_cast<Float4>(Int4(q[i]) << 16);
    return r;
  }
  QUERN_LANES Self odd(const uint16_t* w) {
    const Int4Unaligned* q = reinterpret_cast<const Int4Unaligned*>(w);
    Self r;
    for (int i = 0; i < 4; ++i) r.v[i] = reinterpret_cast<Float4>(Int4(q[i]) & static_cast<int32_t>(0xffff0000u));
    return r;
  }

  QUERN_LANES Float4 multiply_add(Float4 a, Float4 b, Float4 c) {
#if defined(__FP_FAST_FMAF)
    for (int j = 0; j < 4; ++j) c[j] = __builtin_fmaf(a[j], b[j], c[j]);
    return c;
#else
    return a * b + c;
#endif
  }
  // *this += a * b.
  [[gnu::always_inline]] inline void add_product(const Self& a, const Self& b) {
    for (int i = 0; i < 4; ++i) v[i] = multiply_add(a.v[i], b.v[i], v[i]);
  }
  QUERN_LANES Self fma(Self a, const Self& b, const Self& c) {
    for (int i = 0; i < 4; ++i) a.v[i] = multiply_add(a.v[i], b.v[i], c.v[i]);
    return a;
  }
  QUERN_LANES Self add(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] + b.v[i];
    return a;
  }
  QUERN_LANES Self sub(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] - b.v[i];
    return a;
  }
  QUERN_LANES Self mul(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] * b.v[i];
    return a;
  }
  QUERN_LANES Self div(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] / b.v[i];
    return a;
  }
  // The second operand where either is NaN.
  QUERN_LANES Self max(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  QUERN_LANES Self min(Self a, const Self& b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  // a in the lanes below count, b in the others.
  QUERN_LANES Self first(uint32_t count, Self a, const Self& b) {
    const Int4 offsets = {0, 1, 2, 3};
    const int32_t limit = static_cast<int32_t>(count);
    for (int i = 0; i < 4; ++i) a.v[i] = (offsets + 4 * i) < limit ? a.v[i] : b.v[i];
    return a;
  }
  // 0 where x < limit, else value.
  QUERN_LANES Self zero_below(const Self& x, float limit, Self value) {
    const Float4 none = {0, 0, 0, 0};
    for (int i = 0; i < 4; ++i) value.v[i] = x.v[i] < limit ? none : value.v[i];
    return value;
  }
  // value * 2^n where biased = 1.5 * 2^23 + n: n is added to the exponent.
  QUERN_LANES Self scale_by_power_of_two(Self value, const Self& biased) {
    for (int i = 0; i < 4; ++i) {
      value.v[i] = reinterpret_cast<Float4>(reinterpret_cast<Int4>(value.v[i]) + (reinterpret_cast<Int4>(biased.v[i]) << 23));
    }
    return value;
  }

  [[gnu::always_inline]] inline float lowest_lane() const { return v[0][0]; }
  [[gnu::always_inline]] inline float sum() const {
    const Float4 a = v[0] + v[2], b = v[1] + v[3];  // lane i with i + 8
    const Float4 c = a + b;                         // i with i + 4
    return (c[0] + c[2]) + (c[1] + c[3]);
  }
  [[gnu::always_inline]] inline float maximum() const {
    float full[kStripRows];
    store(full);
    float highest = full[0];
    for (uint32_t i = 1; i < kStripRows; ++i) highest = highest > full[i] ? highest : full[i];
    return highest;
  }
#undef QUERN_LANES
};

}  // namespace quern::cpu
