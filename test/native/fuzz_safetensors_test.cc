// Hostile weight files: a mutator over good ones, and the same entry as a libFuzzer target.
//
// The reader must refuse or accept, never touch memory outside the file (run it under the asan preset), and what it
// accepts must keep the format's promises. A failing run prints the seed: engine_tests --filter fuzz --seed N.
//
// The CMake target fuzz_safetensors compiles this file with QUERN_FUZZ_TARGET: with Clang over libFuzzer, with GCC over
// fuzz/driver.cc, which mutates blindly (no coverage to follow) but needs nothing that is not here.
#include <cstring>
#include <random>
#include <vector>

#include "safetensors_mutator.h"
#include "test.h"
#include "weights/safetensors.h"

namespace {

// Returns false when an accepted file breaks a promise.
bool check_one(const uint8_t* data, size_t size) {
  // An exact copy, so that the sanitizer sees the first byte behind the file.
  std::vector<std::byte> file(size);
  if (size > 0) std::memcpy(file.data(), data, size);
  auto entries = quern::read_safetensors("fuzz", file);
  if (!entries.ok()) return !entries.status().message().empty();
  size_t bytes = 0;
  for (const quern::SafetensorsEntry& entry : *entries) {
    if (!entry.data.empty() &&
        (entry.data.data() < file.data() || entry.data.data() + entry.data.size() > file.data() + size))
      return false;
    bytes += entry.data.size();
    volatile std::byte last{};
    if (!entry.data.empty()) last = entry.data.back();
    (void)last;
  }
  uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  return bytes + header + 8 == size;
}

}  // namespace

#if defined(QUERN_FUZZ_TARGET)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!check_one(data, size)) __builtin_trap();
  return 0;
}
#else

namespace quern {
namespace {

TEST(fuzz_safetensors_headers) {
  const std::string good = test::good_safetensors_file();
  REQUIRE(check_one(reinterpret_cast<const uint8_t*>(good.data()), good.size()));
  std::mt19937_64 random(test::seed());
  int accepted = 0, reasons = 0;
  constexpr int kRounds = 40000;
  std::string file = good;
  for (int round = 0; round < kRounds; ++round) {
    if (round % 8 == 0) file = good;
    file = round % 8 < 4 ? test::mutate_safetensors(std::move(file), random) : test::lying_safetensors_file(random);
    const bool kept = check_one(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    EXPECT_MSG(kept, "round " + std::to_string(round) + ", seed " + std::to_string(test::seed()));
    if (!kept) return;
    const auto entries = read_safetensors("fuzz", std::as_bytes(std::span(file.data(), file.size())));
    accepted += entries.ok();
    // Deep enough to argue about a tensor's numbers, not only about JSON.
    reasons += !entries.ok() && entries.status().message().starts_with("fuzz: tensor '");
  }
  // A mutator that breaks nothing, everything, or only the first byte tests nothing.
  EXPECT_LT(kRounds / 100, accepted);
  EXPECT_LT(accepted, kRounds / 2);
  EXPECT_LT(kRounds / 8, reasons);
}

}  // namespace
}  // namespace quern
#endif
