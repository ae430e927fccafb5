// Hostile weight files: a mutator over good ones, and the same entry as a libFuzzer target.
//
// The reader must refuse or accept, never touch memory outside the file (run it under the asan preset), and what it
// accepts must keep the format's promises. A failing run prints the seed: engine_tests --filter fuzz --seed N. With
// clang: -fsanitize=fuzzer over this file with QUERN_FUZZ_TARGET defined.
#include <cstring>
#include <random>
#include <vector>

#include "test.h"
#include "weights/safetensors.h"
#include "weights_sample.h"

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

// Pieces that mean something to the reader: numbers at borders, keys, brackets.
constexpr const char* kPieces[] = {"{",
                                   "}",
                                   "[",
                                   "]",
                                   ",",
                                   ":",
                                   "\"",
                                   "\\u0000",
                                   "\\ud800",
                                   "\"dtype\"",
                                   "\"shape\"",
                                   "\"data_offsets\"",
                                   "\"F32\"",
                                   "\"BF16\"",
                                   "\"F8_E4M3\"",
                                   "__metadata__",
                                   "0",
                                   "1",
                                   "-1",
                                   "4294967296",
                                   "18446744073709551615",
                                   "18446744073709551616",
                                   "1e9",
                                   "null",
                                   "true",
                                   "[0,0]",
                                   "{}",
                                   " ",
                                   "\xFF",
                                   "\xED\xA0\x80"};

std::string mutate(std::string file, std::mt19937_64& random) {
  const auto pick = [&](size_t bound) { return static_cast<size_t>(random() % (bound == 0 ? 1 : bound)); };
  const size_t edits = 1 + pick(4);
  for (size_t i = 0; i < edits; ++i) {
    const size_t at = pick(file.size());
    switch (pick(7)) {
      case 0:
        file[at] = static_cast<char>(static_cast<uint8_t>(random()));
        break;
      case 1:
        file[at] = static_cast<char>(file[at] ^ (1 << pick(8)));
        break;
      case 2:
        file.resize(at + 1);
        break;
      case 3:
        file.insert(at, kPieces[pick(std::size(kPieces))]);
        break;
      case 4:
        file.erase(at, 1 + pick(12));
        break;
      case 5:
        file.insert(at, file.substr(pick(file.size()), 1 + pick(24)));
        break;
      default:
        file[pick(8)] = static_cast<char>(static_cast<uint8_t>(random()));
        break;
    }
    if (file.empty()) file = "x";
  }
  // Mostly keep the length true, or few mutants would reach the JSON.
  if (file.size() >= 8 && pick(4) != 0) {
    const uint64_t length = file.rfind('}') == std::string::npos || file.rfind('}') < 8 ? 0 : file.rfind('}') - 7;
    std::memcpy(file.data(), &length, 8);
  }
  return file;
}

TEST(fuzz_safetensors_headers) {
  const std::string good = test::safetensors_file(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b\u00e9":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"c":{"dtype":"I64","shape":[],"data_offsets":[22,30]}})",
      std::string(30, '\3'));
  REQUIRE(check_one(reinterpret_cast<const uint8_t*>(good.data()), good.size()));
  std::mt19937_64 random(test::seed());
  uint64_t accepted = 0;
  constexpr int kRounds = 40000;
  std::string file = good;
  for (int round = 0; round < kRounds; ++round) {
    if (round % 8 == 0) file = good;
    file = mutate(std::move(file), random);
    const bool kept = check_one(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    EXPECT_MSG(kept, "round " + std::to_string(round) + ", seed " + std::to_string(test::seed()));
    if (!kept) return;
    accepted += read_safetensors("fuzz", std::as_bytes(std::span(file.data(), file.size()))).ok();
  }
  EXPECT_LT(accepted, static_cast<uint64_t>(kRounds));  // a mutator that changes nothing tests nothing
}

}  // namespace
}  // namespace quern
#endif
