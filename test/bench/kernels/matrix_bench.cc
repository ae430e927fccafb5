// One thread's speed of PackedMatrix::multiply by shape and batch, in CPU time, so that it can be read on a busy machine.
//
//   g++ -std=c++20 -O3 -Iengine-native/src test/bench/kernels/matrix_bench.cc engine-native/build/libbackend_cpu.a -lpthread
//   ./a.out [isa] [bf16|f32]
//
// Weights rotate through 256 MB, so batch 1 reads memory and not the last-level cache.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cpu/packed_matrix.h"

namespace {

using namespace quern;
using namespace quern::cpu;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Shape {
  const char* name;
  uint32_t rows, cols, k_slices;
};

void bench_shape(const Shape& shape, const Kernels& kernels, WeightType type, ThreadPool& pool) {
  std::vector<std::byte> zeros(size_t{shape.rows} * shape.cols * 2);
  for (size_t i = 0; i < zeros.size() / 2; ++i) {
    const uint16_t bits = static_cast<uint16_t>(0x3c00 + i * 7919 % 511);
    std::memcpy(&zeros[2 * i], &bits, 2);
  }
  const HostTensor tensor{"w", DType::kBF16, shape.rows, shape.cols, zeros.data()};
  std::vector<PackedMatrix> matrices;
  const uint64_t bytes = uint64_t{shape.rows} * shape.cols * weight_size(type);
  for (uint64_t total = 0; total < (uint64_t{256} << 20); total += bytes) {
    matrices.push_back(std::move(PackedMatrix::pack({{tensor}, {}, shape.k_slices}, type, pool).value()));
  }
  constexpr uint32_t kMost = 512;
  const size_t y_stride = (shape.rows + 15) / 16 * 16;
  std::vector<float> x(size_t{kMost} * (shape.cols + 16), 0.5f), y(size_t{kMost} * y_stride), sums(kSumFloats);
  std::printf("%-8s %6u x %-5u", shape.name, shape.rows, shape.cols);
  for (uint32_t tokens : {1u, 2u, 4u, 8u, 16u, 64u, 128u, 512u}) {
    double best = 1e9;
    const uint32_t repeats = tokens <= 16 ? std::min<uint32_t>(40, static_cast<uint32_t>(2 * matrices.size())) : 3;
    for (uint32_t i = 0; i < repeats; ++i) {
      const PackedMatrix& m = matrices[i % matrices.size()];
      const double start = cpu_seconds();
      for (uint32_t s = 0; s < m.strips(); s += kStripChunk) {
        m.multiply(kernels, {x.data(), shape.cols + 16}, {y.data(), y_stride}, tokens, s, std::min(s + kStripChunk, m.strips()),
                   sums.data());
      }
      best = std::min(best, cpu_seconds() - start);
    }
    const double flops = 2.0 * shape.rows * shape.cols * tokens / best;
    if (tokens == 1) std::printf("  %5.1f GB/s", static_cast<double>(bytes) / best * 1e-9);
    std::printf("  %u:%5.1f", tokens, flops * 1e-9);
  }
  std::printf("  GFLOP/s\n");
}

}  // namespace

int main(int argc, char** argv) {
  const Isa isa = choose_isa(argc > 1 ? argv[1] : "auto").value();
  const WeightType type = argc > 2 && std::string(argv[2]) == "f32" ? WeightType::kF32 : WeightType::kBF16;
  auto pool = std::move(ThreadPool::create(1, {0}).value());
  for (const Shape& shape : {Shape{"qkv", 1152, 896, 1}, Shape{"o", 896, 896, 4}, Shape{"gate_up", 9728, 896, 1},
                             Shape{"down", 896, 4864, 4}, Shape{"1.5b", 8960, 1536, 1}}) {
    bench_shape(shape, kernels_for(isa), type, *pool);
  }
}
