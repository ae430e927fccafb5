// Strict reading of a plain JavaScript object: every field must be there, absent is null and never undefined, and the
// first mistake is kept with its path ("options.threads: expected an integer 0..4294967295 or null").
//
// Thread safety: main thread of its environment only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "napi/napi_env.h"

namespace quern {

class JsReader {
 public:
  JsReader(Napi::Object object, const char* path) : object_(object), path_(path) {}

  std::optional<uint64_t> integer(const char* name, uint64_t max);  // a number or BigInt, or null
  std::optional<int32_t> signed_integer(const char* name);
  std::optional<double> number(const char* name);
  std::optional<bool> boolean(const char* name);
  std::optional<std::string> text(const char* name);
  // A Uint32Array or null.
  std::vector<uint32_t> ids(const char* name);
  // A Float32Array or null.
  std::vector<float> floats(const char* name);

  uint32_t u32(const char* name, uint32_t fallback = 0) {
    return static_cast<uint32_t>(integer(name, UINT32_MAX).value_or(fallback));
  }
  float f32(const char* name, float fallback) { return static_cast<float>(number(name).value_or(static_cast<double>(fallback))); }

  // Empty while all went well.
  const std::string& mistake() const { return mistake_; }

 private:
  Napi::Value field(const char* name);
  void refuse(const char* name, const char* expected);

  Napi::Object object_;
  const char* path_;
  std::string mistake_;
};

}  // namespace quern
