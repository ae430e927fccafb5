// The safetensors format (https://github.com/huggingface/safetensors#format): u64 header length, JSON header, data.
//
// Files are hostile: every offset is checked before it is used, and a file that breaks any rule of the format is
// refused whole. Fuzzed by test/native/fuzz_safetensors_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace quern {

// One tensor as the header describes it. `data` points into the bytes given to the reader and may be unaligned.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;            // as written: F32, BF16, ...; one of the format's known names
  std::vector<uint64_t> shape;  // row-major, may be empty (a scalar)
  std::span<const std::byte> data;
};

// Reads the header of a whole file. Entries come in the order of their data. Checks: header length within the file and
// 100 MB; JSON object; known dtypes; size = product of the shape without overflow; ranges tile the data with neither
// hole nor overlap. `path` is for messages only.
Result<std::vector<SafetensorsEntry>> read_safetensors(const std::string& path, std::span<const std::byte> file);

}  // namespace quern
