// Packed matrices: values against a naive product in double precision, and bits across batch, threads and slices.
#include "backend/cpu/packed_matrix.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "cpu_testing.h"
#include "test.h"

namespace quern::cpu {
namespace {

std::unique_ptr<ThreadPool> pool_of(uint32_t threads) {
  auto pool = ThreadPool::create(threads, {0, 1});
  return std::move(pool.value());
}

// y [tokens, rows] of the whole matrix on one thread, or dealt over the pool.
template <typename Rows>
std::vector<float> product(const PackedMatrix& m, const Kernels& kernels, const Rows& x, uint32_t tokens, ThreadPool& pool) {
  const size_t stride = size_t{m.strips()} * kStripRows;
  std::vector<float> padded(tokens * stride, 7.0f);
  std::vector<float> sums(size_t{kSumFloats} * pool.size());
  WorkShares shares(pool.size());
  shares.reset(m.strips(), kStripChunk);
  pool.run([&](uint32_t thread) {
    for (uint32_t begin = 0, end = 0; shares.next(thread, &begin, &end);) {
      m.multiply(kernels, x, {padded.data(), stride}, tokens, begin, end,
                 sums.data() + size_t{thread} * kSumFloats);
    }
  });
  std::vector<float> y(size_t{tokens} * m.rows());
  for (uint32_t t = 0; t < tokens; ++t) std::memcpy(&y[size_t{t} * m.rows()], &padded[t * stride], m.rows() * sizeof(float));
  return y;
}

std::vector<float> product(const PackedMatrix& m, const Kernels& kernels, const std::vector<float>& x, uint32_t tokens,
                           ThreadPool& pool) {
  return product(m, kernels, RowsIn{x.data(), m.cols()}, tokens, pool);
}

struct Shape {
  uint32_t rows, cols, k_slices;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {3, 7, 1}, {16, 32, 1}, {17, 33, 4}, {70, 130, 4}, {160, 1030, 1}, {48, 2000, 4}};
constexpr uint32_t kBatches[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 24, 97, 200};

}  // namespace

TEST(cpu_matrix_matches_double_precision) {
  auto pool = pool_of(1);
  for (const Shape& shape : kShapes) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const TestTensor w(random_floats(size_t{shape.rows} * shape.cols, test::seed()), shape.rows, shape.cols, dtype);
      const TestTensor bias(random_floats(shape.rows, test::seed() + 1), shape.rows, 1, DType::kF32);
      const WeightType type = dtype == DType::kF32 ? WeightType::kF32 : WeightType::kBF16;
      auto m = PackedMatrix::pack({{w.tensor}, {bias.tensor}, shape.k_slices}, type, *pool);
      REQUIRE_OK(m);
      const uint32_t tokens = 9;
      const std::vector<float> x = random_floats(size_t{tokens} * shape.cols, test::seed() + 2);
      for (const Kernels* kernels : all_kernels()) {
        const std::vector<float> y = product(*m, *kernels, x, tokens, *pool);
        double worst = 0;
        for (uint32_t t = 0; t < tokens; ++t) {
          for (uint32_t r = 0; r < shape.rows; ++r) {
            double sum = bias.values[r], size = std::abs(sum);
            for (uint32_t k = 0; k < shape.cols; ++k) {
              const double term = double{w.values[size_t{r} * shape.cols + k]} * x[size_t{t} * shape.cols + k];
              sum += term;
              size += std::abs(term);
            }
            worst = std::max(worst, std::abs(sum - y[size_t{t} * shape.rows + r]) / size);
          }
        }
        EXPECT_LE(worst, 2e-6);
      }
    }
  }
}

TEST(cpu_matrix_bits_do_not_depend_on_batch_or_threads) {
  auto one = pool_of(1);
  for (const Shape& shape : kShapes) {
    for (WeightType type : {WeightType::kF32, WeightType::kBF16}) {
      const TestTensor w(random_floats(size_t{shape.rows} * shape.cols, test::seed()), shape.rows, shape.cols, DType::kF32);
      auto m = PackedMatrix::pack({{w.tensor}, {}, shape.k_slices}, type, *one);
      REQUIRE_OK(m);
      for (const Kernels* kernels : all_kernels()) {
        const std::vector<float> x = random_floats(size_t{200} * shape.cols, test::seed() + 2);
        std::vector<float> rows_alone;
        for (uint32_t t = 0; t < 200; ++t) {
          const std::vector<float> row(x.begin() + t * shape.cols, x.begin() + (t + 1) * shape.cols);
          const std::vector<float> y = product(*m, *kernels, row, 1, *one);
          rows_alone.insert(rows_alone.end(), y.begin(), y.end());
        }
        for (uint32_t tokens : kBatches) {
          const std::vector<float> y = product(*m, *kernels, x, tokens, *one);
          EXPECT_MSG(same_bits(y.data(), rows_alone.data(), y.size()),
                     std::string(isa_name(kernels->isa)) + ", batch " + std::to_string(tokens) + ", rows " +
                         std::to_string(shape.rows) + ", cols " + std::to_string(shape.cols));
        }
        for (uint32_t threads : {2u, 3u}) {
          auto pool = pool_of(threads);
          EXPECT(same_bits(product(*m, *kernels, x, 200, *pool).data(), rows_alone.data(), rows_alone.size()));
        }
      }
    }
  }
}

// x of one row in bf16, as the backend rounds it, and as fp32 again.
struct Narrowed {
  Narrowed(const DotKernels& dot, const std::vector<float>& x, uint32_t tokens, uint32_t cols)
      : stride((size_t{cols} + kStripRows - 1) / kStripRows * kStripRows), bits(tokens * stride, 0x7fff), values(x) {
    for (uint32_t t = 0; t < tokens; ++t) {
      dot.narrow_row(x.data() + size_t{t} * cols, cols, bits.data() + t * stride);
      for (uint32_t k = 0; k < cols; ++k) values[size_t{t} * cols + k] = bf16_to_f32(bits[t * stride + k]);
    }
  }

  size_t stride;
  std::vector<uint16_t> bits;
  std::vector<float> values;
};

std::vector<const Kernels*> dot_kernels() {
  std::vector<const Kernels*> found = all_kernels();
  std::erase_if(found, [](const Kernels* kernels) { return kernels->dot == nullptr; });
  return found;
}

// Given inputs that are bf16 already, nothing is lost beyond the fp32 sums: the tolerance of the fp32 tiles holds.
TEST(cpu_matrix_dot_tiles_match_double_precision) {
  if (dot_kernels().empty()) SKIP("neither AVX-512 BF16 nor its emulation on this machine");
  auto pool = pool_of(1);
  for (const Shape& shape : kShapes) {
    const TestTensor w(random_floats(size_t{shape.rows} * shape.cols, test::seed()), shape.rows, shape.cols, DType::kBF16);
    const TestTensor bias(random_floats(shape.rows, test::seed() + 1), shape.rows, 1, DType::kF32);
    auto m = PackedMatrix::pack({{w.tensor}, {bias.tensor}, shape.k_slices}, WeightType::kBF16, *pool);
    REQUIRE_OK(m);
    for (const Kernels* kernels : dot_kernels()) {
      const uint32_t tokens = 200;
      const Narrowed x(*kernels->dot, random_floats(size_t{tokens} * shape.cols, test::seed() + 2), tokens, shape.cols);
      std::vector<float> alone;
      for (uint32_t t = 0; t < tokens; ++t) {
        const std::vector<float> y = product(*m, *kernels, NarrowRowsIn{x.bits.data() + t * x.stride, x.stride}, 1, *pool);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      double worst = 0;
      for (uint32_t t = 0; t < tokens; ++t) {
        for (uint32_t r = 0; r < shape.rows; ++r) {
          double sum = bias.values[r], size = std::abs(sum);
          for (uint32_t k = 0; k < shape.cols; ++k) {
            const double term = double{w.values[size_t{r} * shape.cols + k]} * x.values[size_t{t} * shape.cols + k];
            sum += term;
            size += std::abs(term);
          }
          worst = std::max(worst, std::abs(sum - alone[size_t{t} * shape.rows + r]) / size);
        }
      }
      EXPECT_LE(worst, 2e-6);
      for (uint32_t batch : kBatches) {
        const std::vector<float> y = product(*m, *kernels, NarrowRowsIn{x.bits.data(), x.stride}, batch, *pool);
        EXPECT_MSG(same_bits(y.data(), alone.data(), y.size()),
                   "batch " + std::to_string(batch) + ", rows " + std::to_string(shape.rows) + ", cols " + std::to_string(shape.cols));
      }
    }
  }
}

TEST(cpu_matrix_narrow_rows_round_to_the_nearest_bf16) {
  if (dot_kernels().empty()) SKIP("neither AVX-512 BF16 nor its emulation on this machine");
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> x = random_floats(37, test::seed(), 100.0f);
  // Ties go to even; the largest finite float overflows; denormals vanish.
  const std::vector<float> edges = {0.0f, -0.0f, 1.00390625f, 1.01171875f, -inf, inf, 3.4028235e38f, 1e-39f, -1e-39f};
  std::copy(edges.begin(), edges.end(), x.begin() + 20);
  for (const Kernels* kernels : dot_kernels()) {
    std::vector<uint16_t> bits(48 + 1, 0x1234);
    kernels->dot->narrow_row(x.data(), 37, bits.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const float expected = std::abs(x[i]) < 1.1754944e-38f ? std::copysign(0.0f, x[i]) : x[i];
      EXPECT_EQ(bits[i], f32_to_bf16(expected));
    }
    for (size_t i = 37; i < 48; ++i) EXPECT_EQ(bits[i], 0);
    EXPECT_EQ(bits[48], 0x1234);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    kernels->dot->narrow_row(&nan, 1, bits.data());
    EXPECT(std::isnan(bf16_to_f32(bits[0])));
  }
}

TEST(cpu_matrix_slices_are_summed_in_order) {
  auto pool = pool_of(1);
  const uint32_t rows = 20, cols = 256;
  const TestTensor w(random_floats(rows * cols, test::seed()), rows, cols, DType::kF32);
  const std::vector<float> x = random_floats(cols, test::seed() + 1);
  auto sliced = PackedMatrix::pack({{w.tensor}, {}, 4}, WeightType::kF32, *pool);
  REQUIRE_OK(sliced);
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> expected(rows, 0.0f);
    for (uint32_t slice = 0; slice < 4; ++slice) {
      std::vector<float> part(rows * 64);
      for (uint32_t r = 0; r < rows; ++r) std::memcpy(&part[r * 64], &w.values[r * cols + slice * 64], 64 * sizeof(float));
      const TestTensor columns(part, rows, 64, DType::kF32);
      auto m = PackedMatrix::pack({{columns.tensor}, {}, 1}, WeightType::kF32, *pool);
      REQUIRE_OK(m);
      const std::vector<float> y = product(*m, *kernels, {x.begin() + slice * 64, x.begin() + slice * 64 + 64}, 1, *pool);
      for (uint32_t r = 0; r < rows; ++r) expected[r] = slice == 0 ? y[r] : expected[r] + y[r];
    }
    EXPECT(same_bits(product(*sliced, *kernels, x, 1, *pool).data(), expected.data(), rows));
  }
}

TEST(cpu_matrix_stacks_parts_and_reads_rows) {
  auto pool = pool_of(2);
  const TestTensor a(random_floats(5 * 9, 1), 5, 9, DType::kBF16);
  const TestTensor b(random_floats(30 * 9, 2), 30, 9, DType::kF32);
  const TestTensor bias(random_floats(30, 3), 30, 1, DType::kBF16);
  auto m = PackedMatrix::pack({{a.tensor, b.tensor}, {std::nullopt, bias.tensor}, 1}, WeightType::kF32, *pool);
  REQUIRE_OK(m);
  EXPECT_EQ(m->rows(), 35u);
  std::vector<float> row(9);
  m->read_row(4, row.data());
  EXPECT(same_bits(row.data(), &a.values[4 * 9], 9));
  m->read_row(34, row.data());
  EXPECT(same_bits(row.data(), &b.values[29 * 9], 9));
  const std::vector<float> zero(9, 0.0f);
  const std::vector<float> y = product(*m, kPortableKernels, zero, 1, *pool);
  EXPECT_EQ(y[4], 0.0f);
  EXPECT_EQ(y[5], bias.values[0]);
  EXPECT_EQ(y[34], bias.values[29]);
}

TEST(cpu_matrix_rejects_bad_parts) {
  auto pool = pool_of(1);
  const TestTensor a(random_floats(6, 1), 2, 3, DType::kF32);
  const TestTensor b(random_floats(8, 1), 2, 4, DType::kF32);
  EXPECT_ERROR(PackedMatrix::pack({{}, {}, 1}, WeightType::kF32, *pool), "expected a part");
  EXPECT_ERROR(PackedMatrix::pack({{a.tensor, b.tensor}, {}, 1}, WeightType::kF32, *pool), "expected [> 0, 3]");
  EXPECT_ERROR(PackedMatrix::pack({{a.tensor}, {b.tensor}, 1}, WeightType::kF32, *pool), "expected 2");
}

}  // namespace quern::cpu
