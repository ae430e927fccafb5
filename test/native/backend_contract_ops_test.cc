// The contract of backend.h, op by op, against the double-precision reference: odd shapes, every source type, and that
// a row never depends on the rows beside it. Attention has its own file.
#include <cmath>

#include "backend_contract_twin.h"
#include "base/float16.h"
#include "reference_backend.h"

namespace quern::test {
namespace {

// fp32 sums of a few hundred products, against double.
constexpr double kTolerance = 5e-6;
// Where products round their inputs to bf16: each is off by up to 2^-8 of itself, evenly spread, which is at most 2^-8 / sqrt(3)
// of an output's standard deviation (weights and inputs have mean zero); six of those. Inputs that are bf16 already must
// meet kTolerance there, too.
constexpr double kNarrowTolerance = 1.36e-2;
constexpr uint32_t kRowsMax = 40;

double product_tolerance(Twin& twin) {
  return twin.subject().info().narrows_activations ? kNarrowTolerance : kTolerance;
}

template <typename Body>
void for_each_backend(const Body& body) {
  for (const std::string& name : backend_names())
    for (const char* dtype : {"f32", "bf16"}) {
      Twin twin(name, dtype);
      if (twin.good()) body(twin, name + ", " + dtype);
    }
}

// 1 to 17 rows and a few more, so that every tile height and remainder occurs.
std::vector<uint32_t> row_counts() {
  std::vector<uint32_t> rows;
  for (uint32_t i = 1; i <= 17; ++i) rows.push_back(i);
  rows.insert(rows.end(), {24, 31, kRowsMax});
  return rows;
}

struct LinearCase {
  std::vector<uint32_t> outs;  // rows of each part
  uint32_t in;
  bool bias;
  uint32_t k_slices;
  DType dtype;
};

void check_linear(Twin& twin, const LinearCase& c, const std::string& where) {
  std::mt19937_64 random(seed() + c.in);
  std::vector<OwnedTensor> owned;
  LinearSource source;
  uint32_t out = 0;
  for (const uint32_t rows : c.outs) {
    owned.emplace_back(random, rows, c.in, c.dtype, 0.5f);
    source.parts.push_back(owned.back().view());
    out += rows;
  }
  for (size_t i = 0; c.bias && i < c.outs.size(); ++i) {
    if (i == 1) {  // one part without a bias among parts with one
      source.bias.emplace_back();
      continue;
    }
    owned.emplace_back(random, c.outs[i], 1, c.dtype, 1.0f);
    source.bias.emplace_back(owned.back().view());
  }
  source.k_slices = c.k_slices;
  const auto weight = twin.linear(source);
  const auto x = twin.buffer(c.in), y = twin.buffer(out);
  for (const uint32_t rows : row_counts()) {
    const PlainBatch batch(rows);
    twin.begin_step(batch.batch());
    std::vector<float> values = random_values(random, static_cast<size_t>(rows) * c.in);
    twin.write(x, rows, values);
    twin.run([&](Backend& b, bool s) { b.linear(side(x, s), side(weight, s), side(y, s)); });
    twin.expect_same(y, rows, out, out, product_tolerance(twin), where);
    if (!twin.subject().info().narrows_activations) continue;
    for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
    twin.write(x, rows, values);
    twin.run([&](Backend& b, bool s) { b.linear(side(x, s), side(weight, s), side(y, s)); });
    twin.expect_same(y, rows, out, out, kTolerance, where + ", inputs of bf16");
  }
}

TEST(backend_contract_linear) {
  const LinearCase cases[] = {
      {{64}, 64, false, 1, DType::kBF16},       {{1}, 1, false, 1, DType::kF32},
      {{17}, 31, true, 1, DType::kF32},         {{5, 3, 3}, 100, true, 1, DType::kBF16},
      {{96, 48, 48}, 96, true, 1, DType::kF16}, {{33}, 130, false, 4, DType::kF32},
      {{64}, 160, false, 4, DType::kBF16},      {{100}, 7, true, 4, DType::kF16},
      {{16, 16}, 257, false, 1, DType::kF32},   {{200}, 896, false, 4, DType::kBF16},
      {{15}, 33, false, 4, DType::kBF16},       {{48, 47}, 513, true, 1, DType::kBF16},
  };
  for_each_backend([&](Twin& twin, const std::string& where) {
    twin.reserve_plain(kRowsMax, 8);
    for (const LinearCase& c : cases)
      check_linear(twin, c, where + ", in " + std::to_string(c.in) + ", " + std::to_string(c.outs.size()) + " parts");
  });
}

TEST(backend_contract_embedding_and_tied_head) {
  std::mt19937_64 random(seed());
  const uint32_t vocabulary = 77, hidden = 50;
  const OwnedTensor table(random, vocabulary, hidden, DType::kF32, 1.0f);
  for_each_backend([&](Twin& twin, const std::string& where) {
    const auto untied = twin.embedding(table.view());
    const auto head = twin.linear(LinearSource{{table.view()}, {}, 1});
    const auto tied = twin.tie(head);
    twin.reserve_plain(kRowsMax, 8);
    const auto a = twin.buffer(hidden), b = twin.buffer(hidden);
    PlainBatch batch(kRowsMax);
    for (uint32_t& id : batch.token_ids) id = static_cast<uint32_t>(random() % vocabulary);
    batch.token_ids[0] = 0, batch.token_ids[1] = vocabulary - 1;
    twin.begin_step(batch.batch());
    twin.run([&](Backend& backend, bool s) {
      backend.embed(side(untied, s), side(a, s));
      backend.embed(side(tied, s), side(b, s));
    });
    twin.expect_same(a, kRowsMax, hidden, hidden, 0, where + ", untied");
    twin.expect_same(b, kRowsMax, hidden, hidden, 0, where + ", tied");
  });
}

TEST(backend_contract_rmsnorm) {
  for_each_backend([&](Twin& twin, const std::string& where) {
    std::mt19937_64 random(seed());
    twin.reserve_plain(kRowsMax, kRowsMax);
    for (const uint32_t cols : {1u, 7u, 16u, 50u, 64u, 131u, 896u}) {
      const OwnedTensor values(random, cols, 1, DType::kBF16, 0.25f, 1.0f);
      const auto weight = twin.vector(values.view());
      const auto x = twin.buffer(cols), delta = twin.buffer(cols), out = twin.buffer(cols);
      for (const uint32_t rows : {1u, 2u, 5u, 17u, kRowsMax}) {
        const std::string label = where + ", cols " + std::to_string(cols);
        const PlainBatch batch(rows);
        twin.begin_step(batch.batch());
        for (const float spread : {1.0f, 1e-4f, 1e3f}) {  // 1e-4: eps matters
          twin.write(x, rows, random_values(random, static_cast<size_t>(rows) * cols, spread));
          twin.write(delta, rows, random_values(random, static_cast<size_t>(rows) * cols, spread));
          twin.run([&](Backend& b, bool s) { b.rmsnorm(side(x, s), side(weight, s), 1e-6f, side(out, s)); });
          twin.expect_same(out, rows, cols, cols, kTolerance, label);
          twin.run([&](Backend& b, bool s) {
            b.add_rmsnorm(side(x, s), side(delta, s), side(weight, s), 1e-5f, side(out, s));
          });
          twin.expect_same(x, rows, cols, cols, 0, label + ", residual");
          twin.expect_same(out, rows, cols, cols, kTolerance, label + ", after adding");
        }
      }
    }
  });
}

TEST(backend_contract_swiglu) {
  for_each_backend([&](Twin& twin, const std::string& where) {
    std::mt19937_64 random(seed());
    twin.reserve_plain(kRowsMax, 8);
    for (const uint32_t ffn : {1u, 15u, 64u, 163u}) {
      const auto gate_up = twin.buffer(2 * ffn), out = twin.buffer(ffn);
      for (const uint32_t rows : {1u, 3u, 17u}) {
        const PlainBatch batch(rows);
        twin.begin_step(batch.batch());
        for (const float spread : {1.0f, 40.0f}) {  // 40: exp saturates on both sides
          twin.write(gate_up, rows, random_values(random, static_cast<size_t>(rows) * 2 * ffn, spread));
          twin.run([&](Backend& b, bool s) { b.swiglu(side(gate_up, s), side(out, s)); });
          twin.expect_same(out, rows, ffn, ffn, kTolerance, where + ", ffn " + std::to_string(ffn));
        }
      }
    }
  });
}

TEST(backend_contract_swiglu_at_the_ends_of_the_range) {
  for (const std::string& name : backend_names()) {
    Twin twin(name, "f32");
    if (!twin.good()) continue;
    twin.reserve_plain(1, 1);
    const std::vector<float> gates = {0.0f, -0.0f, 88.0f, -88.0f, 104.0f, -104.0f, 1e6f, -1e6f, 1e-30f};
    const uint32_t ffn = static_cast<uint32_t>(gates.size());
    const auto gate_up = twin.buffer(2 * ffn), out = twin.buffer(ffn);
    std::vector<float> values = gates;
    values.resize(2 * ffn, 0.5f);
    const PlainBatch batch(1);
    twin.begin_step(batch.batch());
    twin.write(gate_up, 1, values);
    twin.run([&](Backend& b, bool s) { b.swiglu(side(gate_up, s), side(out, s)); });
    const std::vector<float> got = twin.read(out.subject, 1, ffn);
    for (uint32_t i = 0; i < ffn; ++i) {
      const double gate = gates[i], want = 0.5 * gate / (1 + std::exp(-gate));
      EXPECT_MSG(std::abs(got[i] - want) <= 1e-6 * std::abs(want) + 1e-30,
                 name + ": gate " + show(gates[i]) + " gives " + show(got[i]));
    }
  }
}

TEST(backend_contract_logit_rows) {
  for_each_backend([&](Twin& twin, const std::string& where) {
    std::mt19937_64 random(seed());
    const uint32_t hidden = 70, vocabulary = 131;
    const OwnedTensor matrix(random, vocabulary, hidden, DType::kBF16, 0.3f),
        norm(random, hidden, 1, DType::kF32, 0.2f, 1.0f);
    const auto head = twin.linear(LinearSource{{matrix.view()}, {}, 1});
    const auto weight = twin.vector(norm.view());
    twin.reserve_plain(kRowsMax, 9);
    const auto x = twin.buffer(hidden), last = twin.buffer(hidden, true), normed = twin.buffer(hidden, true),
               logits = twin.buffer(vocabulary, true);
    for (const std::vector<uint32_t>& rows :
         {std::vector<uint32_t>{39}, {0}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {3, 17, 39}}) {
      const PlainBatch batch(kRowsMax, rows);
      const uint32_t count = static_cast<uint32_t>(rows.size());
      twin.begin_step(batch.batch());
      twin.write(x, kRowsMax, random_values(random, kRowsMax * hidden));
      twin.run([&](Backend& b, bool s) {
        b.gather_logit_rows(side(x, s), side(last, s));
        b.rmsnorm_rows(side(last, s), side(weight, s), 1e-6f, side(normed, s));
        b.linear_rows(side(normed, s), side(head, s), side(logits, s));
      });
      twin.expect_same(last, count, hidden, hidden, 0, where + ", gathered");
      twin.expect_same(normed, count, hidden, hidden, kTolerance, where + ", normed");
      twin.expect_same(logits, count, vocabulary, vocabulary, product_tolerance(twin), where + ", logits");
    }
  });
}

// The same row alone and at every place of larger batches: not a bit may differ.
TEST(backend_contract_a_row_does_not_see_its_neighbours) {
  for_each_backend([&](Twin& twin, const std::string& where) {
    std::mt19937_64 random(seed());
    const uint32_t in = 200, out = 90;
    const OwnedTensor matrix(random, 2 * out, in, DType::kBF16, 0.3f), norm(random, in, 1, DType::kF32, 0.2f, 1.0f);
    const auto weight = twin.linear(LinearSource{{matrix.view()}, {}, 4});
    const auto scale = twin.vector(norm.view());
    twin.reserve_plain(kRowsMax, 8);
    const auto x = twin.buffer(in), normed = twin.buffer(in), gate_up = twin.buffer(2 * out), y = twin.buffer(out);
    const auto run = [&](uint32_t rows, std::span<const float> values) {
      const PlainBatch batch(rows);
      twin.subject().begin_step(batch.batch());
      twin.subject().write_rows(x.subject, rows, values);
      twin.subject().rmsnorm(x.subject, scale.subject, 1e-6f, normed.subject);
      twin.subject().linear(normed.subject, weight.subject, gate_up.subject);
      twin.subject().swiglu(gate_up.subject, y.subject);
      return twin.read(y.subject, rows, out);
    };
    const std::vector<float> row = random_values(random, in);
    const std::vector<float> alone = run(1, row);
    for (const uint32_t rows : row_counts()) {
      std::vector<float> values = random_values(random, static_cast<size_t>(rows) * in, 5);
      const uint32_t place = static_cast<uint32_t>(random() % rows);
      std::copy(row.begin(), row.end(), values.begin() + place * in);
      const std::vector<float> together = run(rows, values);
      const bool same = std::equal(alone.begin(), alone.end(), together.begin() + place * out);
      EXPECT_MSG(same, where + ": row " + std::to_string(place) + " of " + std::to_string(rows));
    }
  });
}

TEST(backend_contract_bad_loads_are_refused) {
  std::mt19937_64 random(seed());
  const OwnedTensor a(random, 8, 16, DType::kF32, 1), b(random, 8, 12, DType::kF32, 1);
  for (const std::string& name : backend_names()) {
    auto backend = make_backend(name, "f32");
    REQUIRE_OK(backend);
    EXPECT(!(*backend)->load_linear(LinearSource{{a.view(), b.view()}, {}, 1}).ok());
    EXPECT(!make_backend(name, "f17").ok());
    const BackendInfo info = (*backend)->info();
    EXPECT(name.starts_with(info.name));
    EXPECT(!info.isa.empty());
    EXPECT_EQ(info.weight_type, std::string("f32"));
  }
}

}  // namespace
}  // namespace quern::test
