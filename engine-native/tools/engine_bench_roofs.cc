#include "engine_bench_roofs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

namespace quern::bench {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 30;
constexpr uint64_t kReadChunk = uint64_t{1} << 20;
constexpr uint32_t kRounds = 50000;  // about 0.1 ms
constexpr uint32_t kRoundItems = 400;

[[maybe_unused]] typedef float Float4 __attribute__((vector_size(16)));
typedef uint64_t Word2 __attribute__((vector_size(16)));

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Sixteen bytes per load suffice: one core cannot take more than about a third of that per cycle from memory.
uint64_t read_all(const std::byte* p, uint64_t bytes) {
  const Word2* words = reinterpret_cast<const Word2*>(p);
  Word2 a = {}, b = {}, c = {}, d = {};
  for (uint64_t i = 0; i < bytes / sizeof(Word2); i += 8) {
    a ^= words[i] ^ words[i + 4];
    b ^= words[i + 1] ^ words[i + 5];
    c ^= words[i + 2] ^ words[i + 6];
    d ^= words[i + 3] ^ words[i + 7];
  }
  a ^= b ^ c ^ d;
  return a[0] ^ a[1];
}

// The same in four places at once with prefetch, as the matrix kernels read. Which of the two is faster depends on the
// machine and on who else reads; the roof is the better one.
uint64_t read_four_streams(const std::byte* p, uint64_t bytes) {
  constexpr uint64_t kAhead = 512;
  const uint64_t words = bytes / 4 / sizeof(Word2);
  const Word2* a = reinterpret_cast<const Word2*>(p);
  const Word2 *b = a + words, *c = b + words, *d = c + words;
  Word2 sums[4] = {};
  for (uint64_t i = 0; i < words; i += 4) {
    __builtin_prefetch(reinterpret_cast<const std::byte*>(a + i) + kAhead);
    __builtin_prefetch(reinterpret_cast<const std::byte*>(b + i) + kAhead);
    __builtin_prefetch(reinterpret_cast<const std::byte*>(c + i) + kAhead);
    __builtin_prefetch(reinterpret_cast<const std::byte*>(d + i) + kAhead);
    sums[0] ^= a[i] ^ a[i + 1] ^ a[i + 2] ^ a[i + 3];
    sums[1] ^= b[i] ^ b[i + 1] ^ b[i + 2] ^ b[i + 3];
    sums[2] ^= c[i] ^ c[i + 1] ^ c[i + 2] ^ c[i + 3];
    sums[3] ^= d[i] ^ d[i + 1] ^ d[i + 2] ^ d[i + 3];
  }
  sums[0] ^= sums[1] ^ sums[2] ^ sums[3];
  return sums[0][0] ^ sums[0][1];
}

// Each returns the operations of kRounds rounds of twelve independent sums. Assembly on x86, because the compiler would
// keep the sums in memory.
constexpr double kChains = 12;

#if defined(__x86_64__)
// One instruction on registers 0 to 11, inside a loop that counts %0 down.
#define QUERN_TWELVE(code, reg) \
  code reg "0\n\t" code reg "1\n\t" code reg "2\n\t" code reg "3\n\t" code reg "4\n\t" code reg "5\n\t" \
  code reg "6\n\t" code reg "7\n\t" code reg "8\n\t" code reg "9\n\t" code reg "10\n\t" code reg "11\n\t"
#define QUERN_REGISTERS                                                                                           \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15"
#define QUERN_ROUNDS(body)                                                                                        \
  uint32_t left = kRounds;                                                                                        \
  asm volatile("1:\n\t" body "decl %0\n\t jnz 1b"                                                                \
               : "+r"(left)                                                                                       \
               :                                                                                                  \
               : QUERN_REGISTERS, "cc")

// Registers are zeroed first: leftovers could be denormals or NaNs, which may be slower.
double portable_rounds() {
  asm volatile("pxor %%xmm14, %%xmm14\n\t pxor %%xmm15, %%xmm15\n\t" QUERN_TWELVE("movaps %%xmm14, ", "%%xmm")::
                   : QUERN_REGISTERS);
  QUERN_ROUNDS(QUERN_TWELVE("mulps %%xmm14, ", "%%xmm") QUERN_TWELVE("addps %%xmm15, ", "%%xmm"));
  return 2.0 * 4 * kChains * kRounds;
}

double avx2_rounds() {
  asm volatile("vzeroall" ::: QUERN_REGISTERS, "xmm12", "xmm13");
  QUERN_ROUNDS(QUERN_TWELVE("vfmadd231ps %%ymm14, %%ymm15, ", "%%ymm"));
  asm volatile("vzeroupper" ::: "memory");
  return 2.0 * 8 * kChains * kRounds;
}

double avx512_rounds() {
  asm volatile("vzeroall" ::: QUERN_REGISTERS, "xmm12", "xmm13");
  QUERN_ROUNDS(QUERN_TWELVE("vfmadd231ps %%zmm14, %%zmm15, ", "%%zmm"));
  asm volatile("vzeroupper" ::: "memory");
  return 2.0 * 16 * kChains * kRounds;
}

double avx512bf16_rounds() {
  asm volatile("vzeroall" ::: QUERN_REGISTERS, "xmm12", "xmm13");
  QUERN_ROUNDS(QUERN_TWELVE("vdpbf16ps %%zmm14, %%zmm15, ", "%%zmm"));
  asm volatile("vzeroupper" ::: "memory");
  return 2.0 * 32 * kChains * kRounds;
}
#undef QUERN_ROUNDS
#undef QUERN_REGISTERS
#undef QUERN_TWELVE
#else
double portable_rounds() {
  const Float4 factor = {1, 1, 1, 1}, term = {1e-9f, 1e-9f, 1e-9f, 1e-9f};
  Float4 a = {}, b = {}, c = {}, d = {}, e = {}, f = {};
  Float4 g = {}, h = {}, i = {}, j = {}, k = {}, l = {};
  for (uint32_t round = 0; round < kRounds; ++round) {
    a = a * factor + term, b = b * factor + term, c = c * factor + term, d = d * factor + term;
    e = e * factor + term, f = f * factor + term, g = g * factor + term, h = h * factor + term;
    i = i * factor + term, j = j * factor + term, k = k * factor + term, l = l * factor + term;
    asm volatile("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f), "+w"(g), "+w"(h), "+w"(i), "+w"(j), "+w"(k), "+w"(l));
  }
  return 2.0 * 4 * kChains * kRounds;
}
#endif

double rounds(cpu::Isa isa) {
#if defined(__x86_64__)
  if (isa == cpu::Isa::kAvx512Bf16) return avx512bf16_rounds();
  if (isa == cpu::Isa::kAvx512) return avx512_rounds();
  if (isa == cpu::Isa::kAvx2) return avx2_rounds();
#endif
  static_cast<void>(isa);
  return portable_rounds();
}

}  // namespace

Roofs::Roofs(cpu::ThreadPool& pool, cpu::MappedMemory memory)
    : pool_(&pool), shares_(std::make_unique<cpu::WorkShares>(pool.size())), memory_(std::move(memory)) {}

Result<Roofs> Roofs::create(cpu::ThreadPool& pool) {
  Result<cpu::MappedMemory> memory = cpu::MappedMemory::allocate(kReadBytes, "the bandwidth probe");
  if (!memory.ok()) return memory.status();
  constexpr uint32_t kChunks = kReadBytes / kReadChunk;
  pool.run([&](uint32_t thread) {
    const uint64_t begin = cpu::WorkShares::share_begin(kChunks, 1, thread, pool.size()) * kReadChunk;
    const uint64_t end = cpu::WorkShares::share_begin(kChunks, 1, thread + 1, pool.size()) * kReadChunk;
    std::memset(memory->as<std::byte>() + begin, 1, end - begin);
  });
  return Roofs(pool, std::move(*memory));
}

double Roofs::read_bandwidth() {
  double best = 0;
  for (auto* read : {read_all, read_four_streams}) {
    std::atomic<uint64_t> sum{0};
    shares_->reset(kReadBytes / kReadChunk, 1);
    const auto start = std::chrono::steady_clock::now();
    pool_->run([&](uint32_t thread) {
      for (uint32_t item = 0, end = 0; shares_->next(thread, &item, &end);) {
        sum ^= read(memory_.as<std::byte>() + item * kReadChunk, kReadChunk);
      }
    });
    best = std::max(best, static_cast<double>(kReadBytes) / seconds_since(start));
  }
  return best;
}

double Roofs::multiply_add_rate(cpu::Isa isa) {
  std::atomic<uint64_t> operations{0};
  shares_->reset(kRoundItems, 1);
  const auto start = std::chrono::steady_clock::now();
  pool_->run([&](uint32_t thread) {
    double own = 0;
    for (uint32_t item = 0, end = 0; shares_->next(thread, &item, &end);) own += rounds(isa);
    operations += static_cast<uint64_t>(own);
  });
  return static_cast<double>(operations.load()) / seconds_since(start);
}

}  // namespace quern::bench
