// Safetensors files in memory, for tests.
#pragma once

#include <cstdint>
#include <string>

namespace quern::test {

// Length, header, data: as given, checked by nobody.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(static_cast<uint8_t>(header.size() >> (8 * i)));
  return file + header + data;
}

}  // namespace quern::test
