// Row-wise kernels over 16 fp32 lanes: RMSNorm, SwiGLU, one online-softmax step, exp.
//
//   rmsnorm  x += delta; y = x / sqrt(mean(x^2) + eps) * w        2-4 passes over a row that stays in L1
//   swiglu   y = g / (1 + exp(-g)) * u                            12 bytes per column, bound by the exponential
//   softmax  m' = max(m, s), p = exp(s - m'), l = l e^(m - m') + sum p, o = o e^(m - m')
//            (online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867)
//   exp      2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2, e^r = 1 + r + r^2 p(r), p of degree 4 fitted to a
//            relative error of 0.05 units in the last place; measured: test/native/cpu_kernels_test.cc
//
// Sums run over lanes in ascending columns and are folded 16 -> 8 -> 4 -> 2 -> 1. All of it depends on the row alone.
#pragma once

#include "backend/cpu/kernels.h"

namespace quern::cpu {

// e^x for x in [-87, 88]; 0 below, e^88 above. NaN stays NaN.
template <class Lanes>
[[gnu::always_inline]] inline Lanes exp_lanes(Lanes x) {
  constexpr float kLow = -87.0f, kHigh = 88.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits
  const Lanes bounded = Lanes::min(Lanes::splat(kHigh), Lanes::max(Lanes::splat(kLow), x));
  const Lanes biased = Lanes::fma(bounded, Lanes::splat(1.44269504f), Lanes::splat(kRound));
  const Lanes n = Lanes::sub(biased, Lanes::splat(kRound));
  Lanes r = Lanes::fma(n, Lanes::splat(-0.693359375f), bounded);  // ln 2 in two parts; the first has 9 bits
  r = Lanes::fma(n, Lanes::splat(2.12194440e-4f), r);
  Lanes p = Lanes::splat(0.0013814464f);
  p = Lanes::fma(p, r, Lanes::splat(0.0083687808f));
  p = Lanes::fma(p, r, Lanes::splat(0.0416683927f));
  p = Lanes::fma(p, r, Lanes::splat(0.1666651964f));
  p = Lanes::fma(p, r, Lanes::splat(0.4999999403f));
  const Lanes power = Lanes::fma(Lanes::mul(p, r), r, Lanes::add(r, Lanes::splat(1.0f)));
  return Lanes::zero_below(x, kLow, Lanes::scale_by_power_of_two(power, biased));
}

// 0 below a gate of -88: there exp_lanes(-gate) stops growing, and gate / e^88 would run off again, to -2 at the far end.
template <class Lanes>
[[gnu::always_inline]] inline Lanes silu_times(Lanes gate, Lanes up) {
  constexpr float kLow = -88.0f;
  const Lanes e = exp_lanes(Lanes::sub(Lanes::zero(), gate));
  const Lanes silu = Lanes::div(gate, Lanes::add(e, Lanes::splat(1.0f)));
  return Lanes::mul(Lanes::zero_below(gate, kLow, silu), up);
}

template <class Lanes>
void rmsnorm_row(float* x, const float* delta, const float* weight, uint32_t n, float eps, float* out) {
  const uint32_t whole = n / kStripRows * kStripRows;
  const uint32_t rest = n - whole;
  Lanes squares = Lanes::zero();
  for (uint32_t i = 0; i < whole; i += kStripRows) {
    Lanes v = Lanes::load(x + i);
    if (delta != nullptr) {
      v = Lanes::add(v, Lanes::load(delta + i));
      v.store(x + i);
    }
    squares = Lanes::fma(v, v, squares);
  }
  if (rest != 0) {
    Lanes v = Lanes::load_some(x + whole, rest);
    if (delta != nullptr) {
      v = Lanes::add(v, Lanes::load_some(delta + whole, rest));
      v.store_some(x + whole, rest);
    }
    squares = Lanes::fma(v, v, squares);
  }
  const Lanes scale = Lanes::splat(1.0f / __builtin_sqrtf(squares.sum() / static_cast<float>(n) + eps));
  for (uint32_t i = 0; i < whole; i += kStripRows) {
    Lanes::mul(Lanes::mul(Lanes::load(x + i), scale), Lanes::load(weight + i)).store(out + i);
  }
  if (rest != 0) {
    const Lanes v = Lanes::mul(Lanes::load_some(x + whole, rest), scale);
    Lanes::mul(v, Lanes::load_some(weight + whole, rest)).store_some(out + whole, rest);
  }
}

template <class Lanes>
void swiglu_row(const float* gate, const float* up, uint32_t n, float* out) {
  const uint32_t whole = n / kStripRows * kStripRows;
  const uint32_t rest = n - whole;
  for (uint32_t i = 0; i < whole; i += kStripRows) {
    silu_times(Lanes::load(gate + i), Lanes::load(up + i)).store(out + i);
  }
  if (rest != 0) {
    silu_times(Lanes::load_some(gate + whole, rest), Lanes::load_some(up + whole, rest)).store_some(out + whole, rest);
  }
}

template <class Lanes>
void exp_row(const float* in, uint32_t n, float* out) {
  for (uint32_t i = 0; i < n; i += kStripRows) {
    const uint32_t count = n - i < kStripRows ? n - i : kStripRows;
    exp_lanes(Lanes::load_some(in + i, count)).store_some(out + i, count);
  }
}

template <class Lanes>
void scale_row(const float* in, float factor, uint32_t n, float* out) {
  const uint32_t whole = n / kStripRows * kStripRows;
  const Lanes f = Lanes::splat(factor);
  for (uint32_t i = 0; i < whole; i += kStripRows) Lanes::mul(Lanes::load(in + i), f).store(out + i);
  if (whole != n) Lanes::mul(Lanes::load_some(in + whole, n - whole), f).store_some(out + whole, n - whole);
}

template <class Lanes>
void softmax_step(const SoftmaxStep& a) {
  const Lanes lowest = Lanes::splat(-__builtin_inff());
  Lanes highest = lowest;
  for (uint32_t s = 0; s < a.strips; ++s) {
    const uint32_t begin = s * kStripRows;
    const uint32_t visible = a.valid > begin ? a.valid - begin : 0;
    highest = Lanes::max(highest, Lanes::first(visible, Lanes::load(a.scores + begin), lowest));
  }
  const float old_max = *a.max;
  const float part_max = highest.maximum();
  const float new_max = old_max > part_max ? old_max : part_max;
  const Lanes shift = Lanes::splat(new_max);
  Lanes sum = Lanes::zero();
  for (uint32_t s = 0; s < a.strips; ++s) {
    const uint32_t begin = s * kStripRows;
    const uint32_t visible = a.valid > begin ? a.valid - begin : 0;
    const Lanes p = Lanes::first(visible, exp_lanes(Lanes::sub(Lanes::load(a.scores + begin), shift)), Lanes::zero());
    p.store(a.scores + begin);
    sum = Lanes::add(sum, p);
  }
  *a.max = new_max;
  if (new_max == old_max) {
    *a.sum += sum.sum();
    return;
  }
  const Lanes decay = exp_lanes(Lanes::splat(old_max - new_max));  // 0 at the first step, where old_max is -inf
  const float factor = decay.lowest_lane();
  *a.sum = *a.sum * factor + sum.sum();
  for (uint32_t i = 0; i < a.dims; i += kStripRows) Lanes::mul(Lanes::load(a.out + i), decay).store(a.out + i);
}

template <class Lanes>
void softmax_merge(float* max, float* sum, float* out, float part_max, float part_sum, const float* part_out,
                   uint32_t dims) {
  const float new_max = *max > part_max ? *max : part_max;
  const Lanes old_decay = exp_lanes(Lanes::splat(*max - new_max));
  const Lanes part_decay = exp_lanes(Lanes::splat(part_max - new_max));
  *sum = *sum * old_decay.lowest_lane() + part_sum * part_decay.lowest_lane();
  *max = new_max;
  for (uint32_t i = 0; i < dims; i += kStripRows) {
    const Lanes kept = Lanes::mul(Lanes::load(out + i), old_decay);
    Lanes::fma(Lanes::load(part_out + i), part_decay, kept).store(out + i);
  }
}

template <class Lanes>
constexpr void register_rows(Kernels& table) {
  table.rmsnorm_row = rmsnorm_row<Lanes>;
  table.swiglu_row = swiglu_row<Lanes>;
  table.softmax_step = softmax_step<Lanes>;
  table.softmax_merge = softmax_merge<Lanes>;
  table.scale_row = scale_row<Lanes>;
  table.exp_row = exp_row<Lanes>;
}

}  // namespace quern::cpu
