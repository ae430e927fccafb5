// Sampler: Philox vectors, every filter against a naive reference, distributions, ties, errors, no allocation.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "sample/philox.h"
#include "sample/sampler.h"
#include "test.h"

namespace quern {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Random123's known-answer tests, kat_vectors "philox 4x32 10".
TEST(sample_philox_matches_known_answers) {
  EXPECT_EQ(philox_4x32_10({0, 0, 0, 0}, 0), (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox_4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffffULL),
            (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox_4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822ULL),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<float> random_row(std::mt19937_64& random, uint32_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(count);
  for (float& logit : row) logit = normal(random);
  return row;
}

// The definition, written for reading: every step over a full sorted list, in double.
std::vector<double> reference(std::vector<float> row, const SamplerSettings& s, const SampleContext& context, uint32_t num_ids) {
  row.resize(num_ids);
  for (const auto& [id, bias] : s.logit_bias) row[id] += bias;
  const uint32_t outputs = static_cast<uint32_t>(context.tokens.size()) - context.prompt_count;
  if (outputs < s.min_tokens) {
    for (uint32_t id : s.stop_ids) row[id] = -kInf;
  }
  for (uint32_t id : std::set<uint32_t>(context.tokens.begin(), context.tokens.end())) {
    row[id] = row[id] > 0 ? row[id] / s.repetition_penalty : row[id] * s.repetition_penalty;
  }
  const auto output = context.tokens.subspan(context.prompt_count);
  for (uint32_t id : std::set<uint32_t>(output.begin(), output.end())) {
    const auto count = std::count(output.begin(), output.end(), id);
    row[id] -= s.frequency_penalty * static_cast<float>(count) + s.presence_penalty;
  }
  std::vector<double> p(num_ids);
  const float max = *std::max_element(row.begin(), row.end());
  if (s.greedy()) {
    p[static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin())] = 1;
    return p;
  }
  for (uint32_t i = 0; i < num_ids; ++i) p[i] = std::exp((static_cast<double>(row[i]) - max) / s.temperature);
  std::vector<uint32_t> order(num_ids);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return row[a] > row[b]; });
  size_t kept = num_ids;
  while (kept > 1 && p[order[kept - 1]] < static_cast<double>(s.min_p)) --kept;
  if (s.top_k > 0) kept = std::min<size_t>(kept, s.top_k);
  double mass = 0;
  for (size_t i = 0; i < kept; ++i) mass += p[order[i]];
  double sum = 0;
  size_t nucleus = 0;
  while (nucleus < kept) {
    sum += p[order[nucleus++]];
    if (s.top_p < 1 && sum >= static_cast<double>(s.top_p) * mass) break;
  }
  for (size_t i = nucleus; i < num_ids; ++i) p[order[i]] = 0;
  for (double& value : p) value /= sum;
  return p;
}

// Draws many tokens and compares frequencies with the reference: nothing outside its support, chi-square within bounds.
void expect_distribution(const std::vector<float>& row, SamplerSettings settings, const SampleContext& context, uint32_t num_ids) {
  const std::vector<double> p = reference(row, settings, context, num_ids);
  Sampler sampler(static_cast<uint32_t>(row.size()), num_ids);
  constexpr int kDraws = 6000;
  std::vector<int> hits(num_ids, 0);
  for (int i = 0; i < kDraws; ++i) {
    settings.seed = test::seed() * 1000003 + static_cast<uint64_t>(i);
    std::vector<float> scratch = row;
    const Sampled sampled = sampler.sample(scratch, settings, context);
    EXPECT_EQ(sampled.error, SampleError::kNone);
    REQUIRE(sampled.token_id < num_ids);
    ++hits[sampled.token_id];
  }
  double chi = 0, cells = 0, rest_expected = 0, rest_hits = 0;
  for (uint32_t i = 0; i < num_ids; ++i) {
    if (p[i] == 0) EXPECT_EQ(hits[i], 0);
    const double expected = p[i] * kDraws;
    if (expected < 8) {
      rest_expected += expected;
      rest_hits += hits[i];
      continue;
    }
    chi += (hits[i] - expected) * (hits[i] - expected) / expected;
    ++cells;
  }
  if (rest_expected >= 8) {
    chi += (rest_hits - rest_expected) * (rest_hits - rest_expected) / rest_expected;
    ++cells;
  }
  // Mean cells - 1, deviation sqrt(2 (cells - 1)); five deviations.
  EXPECT_LE(chi, cells + 5 * std::sqrt(2 * std::max(cells, 1.0)));
}

TEST(sample_filters_match_the_reference_distribution) {
  std::mt19937_64 random(test::seed());
  const std::vector<uint32_t> tokens{3, 5, 5, 9, 4, 4, 4, 11};
  for (int round = 0; round < 24; ++round) {
    const uint32_t num_ids = round % 3 == 0 ? 200 : 40;
    const auto row = random_row(random, num_ids + 5, 2.0f);
    SamplerSettings s;
    s.temperature = 0.5f + 0.25f * static_cast<float>(random() % 5);
    if (round & 1) s.top_k = static_cast<uint32_t>(1 + random() % 30);
    if (round & 2) s.top_p = 0.3f + 0.1f * static_cast<float>(random() % 7);
    if (round & 4) s.min_p = 0.02f * static_cast<float>(1 + random() % 10);
    if (round & 8) {
      s.repetition_penalty = 1.5f;
      s.frequency_penalty = 0.4f;
      s.presence_penalty = -0.3f;
    }
    if (round & 16) {
      s.logit_bias = {{2, 3.0f}, {7, -100.0f}};
      s.stop_ids = {1, 2};
      s.min_tokens = 9;
    }
    expect_distribution(row, s, {tokens, 3, 0}, num_ids);
  }
}

TEST(sample_large_nucleus_grows_past_the_first_candidates) {
  std::vector<float> row(3000, 0.0f);  // flat: top_p 0.5 keeps 1500 ids
  SamplerSettings s;
  s.top_p = 0.5f;
  Sampler sampler(3000, 3000);
  std::set<uint32_t> seen;
  for (uint64_t i = 0; i < 4000; ++i) {
    s.seed = i;
    auto scratch = row;
    seen.insert(sampler.sample(scratch, s, {}).token_id);
  }
  EXPECT_LE(*seen.rbegin(), 1499u);
  EXPECT_LT(1300u, static_cast<uint32_t>(seen.size()));
}

TEST(sample_greedy_takes_the_lowest_id_of_equals_and_never_padding) {
  std::vector<float> row(37, 0.0f);
  row[11] = row[12] = row[30] = 4.0f;
  row[33] = 9.0f;  // padding
  SamplerSettings s;
  s.temperature = 0;
  Sampler sampler(37, 33);
  EXPECT_EQ(sampler.sample(row, s, {}).token_id, 11u);
}

TEST(sample_greedy_respects_penalties_and_min_tokens) {
  Sampler sampler(8, 8);
  SamplerSettings s;
  s.temperature = 0;
  s.stop_ids = {5};
  s.min_tokens = 2;
  const std::vector<uint32_t> tokens{1, 2, 3};
  std::vector<float> row{0, 0, 0, 1, 0, 9, 0, 2};
  EXPECT_EQ(sampler.sample(row, s, {tokens, 2, 0}).token_id, 7u);  // one output token so far
  row = {0, 0, 0, 1, 0, 9, 0, 2};
  EXPECT_EQ(sampler.sample(row, s, {tokens, 1, 0}).token_id, 5u);  // two
  s.repetition_penalty = 2.0f;
  row = {-1, -1, -1, 4, -1, -9, -1, 3};
  EXPECT_EQ(sampler.sample(row, s, {tokens, 1, 0}).token_id, 7u);
}

TEST(sample_same_seed_position_and_choice_give_the_same_token) {
  std::mt19937_64 random(test::seed());
  const auto row = random_row(random, 500, 1.0f);
  Sampler sampler(500, 500);
  SamplerSettings s;
  s.seed = 42;
  const std::vector<uint32_t> tokens(10, 1);
  std::set<uint32_t> by_position, by_choice;
  for (uint32_t i = 0; i < 10; ++i) {
    auto a = row, b = row, c = row;
    const SampleContext at{std::span(tokens).first(i + 1), 1, 0};
    const uint32_t token = sampler.sample(a, s, at).token_id;
    by_position.insert(token);
    EXPECT_EQ(sampler.sample(b, s, at).token_id, token);
    by_choice.insert(sampler.sample(c, s, {tokens, 1, i}).token_id);
  }
  EXPECT_LT(5u, static_cast<uint32_t>(by_position.size()));
  EXPECT_LT(5u, static_cast<uint32_t>(by_choice.size()));
}

TEST(sample_broken_rows_are_errors) {
  Sampler sampler(9, 9);
  SamplerSettings s;
  for (float temperature : {0.0f, 1.0f}) {
    s.temperature = temperature;
    for (uint32_t at = 0; at < 9; ++at) {
      std::vector<float> row(9, 1.0f);
      row[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_EQ(sampler.sample(row, s, {}).error, SampleError::kNan);
      row.assign(9, 1.0f);
      row[at] = kInf;
      EXPECT_EQ(sampler.sample(row, s, {}).error, SampleError::kInfinite);
    }
    std::vector<float> row(9, -kInf);
    EXPECT_EQ(sampler.sample(row, s, {}).error, SampleError::kAllMasked);
  }
}

TEST(sample_logprobs_match_a_softmax) {
  std::mt19937_64 random(test::seed());
  const auto row = random_row(random, 300, 3.0f);
  Sampler sampler(300, 290);
  sampler.keep_raw(row);
  std::vector<RankedLogprob> out;
  REQUIRE(sampler.logprobs(17, 20, &out));
  REQUIRE(out.size() == 21);
  double sum = 0;
  for (size_t i = 0; i < 290; ++i) sum += std::exp(static_cast<double>(row[i]));
  std::vector<uint32_t> order(290);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return row[a] > row[b]; });
  EXPECT_EQ(out[0].token_id, 17u);
  EXPECT_EQ(order[out[0].rank - 1], 17u);
  for (const RankedLogprob& entry : out) {
    EXPECT_NEAR(static_cast<double>(entry.logprob), static_cast<double>(row[entry.token_id]) - std::log(sum), 1e-5);
  }
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(out[i + 1].token_id, order[i]);
    EXPECT_EQ(out[i + 1].rank, static_cast<uint32_t>(i + 1));
  }
}

TEST(sample_allocates_nothing) {
  if (!test::counts_allocations()) SKIP("allocation counting is off in sanitizer builds");
  std::mt19937_64 random(test::seed());
  Sampler sampler(5000, 5000);
  auto row = random_row(random, 5000, 2.0f);
  const std::vector<uint32_t> tokens(100, 7);
  SamplerSettings s;
  s.repetition_penalty = 1.1f;
  s.frequency_penalty = 0.5f;
  std::vector<RankedLogprob> out;
  out.reserve(1000);
  const uint64_t before = test::allocations();
  for (uint32_t i = 0; i < 40; ++i) {
    s.top_k = i % 3 == 0 ? 0 : i * 50;
    s.top_p = i % 2 == 0 ? 1.0f : 0.9f;
    s.temperature = i % 5 == 0 ? 0.0f : 1.0f;
    sampler.keep_raw(row);
    (void)sampler.sample(row, s, {tokens, 50, 0});
    (void)sampler.logprobs(3, 5, &out);
  }
  EXPECT_EQ(test::allocations() - before, uint64_t{0});
}

}  // namespace
}  // namespace quern
