// Passes over one row of logits that every sampling path shares.
//
// Thread safety: pure functions over the given spans. Nothing allocates but the first growth of reserved vectors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quern {

struct RowMax {
  float value = 0;       // -inf for a fully masked row
  bool has_nan = false;
};

// The largest logit, and whether any is NaN. logits [num_ids]
RowMax row_max(std::span<const float> logits);
// The lowest id whose logit equals `value`. REQUIRES: it occurs.
uint32_t first_index_of(std::span<const float> logits, float value);
// log(sum(exp(logits))), summed in double. `max` is the row's largest logit.
double log_sum_exp(std::span<const float> logits, float max);

struct Candidate {
  float logit = 0;
  uint32_t id = 0;
};

// Fills `out` with the `count` largest logits that are >= floor, by falling logit, lower id first among equals. Fewer
// when fewer qualify. One pass with a rising threshold instead of a sort; `out` must be reserved for 2 x count.
void select_top(std::span<const float> logits, uint32_t count, float floor, std::vector<Candidate>* out);

}  // namespace quern
