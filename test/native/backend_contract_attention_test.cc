// The contract of rope_and_cache and attention against the double-precision reference: head sizes, groups, block
// borders, chunks, several sequences with scattered blocks; and that a query's result is the same bits however it is
// batched.
#include <cmath>

#include "backend_contract_twin.h"
#include "reference_backend.h"

namespace quern::test {
namespace {

struct Heads {
  uint32_t q, kv, head_dim;
  bool norms;
};
constexpr Heads kHeads[] = {{4, 4, 64, false}, {4, 2, 64, true},  {7, 1, 16, false}, {14, 2, 64, false},
                            {6, 2, 80, true},  {2, 1, 128, true}, {8, 1, 32, false}, {3, 3, 6, false}};

AttentionShape shape_of(const Heads& heads) {
  AttentionShape shape;
  shape.num_layers = 2;
  shape.num_q_heads = heads.q, shape.num_kv_heads = heads.kv, shape.head_dim = heads.head_dim;
  for (uint32_t i = 0; i < heads.head_dim / 2; ++i)
    shape.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / heads.head_dim)));
  shape.attention_scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
  return shape;
}

RunnerLimits limits_of(uint32_t block_size) {
  RunnerLimits limits;
  limits.max_num_tokens = 200, limits.max_num_seqs = 8, limits.max_logit_rows = 8, limits.context_length = 256;
  limits.block_size = block_size, limits.num_blocks = 1024 / block_size;
  return limits;
}

// One layer's attention on both backends, fed batch by batch.
class AttentionBench {
 public:
  AttentionBench(Twin& twin, const Heads& heads, uint32_t block_size, float spread)
      : twin_(twin),
        heads_(heads),
        random_(seed() + heads.q * 131 + heads.head_dim),
        spread_(spread),
        width_((heads.q + 2 * heads.kv) * heads.head_dim),
        probe_([this](const Batch& batch) { run(batch); }),
        driver_(probe_, limits_of(block_size)) {
    twin.reserve(shape_of(heads), limits_of(block_size));
    qkv_ = twin.buffer(width_), out_ = twin.buffer(heads.q * heads.head_dim);
    if (heads.norms) {
      const OwnedTensor q(random_, heads.head_dim, 1, DType::kF32, 0.3f, 1.0f),
          k(random_, heads.head_dim, 1, DType::kBF16, 0.3f, 1.0f);
      q_norm_ = twin.vector(q.view()), k_norm_ = twin.vector(k.view());
    }
  }

  size_t add_sequence() { return driver_.add_sequence(); }

  // Appends counts[i] tokens to sequences[i]; compares q and the output with the reference within `tolerance`.
  void step(std::span<const size_t> sequences, std::span<const uint32_t> counts, double tolerance,
            const std::string& where) {
    tolerance_ = tolerance, where_ = where;
    std::vector<Feed> feeds;
    for (size_t i = 0; i < sequences.size(); ++i)
      feeds.push_back({sequences[i], std::span(zeros_).first(counts[i]), {}});
    EXPECT_OK(driver_.step(feeds));
  }

 private:
  void run(const Batch& batch) {
    const uint32_t rows = static_cast<uint32_t>(batch.token_ids.size());
    const uint32_t q_width = heads_.q * heads_.head_dim;
    twin_.begin_step(batch);
    for (const uint32_t layer : {1u, 0u}) {
      twin_.write(qkv_, rows, random_values(random_, static_cast<size_t>(rows) * width_, spread_));
      twin_.run([&](Backend& b, bool s) {
        const auto norm = [&](const std::optional<Both<VectorId>>& n) {
          return n ? std::optional(side(*n, s)) : std::nullopt;
        };
        b.rope_and_cache(side(qkv_, s), layer, norm(q_norm_), norm(k_norm_), 1e-6f);
        b.attention(side(qkv_, s), layer, side(out_, s));
      });
      twin_.expect_same(qkv_, rows, width_, q_width, 1e-5, where_ + ", q");
      twin_.expect_same(out_, rows, q_width, q_width, tolerance_, where_ + ", layer " + std::to_string(layer));
    }
  }

  Twin& twin_;
  Heads heads_;
  std::mt19937_64 random_;
  float spread_;
  uint32_t width_;
  BatchProbe probe_;
  ModelDriver driver_;
  Both<BufferId> qkv_, out_;
  std::optional<Both<VectorId>> q_norm_, k_norm_;
  std::vector<uint32_t> zeros_ = std::vector<uint32_t>(200);
  double tolerance_ = 0;
  std::string where_;
};

// K and V that fp32 noise moves over a rounding border differ by one bf16 step in one element.
double tolerance_of(const std::string& dtype) { return dtype == "f32" ? 2e-5 : 1e-2; }

std::string label(const std::string& name, const std::string& dtype, const Heads& heads) {
  return name + ", " + dtype + ", heads " + std::to_string(heads.q) + "/" + std::to_string(heads.kv) + " x " +
         std::to_string(heads.head_dim);
}

TEST(backend_contract_attention) {
  for (const std::string& name : backend_names())
    for (const std::string dtype : {"f32", "bf16"})
      for (const Heads& heads : kHeads) {
        Twin twin(name, dtype);
        if (!twin.good()) continue;
        AttentionBench bench(twin, heads, 16, 1.0f);
        const std::string where = label(name, dtype, heads);
        const double tolerance = tolerance_of(dtype);
        const size_t ids[] = {bench.add_sequence(), bench.add_sequence(), bench.add_sequence(), bench.add_sequence()};
        bench.step(ids, std::vector<uint32_t>{1, 15, 16, 17}, tolerance, where + ", first step");
        bench.step(ids, std::vector<uint32_t>{1, 1, 1, 1}, tolerance, where + ", decode");
        bench.step(ids, std::vector<uint32_t>{14, 1, 16, 30}, tolerance, where + ", chunks");
        bench.step(std::span(ids).subspan(1, 2), std::vector<uint32_t>{47, 100}, tolerance, where + ", long chunks");
        bench.step(ids, std::vector<uint32_t>{1, 1, 1, 1}, tolerance, where + ", decode after chunks");
      }
}

TEST(backend_contract_attention_block_sizes) {
  for (const std::string& name : backend_names())
    for (const uint32_t block_size : {8u, 32u}) {
      Twin twin(name, "f32");
      if (!twin.good()) continue;
      AttentionBench bench(twin, {4, 2, 64, true}, block_size, 1.0f);
      const std::string where = name + ", blocks of " + std::to_string(block_size);
      const size_t ids[] = {bench.add_sequence(), bench.add_sequence()};
      for (const uint32_t count : {7u, 1u, 1u, 23u, 1u, 32u, 33u, 1u})
        bench.step(ids, std::vector<uint32_t>{count, count + 1}, 2e-5, where);
    }
}

// Scores of some hundreds: a softmax that does not subtract the largest score overflows.
TEST(backend_contract_attention_with_large_scores) {
  for (const std::string& name : backend_names()) {
    Twin twin(name, "f32");
    if (!twin.good()) continue;
    AttentionBench bench(twin, {4, 2, 64, false}, 16, 10.0f);
    const size_t id = bench.add_sequence();
    bench.step(std::span(&id, 1), std::vector<uint32_t>{40}, 1e-3, name);
    bench.step(std::span(&id, 1), std::vector<uint32_t>{1}, 1e-3, name);
  }
}

// Everything that happens to one sequence: the outputs of all its tokens, [tokens, q width].
class SequenceRun {
 public:
  SequenceRun(const std::string& name, const std::string& dtype, const Heads& heads)
      : twin_(name, dtype), heads_(heads) {
    if (!twin_.good()) return;
    twin_.reserve(shape_of(heads), limits_of(16));
    width_ = (heads.q + 2 * heads.kv) * heads.head_dim;
    qkv_ = twin_.buffer(width_), out_ = twin_.buffer(heads.q * heads.head_dim);
  }
  bool good() const { return twin_.good(); }

  // Sequence 0's tokens arrive in `chunks`; `others` more sequences get `other_count` tokens in each step, at the front
  // or the back of the batch.
  std::vector<float> run(std::span<const float> values, std::span<const uint32_t> chunks, uint32_t others,
                         uint32_t other_count, bool front) {
    std::mt19937_64 random(seed() + others);
    std::vector<float> result;
    uint32_t done = 0;
    BatchProbe probe([&](const Batch& batch) {
      const uint32_t rows = static_cast<uint32_t>(batch.token_ids.size());
      const SequenceSlice& slice = front ? batch.sequences.back() : batch.sequences.front();
      std::vector<float> in = random_values(random, static_cast<size_t>(rows) * width_, 2);
      std::copy_n(values.begin() + done * width_, slice.query_count * width_, in.begin() + slice.query_begin * width_);
      Backend& b = twin_.subject();
      b.begin_step(batch);
      b.write_rows(qkv_.subject, rows, in);
      b.rope_and_cache(qkv_.subject, 0, std::nullopt, std::nullopt, 1e-6f);
      b.attention(qkv_.subject, 0, out_.subject);
      const uint32_t q_width = heads_.q * heads_.head_dim;
      const std::vector<float> out = twin_.read(out_.subject, rows, q_width);
      result.insert(result.end(), out.begin() + slice.query_begin * q_width,
                    out.begin() + (slice.query_begin + slice.query_count) * q_width);
      done += slice.query_count;
    });
    ModelDriver driver(probe, twin_.limits());
    const size_t own = driver.add_sequence();
    std::vector<size_t> rest(others);
    for (size_t& id : rest) id = driver.add_sequence();
    for (const uint32_t chunk : chunks) {
      std::vector<Feed> feeds;
      for (const size_t id : rest) feeds.push_back({id, std::span(zeros_).first(other_count), {}});
      feeds.insert(front ? feeds.end() : feeds.begin(), Feed{own, std::span(zeros_).first(chunk), {}});
      EXPECT_OK(driver.step(feeds));
    }
    return result;
  }

 private:
  Twin twin_;
  Heads heads_;
  uint32_t width_ = 0;
  Both<BufferId> qkv_, out_;
  std::vector<uint32_t> zeros_ = std::vector<uint32_t>(200);
};

TEST(backend_contract_attention_does_not_see_batch_or_chunks) {
  constexpr uint32_t kTokens = 75;
  for (const std::string& name : backend_names())
    for (const std::string dtype : {"f32", "bf16"})
      for (const Heads& heads : {kHeads[1], kHeads[2], kHeads[4]}) {
        SequenceRun sequence(name, dtype, heads);
        if (!sequence.good()) continue;
        std::mt19937_64 random(seed());
        const std::vector<float> values = random_values(random, kTokens * (heads.q + 2 * heads.kv) * heads.head_dim);
        const std::vector<float> alone = sequence.run(values, std::vector<uint32_t>{kTokens}, 0, 0, false);
        const struct {
          const char* name;
          std::vector<uint32_t> chunks;
          uint32_t others, other_count;
          bool front;
        } variants[] = {
            {"token by token", std::vector<uint32_t>(kTokens, 1), 0, 0, false},
            {"chunks", {1, 15, 16, 17, 26}, 0, 0, false},
            {"with decodes behind", {40, 35}, 3, 1, false},
            {"with decodes in front", {40, 1, 34}, 5, 1, true},
            {"with chunks in front", {33, 42}, 2, 21, true},
        };
        for (const auto& v : variants) {
          const std::vector<float> other = sequence.run(values, v.chunks, v.others, v.other_count, v.front);
          EXPECT_MSG(other == alone, label(name, dtype, heads) + ": bits differ, " + v.name);
        }
      }
}

}  // namespace
}  // namespace quern::test
