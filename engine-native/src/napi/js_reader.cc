#include "napi/js_reader.h"

#include <cmath>

namespace quern {

void JsReader::refuse(const char* name, const char* expected) {
  if (!mistake_.empty()) return;
  mistake_ = std::string(path_) + "." + name + ": expected " + expected + " or null";
}

Napi::Value JsReader::field(const char* name) {
  const Napi::Value value = object_.Get(name);
  if (value.IsEmpty() || value.IsUndefined()) {
    refuse(name, "a value (absent is null, not undefined)");
    return object_.Env().Null();
  }
  return value;
}

std::optional<uint64_t> JsReader::integer(const char* name, uint64_t max) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return std::nullopt;
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t wide = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless && wide <= max) return wide;
  } else if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number >= 0 && number <= 9007199254740991.0 && std::floor(number) == number && static_cast<uint64_t>(number) <= max) {
      return static_cast<uint64_t>(number);
    }
  }
  refuse(name, ("an integer 0.." + std::to_string(max)).c_str());
  return std::nullopt;
}

std::optional<int32_t> JsReader::signed_integer(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return std::nullopt;
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number >= INT32_MIN && number <= INT32_MAX && std::floor(number) == number) return static_cast<int32_t>(number);
  }
  refuse(name, "a 32-bit integer");
  return std::nullopt;
}

std::optional<double> JsReader::number(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return std::nullopt;
  if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
  refuse(name, "a number");
  return std::nullopt;
}

std::optional<bool> JsReader::boolean(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return std::nullopt;
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  refuse(name, "a boolean");
  return std::nullopt;
}

std::optional<std::string> JsReader::text(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return std::nullopt;
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  refuse(name, "a string");
  return std::nullopt;
}

std::vector<uint32_t> JsReader::ids(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return {};
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array) {
    const auto array = value.As<Napi::Uint32Array>();
    return {array.Data(), array.Data() + array.ElementLength()};
  }
  refuse(name, "a Uint32Array");
  return {};
}

std::vector<float> JsReader::floats(const char* name) {
  const Napi::Value value = field(name);
  if (value.IsNull()) return {};
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array) {
    const auto array = value.As<Napi::Float32Array>();
    return {array.Data(), array.Data() + array.ElementLength()};
  }
  refuse(name, "a Float32Array");
  return {};
}

}  // namespace quern
