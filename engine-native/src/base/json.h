// A bounded reader of JSON for model headers: strict RFC 8259, no writing, no extensions.
//
// parse_json() checks the whole text (grammar, UTF-8, depth, number of values, no duplicate keys) and keeps one flat
// array of values. A JsonValue is a cheap handle into its document; the document must outlive it. The text is copied.
//
// Thread safety: immutable after parsing. Errors name the byte where reading stopped.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "base/status.h"

namespace quern {

enum class JsonKind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

struct JsonLimits {
  size_t bytes_max = limits::kConfigBytesMax;
  uint32_t depth_max = limits::kJsonDepthMax;
  uint32_t values_max = limits::kJsonValuesMax;
};

class JsonDocument;

class JsonValue {
 public:
  JsonKind kind() const;
  bool is_null() const { return kind() == JsonKind::kNull; }
  bool is_object() const { return kind() == JsonKind::kObject; }
  bool is_array() const { return kind() == JsonKind::kArray; }

  std::optional<bool> as_bool() const;
  // A number written as digits only and below 2^64; 1e3 and 1.0 are not integers here.
  std::optional<uint64_t> as_u64() const;
  std::optional<double> as_double() const;  // finite
  std::optional<std::string_view> as_string() const;

  // Number of elements or members; 0 for scalars.
  size_t size() const;
  // The member of an object; nothing if absent or not an object. Linear in the number of members.
  std::optional<JsonValue> find(std::string_view key) const;
  // The key under which this value stands in its object, else empty.
  std::string_view key() const;
  // Children in order: for (auto child = value.first(); child; child = child->next()).
  std::optional<JsonValue> first() const;
  std::optional<JsonValue> next() const;
  // The text as written, cut at 60 bytes: for messages.
  std::string excerpt() const;

 private:
  friend class JsonDocument;
  JsonValue(const JsonDocument* document, uint32_t index) : document_(document), index_(index) {}
  const JsonDocument* document_;
  uint32_t index_;
};

class JsonDocument {
 public:
  JsonValue root() const { return JsonValue(this, 0); }

 private:
  friend class JsonValue;
  friend class JsonParser;
  // Spans of text_; strings with escapes are decoded in place, which never makes them longer.
  struct Node {
    JsonKind kind = JsonKind::kNull;
    bool truth = false;
    uint32_t key_begin = 0, key_size = 0;
    uint32_t begin = 0, size = 0;     // string: decoded text; else as written
    uint32_t children = 0, next = 0;  // next 0 = last child; the first child of node i is i + 1
  };
  std::string text_;
  std::vector<Node> nodes_;
};

// The document lives on the heap so that its values' handles survive moves.
Result<std::unique_ptr<const JsonDocument>> parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace quern
