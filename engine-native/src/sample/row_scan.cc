#include "sample/row_scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace quern {
namespace {

// Four lanes: the width every target has; the loop is bound by memory beyond that.
using Lanes = float __attribute__((vector_size(16)));
using Mask = int32_t __attribute__((vector_size(16)));
constexpr size_t kLanes = 4;

bool goes_before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

RowMax row_max(std::span<const float> logits) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  Lanes best0 = {kLowest, kLowest, kLowest, kLowest}, best1 = best0;
  Mask nan = {0, 0, 0, 0};
  size_t i = 0;
  for (; i + 2 * kLanes <= logits.size(); i += 2 * kLanes) {
    Lanes a, b;
    std::memcpy(&a, logits.data() + i, sizeof a);
    std::memcpy(&b, logits.data() + i + kLanes, sizeof b);
    best0 = a > best0 ? a : best0;
    best1 = b > best1 ? b : best1;
    nan |= (a != a) | (b != b);
  }
  RowMax out{kLowest, (nan[0] | nan[1] | nan[2] | nan[3]) != 0};
  for (size_t lane = 0; lane < kLanes; ++lane) out.value = std::max({out.value, best0[lane], best1[lane]});
  for (; i < logits.size(); ++i) {
    out.value = std::max(out.value, logits[i]);
    out.has_nan |= std::isnan(logits[i]);
  }
  return out;
}

uint32_t first_index_of(std::span<const float> logits, float value) {
  const auto it = std::find(logits.begin(), logits.end(), value);
  CHECK(it != logits.end(), "the row's maximum is not in the row");
  return static_cast<uint32_t>(it - logits.begin());
}

double log_sum_exp(std::span<const float> logits, float max) {
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  return static_cast<double>(max) + std::log(sum);
}

void select_top(std::span<const float> logits, uint32_t count, float floor, std::vector<Candidate>* out) {
  out->clear();
  if (count == 0) return;
  const size_t full = size_t{count} * 2;
  const auto shrink = [&] {
    std::nth_element(out->begin(), out->begin() + (count - 1), out->end(), goes_before);
    out->resize(count);
  };
  // Ids come in rising order, so an equal logit that comes later loses its tie: only greater ones pass the threshold.
  float threshold = std::nextafter(floor, -std::numeric_limits<float>::infinity());
  for (uint32_t id = 0; id < logits.size(); ++id) {
    if (!(logits[id] > threshold)) continue;
    out->push_back({logits[id], id});
    if (out->size() < full) continue;
    shrink();
    threshold = std::max(threshold, (*out)[count - 1].logit);
  }
  if (out->size() > count) shrink();
  std::sort(out->begin(), out->end(), goes_before);
}

}  // namespace quern
