// Mutants of safetensors files, for the test and for the driver that stands in for libFuzzer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <string>

#include "weights_sample.h"

namespace quern::test {

// A header that the reader accepts: three tensors in 30 bytes, metadata, an escaped name.
inline constexpr const char* kGoodHeader =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("b\u00e9":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"c":{"dtype":"I64","shape":[],"data_offsets":[22,30]}})";

inline std::string good_safetensors_file() { return safetensors_file(kGoodHeader, std::string(30, '\3')); }

// Pieces that mean something to the reader: numbers at borders, keys, brackets.
inline constexpr const char* kSafetensorsPieces[] = {
    "{", "}", "[", "]", ",", ":", "\"", "\\u0000", "\\ud800", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"F32\"",
    "\"BF16\"", "\"F8_E4M3\"", "__metadata__", "0", "1", "-1", "4294967296", "18446744073709551615", "18446744073709551616",
    "1e9", "null", "true", "[0,0]", "{}", " ", "\xFF", "\xED\xA0\x80",
};

// A file whose JSON is sound and whose numbers, types or names lie: one or two are replaced, or the data grows or shrinks. Blind
// edits almost never get that far.
inline std::string lying_safetensors_file(std::mt19937_64& random) {
  const auto pick = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  static constexpr const char* kNumbers[] = {"0", "1", "2", "3", "4", "8", "14", "15", "16", "17", "22", "29", "30", "31",
                                             "-1", "1e1", "1.5", "4294967296", "9223372036854775808", "18446744073709551615",
                                             "18446744073709551616", "4611686018427387904", "2,2", ""};
  static constexpr const char* kWords[] = {"F32", "F16", "BF16", "I64", "F8_E4M3", "BOOL", "X", "a", "c", "shape", "dtype",
                                           "data_offsets", "__metadata__", ""};
  std::string header = kGoodHeader;
  for (size_t edits = 1 + pick(2); edits > 0; --edits) {
    const bool number = pick(3) != 0;
    const char* wanted = number ? "0123456789" : "\"";
    size_t at = header.find_first_of(wanted, pick(header.size()));
    if (at == std::string::npos) at = header.find_first_of(wanted);
    if (number) {
      while (at > 0 && header[at - 1] >= '0' && header[at - 1] <= '9') --at;
      const size_t end = std::min(header.find_first_not_of("0123456789", at), header.size());
      header.replace(at, end - at, kNumbers[pick(std::size(kNumbers))]);
      continue;
    }
    const size_t end = header.find('"', at + 1);
    const std::string word = kWords[pick(std::size(kWords))];
    // Between two quotes there is a string, or what separates two strings: then this breaks the JSON after all.
    if (end != std::string::npos) header.replace(at + 1, end - at - 1, word);
  }
  const size_t data = pick(4) != 0 ? 30 : pick(48);
  return safetensors_file(header, std::string(data, '\3'));
}

// One to four edits anywhere. REQUIRES: file is not empty.
inline std::string mutate_safetensors(std::string file, std::mt19937_64& random) {
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
        file.insert(at, kSafetensorsPieces[pick(std::size(kSafetensorsPieces))]);
        break;
      case 4:
        file.erase(at, 1 + pick(12));
        break;
      case 5:
        file.insert(at, file.substr(pick(file.size()), 1 + pick(24)));
        break;
      default:
        file[pick(std::min<size_t>(8, file.size()))] = static_cast<char>(static_cast<uint8_t>(random()));
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

}  // namespace quern::test
