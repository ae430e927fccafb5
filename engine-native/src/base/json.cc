#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace quern {
namespace {

constexpr size_t kExcerptBytesMax = 60;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Length of the UTF-8 sequence at p (left bytes remain), or 0 if it is not valid (RFC 3629).
size_t utf8_length(const char* p, size_t left) {
  const auto at = [p](size_t i) { return static_cast<uint8_t>(p[i]); };
  const auto tail = [&](size_t i) { return (at(i) & 0xC0) == 0x80; };
  const uint8_t c = at(0);
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return left >= 2 && tail(1) ? 2 : 0;
  if ((c & 0xF0) == 0xE0) {
    if (left < 3 || !tail(1) || !tail(2)) return 0;
    if (c == 0xE0 && at(1) < 0xA0) return 0;  // overlong
    if (c == 0xED && at(1) > 0x9F) return 0;  // surrogate
    return 3;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    if (left < 4 || !tail(1) || !tail(2) || !tail(3)) return 0;
    if (c == 0xF0 && at(1) < 0x90) return 0;
    if (c == 0xF4 && at(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

size_t put_utf8(uint32_t code, char* out) {
  const auto put = [out](size_t i, uint32_t byte) { out[i] = static_cast<char>(static_cast<uint8_t>(byte)); };
  if (code < 0x80) return put(0, code), 1;
  if (code < 0x800) return put(0, 0xC0 | (code >> 6)), put(1, 0x80 | (code & 63)), 2;
  if (code < 0x10000) {
    put(0, 0xE0 | (code >> 12)), put(1, 0x80 | ((code >> 6) & 63)), put(2, 0x80 | (code & 63));
    return 3;
  }
  put(0, 0xF0 | (code >> 18)), put(1, 0x80 | ((code >> 12) & 63));
  put(2, 0x80 | ((code >> 6) & 63)), put(3, 0x80 | (code & 63));
  return 4;
}

}  // namespace

// Recursive descent over a copy of the text; strings are decoded in place (the write position never passes the read
// position). The first error wins and stops everything.
class JsonParser {
 public:
  JsonParser(JsonDocument& document, std::string_view text, const JsonLimits& limits)
      : text_(document.text_), nodes_(document.nodes_), limits_(limits) {
    text_ = text;
  }

  Status run() {
    skip_space();
    value(0, 0, 0);
    skip_space();
    if (error_ == nullptr && position_ != text_.size()) fail("expected the end of the text");
    if (error_ == nullptr) return Status();
    return invalid_argument("JSON, byte " + std::to_string(position_) + ": " + error_);
  }

 private:
  using Node = JsonDocument::Node;

  bool fail(const char* message) {
    if (error_ == nullptr) error_ = message;
    return false;
  }
  bool at_end() const { return position_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  bool take(char c) {
    if (at_end() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void skip_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t')) ++position_;
  }

  bool value(uint32_t depth, uint32_t key_begin, uint32_t key_size) {
    if (depth >= limits_.depth_max) return fail("nested too deep");
    if (nodes_.size() >= limits_.values_max) return fail("too many values");
    const size_t index = nodes_.size();
    Node node;
    node.key_begin = key_begin, node.key_size = key_size;
    node.begin = static_cast<uint32_t>(position_);
    nodes_.push_back(node);
    bool good = false;
    switch (peek()) {
      case '{':
        good = object(index, depth);
        break;
      case '[':
        good = array(index, depth);
        break;
      case '"': {
        nodes_[index].kind = JsonKind::kString;
        return string(nodes_[index].begin, nodes_[index].size);
      }
      case 't':
        good = word("true", index, JsonKind::kBool, true);
        break;
      case 'f':
        good = word("false", index, JsonKind::kBool, false);
        break;
      case 'n':
        good = word("null", index, JsonKind::kNull, false);
        break;
      default:
        good = number(index);
        break;
    }
    nodes_[index].size = static_cast<uint32_t>(position_ - nodes_[index].begin);
    return good;
  }

  bool word(std::string_view expected, size_t index, JsonKind kind, bool truth) {
    if (text_.compare(position_, expected.size(), expected) != 0) return fail("expected true, false or null");
    position_ += expected.size();
    nodes_[index].kind = kind, nodes_[index].truth = truth;
    return true;
  }

  bool digits() {
    if (!is_digit(peek())) return fail("expected a JSON value");
    while (is_digit(peek())) ++position_;
    return true;
  }

  bool number(size_t index) {
    nodes_[index].kind = JsonKind::kNumber;
    take('-');
    if (take('0')) {
      if (is_digit(peek())) return fail("a number may not start with 0");
    } else if (!digits()) {
      return false;
    }
    if (take('.') && !digits()) return false;
    if (peek() == 'e' || peek() == 'E') {
      ++position_;
      if (!take('+')) take('-');
      if (!digits()) return false;
    }
    return true;
  }

  bool hex4(uint32_t& code) {
    code = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      const char c = peek();
      uint32_t digit = 0;
      if (is_digit(c)) {
        digit = static_cast<uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<uint32_t>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<uint32_t>(c - 'A' + 10);
      } else {
        return fail("expected four hex digits after \\u");
      }
      code = code * 16 + digit;
    }
    return true;
  }

  // The text after a backslash, written at `out`.
  bool escape(size_t& out) {
    const char c = peek();
    ++position_;
    static constexpr std::string_view kNames = "\"\\/bfnrt", kBytes = "\"\\/\b\f\n\r\t";
    if (c != '\0') {
      if (const size_t found = kNames.find(c); found != std::string_view::npos) {
        text_[out++] = kBytes[found];
        return true;
      }
    }
    if (c != 'u') return fail("unknown escape in a string");
    uint32_t code = 0;
    if (!hex4(code)) return false;
    if (code >= 0xDC00 && code <= 0xDFFF) return fail("a low surrogate without its high one");
    if (code >= 0xD800 && code <= 0xDBFF) {
      uint32_t low = 0;
      if (!take('\\') || !take('u')) return fail("a high surrogate without its low one");
      if (!hex4(low)) return false;
      if (low < 0xDC00 || low > 0xDFFF) return fail("a high surrogate without its low one");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    out += put_utf8(code, &text_[out]);
    return true;
  }

  bool string(uint32_t& begin, uint32_t& size) {
    if (!take('"')) return fail("expected a string");
    begin = static_cast<uint32_t>(position_);
    size_t out = position_;
    while (true) {
      if (at_end()) return fail("a string has no end");
      const char c = text_[position_];
      if (c == '"') {
        ++position_;
        size = static_cast<uint32_t>(out - begin);
        return true;
      }
      if (c == '\\') {
        ++position_;
        if (at_end()) return fail("a string has no end");
        if (!escape(out)) return false;
        continue;
      }
      if (static_cast<uint8_t>(c) < 0x20) return fail("a control byte inside a string");
      const size_t length = utf8_length(&text_[position_], text_.size() - position_);
      if (length == 0) return fail("not valid UTF-8");
      if (out != position_) std::memmove(&text_[out], &text_[position_], length);
      out += length, position_ += length;
    }
  }

  bool array(size_t index, uint32_t depth) {
    nodes_[index].kind = JsonKind::kArray;
    ++position_;
    skip_space();
    if (take(']')) return true;
    size_t previous = 0;
    while (true) {
      skip_space();
      link(index, previous);
      if (!value(depth + 1, 0, 0)) return false;
      skip_space();
      if (take(']')) return true;
      if (!take(',')) return fail("expected , or ] in an array");
    }
  }

  bool object(size_t index, uint32_t depth) {
    nodes_[index].kind = JsonKind::kObject;
    ++position_;
    skip_space();
    if (take('}')) return true;
    size_t previous = 0;
    while (true) {
      skip_space();
      uint32_t key_begin = 0, key_size = 0;
      if (!string(key_begin, key_size)) return false;
      skip_space();
      if (!take(':')) return fail("expected : after a key");
      skip_space();
      link(index, previous);
      if (!value(depth + 1, key_begin, key_size)) return false;
      skip_space();
      if (take('}')) return unique_keys(index);
      if (!take(',')) return fail("expected , or } in an object");
    }
  }

  // The next node to be pushed becomes the last child of `parent`.
  void link(size_t parent, size_t& previous) {
    if (previous != 0) nodes_[previous].next = static_cast<uint32_t>(nodes_.size());
    previous = nodes_.size();
    ++nodes_[parent].children;
  }

  bool unique_keys(size_t index) {
    std::vector<std::string_view> keys;
    keys.reserve(nodes_[index].children);
    for (size_t child = index + 1; child != 0; child = nodes_[child].next)
      keys.emplace_back(&text_[nodes_[child].key_begin], nodes_[child].key_size);
    std::sort(keys.begin(), keys.end());
    return std::adjacent_find(keys.begin(), keys.end()) == keys.end() || fail("a key stands twice in one object");
  }

  std::string& text_;
  std::vector<Node>& nodes_;
  const JsonLimits& limits_;
  size_t position_ = 0;
  const char* error_ = nullptr;
};

JsonKind JsonValue::kind() const { return document_->nodes_[index_].kind; }

std::optional<bool> JsonValue::as_bool() const {
  if (kind() != JsonKind::kBool) return std::nullopt;
  return document_->nodes_[index_].truth;
}

std::optional<uint64_t> JsonValue::as_u64() const {
  if (kind() != JsonKind::kNumber) return std::nullopt;
  const auto& node = document_->nodes_[index_];
  const char* begin = document_->text_.data() + node.begin;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(begin, begin + node.size, value);
  if (error != std::errc() || end != begin + node.size) return std::nullopt;
  return value;
}

std::optional<double> JsonValue::as_double() const {
  if (kind() != JsonKind::kNumber) return std::nullopt;
  const auto& node = document_->nodes_[index_];
  const char* begin = document_->text_.data() + node.begin;
  double value = 0;
  const auto [end, error] = std::from_chars(begin, begin + node.size, value);
  if (error != std::errc() || end != begin + node.size || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::string_view> JsonValue::as_string() const {
  if (kind() != JsonKind::kString) return std::nullopt;
  const auto& node = document_->nodes_[index_];
  return std::string_view(document_->text_).substr(node.begin, node.size);
}

size_t JsonValue::size() const { return document_->nodes_[index_].children; }

std::optional<JsonValue> JsonValue::find(std::string_view wanted) const {
  if (!is_object()) return std::nullopt;
  for (auto child = first(); child; child = child->next())
    if (child->key() == wanted) return child;
  return std::nullopt;
}

std::string_view JsonValue::key() const {
  const auto& node = document_->nodes_[index_];
  return std::string_view(document_->text_).substr(node.key_begin, node.key_size);
}

std::optional<JsonValue> JsonValue::first() const {
  if (size() == 0) return std::nullopt;
  return JsonValue(document_, index_ + 1);
}

std::optional<JsonValue> JsonValue::next() const {
  const uint32_t next = document_->nodes_[index_].next;
  if (next == 0) return std::nullopt;
  return JsonValue(document_, next);
}

std::string JsonValue::excerpt() const {
  const auto& node = document_->nodes_[index_];
  if (is_object()) return "an object";
  if (is_array()) return "an array of " + std::to_string(node.children);
  std::string text = document_->text_.substr(node.begin, std::min<size_t>(node.size, kExcerptBytesMax));
  if (node.size > kExcerptBytesMax) text += "...";
  return kind() == JsonKind::kString ? "\"" + text + "\"" : text;
}

Result<std::unique_ptr<const JsonDocument>> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max)
    return invalid_argument("JSON: expected at most " + std::to_string(limits.bytes_max) + " bytes, got " +
                            std::to_string(text.size()));
  auto document = std::make_unique<JsonDocument>();
  JsonParser parser(*document, text, limits);
  QUERN_RETURN_IF_ERROR(parser.run());
  return std::unique_ptr<const JsonDocument>(std::move(document));
}

}  // namespace quern
