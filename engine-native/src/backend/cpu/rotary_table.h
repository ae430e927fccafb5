// The angles of a step's positions, and heads turned by them (RoPE, arXiv:2104.09864). Header only: it runs once per head.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mutant.h"

namespace quern::cpu {

class RotaryTable {
 public:
  // inv_freq: [head_dim / 2] in radians per position.
  void reserve(std::span<const float> inv_freq, uint32_t max_num_tokens) {
    inv_freq_.assign(inv_freq.begin(), inv_freq.end());
    cosines_.assign(size_t{max_num_tokens} * inv_freq.size(), 0.0f);
    sines_ = cosines_;
  }

  // positions: [tokens] of the step, at most max_num_tokens.
  void plan(std::span<const uint32_t> positions) {
    const size_t half = inv_freq_.size();
    for (size_t token = 0; token < positions.size(); ++token) {
      const float position = static_cast<float>(positions[token]);
      for (size_t i = 0; i < half; ++i) {
        const double angle = position * inv_freq_[i];  // the fp32 product, as the models were trained
        cosines_[token * half + i] = static_cast<float>(std::cos(angle));
        sines_[token * half + i] = static_cast<float>(std::sin(angle));
      }
    }
  }

  // head: [head_dim]; (a, b) of each pair i, i + head_dim / 2 turns by position * inv_freq[i].
  void rotate(float* head, uint32_t token) const {
    const uint32_t half = static_cast<uint32_t>(inv_freq_.size());
    const float* cosine = cosines_.data() + size_t{token} * half;
    const float* sine = sines_.data() + size_t{token} * half;
    for (uint32_t i = 0; i < half; ++i) {
      const uint32_t first = mutant(2) ? 2 * i : i, second = mutant(2) ? 2 * i + 1 : half + i;
      const float a = head[first], b = head[second];
      head[first] = a * cosine[i] - b * sine[i];
      head[second] = b * cosine[i] + a * sine[i];
    }
  }

 private:
  std::vector<float> inv_freq_;
  std::vector<float> cosines_, sines_;  // [max_num_tokens, head_dim / 2] of this step's positions
};

}  // namespace quern::cpu
