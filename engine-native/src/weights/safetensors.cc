#include "weights/safetensors.h"

#include <algorithm>
#include <string_view>

#include "base/json.h"
#include "base/limits.h"

namespace quern {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kDimensionsMax = 8;

struct KnownType {
  std::string_view name;
  uint64_t size;
};
constexpr KnownType kKnownTypes[] = {
    {"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I16", 2}, {"U16", 2},
    {"F16", 2},  {"BF16", 2}, {"I32", 4}, {"U32", 4},     {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8},
};

uint64_t type_size(std::string_view name) {
  for (const KnownType& type : kKnownTypes)
    if (type.name == name) return type.size;
  return 0;
}

uint64_t read_u64_le(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// What one header entry says, with its range still as numbers.
struct Range {
  SafetensorsEntry entry;
  uint64_t begin = 0, end = 0;
};

class HeaderReader {
 public:
  HeaderReader(const std::string& path, std::span<const std::byte> data) : path_(path), data_(data) {}

  Result<std::vector<SafetensorsEntry>> read(JsonValue header) {
    std::vector<Range> ranges;
    ranges.reserve(header.size());
    for (auto member = header.first(); member; member = member->next()) {
      if (member->key() == "__metadata__") {
        QUERN_RETURN_IF_ERROR(check_metadata(*member));
        continue;
      }
      Range range;
      QUERN_RETURN_IF_ERROR(read_entry(*member, range));
      ranges.push_back(std::move(range));
    }
    return tile(std::move(ranges));
  }

 private:
  Status bad(std::string_view tensor, std::string what) const {
    return data_loss(path_ + ": tensor '" + std::string(tensor.substr(0, 80)) + "': " + std::move(what));
  }

  Status check_metadata(JsonValue metadata) const {
    if (!metadata.is_object()) return data_loss(path_ + ": __metadata__: expected an object of strings");
    for (auto member = metadata.first(); member; member = member->next())
      if (member->kind() != JsonKind::kString)
        return data_loss(path_ + ": __metadata__: expected strings only, got " + member->excerpt());
    return Status();
  }

  Status read_entry(JsonValue value, Range& range) const {
    const std::string_view name = value.key();
    if (name.empty() || name.size() > limits::kTensorNameBytesMax)
      return bad(name, "expected a name of 1 to " + std::to_string(limits::kTensorNameBytesMax) + " bytes");
    if (!value.is_object()) return bad(name, "expected an object, got " + value.excerpt());
    for (auto member = value.first(); member; member = member->next())
      if (member->key() != "dtype" && member->key() != "shape" && member->key() != "data_offsets")
        return bad(name, "unknown key '" + std::string(member->key().substr(0, 80)) + "'");
    range.entry.name = name;
    QUERN_RETURN_IF_ERROR(read_type_and_shape(value, range));
    return read_offsets(value, range);
  }

  // Leaves the byte size in range.end.
  Status read_type_and_shape(JsonValue value, Range& range) const {
    const std::string_view name = value.key();
    const auto dtype = value.find("dtype");
    if (!dtype || !dtype->as_string()) return bad(name, "expected a string 'dtype'");
    range.entry.dtype = *dtype->as_string();
    uint64_t bytes = type_size(range.entry.dtype);
    if (bytes == 0) return bad(name, "unknown dtype " + dtype->excerpt());
    const auto shape = value.find("shape");
    if (!shape || !shape->is_array()) return bad(name, "expected an array 'shape'");
    if (shape->size() > kDimensionsMax) return bad(name, "more than 8 dimensions");
    for (auto item = shape->first(); item; item = item->next()) {
      const auto count = item->as_u64();
      if (!count) return bad(name, "expected whole numbers in 'shape', got " + item->excerpt());
      if (__builtin_mul_overflow(bytes, *count, &bytes)) return bad(name, "its size overflows 64 bits");
      range.entry.shape.push_back(*count);
    }
    range.end = bytes;
    return Status();
  }

  static bool read_pair(const std::optional<JsonValue>& array, uint64_t& first, uint64_t& second) {
    if (!array || !array->is_array() || array->size() != 2) return false;
    const auto a = array->first();
    const auto b = a->next();
    if (!a->as_u64() || !b->as_u64()) return false;
    first = a->as_u64().value_or(0), second = b->as_u64().value_or(0);
    return true;
  }

  Status read_offsets(JsonValue value, Range& range) const {
    const std::string_view name = value.key();
    uint64_t begin = 0, end = 0;
    if (!read_pair(value.find("data_offsets"), begin, end))
      return bad(name, "expected 'data_offsets' of two whole numbers");
    if (begin > end || end > data_.size())
      return bad(name, "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "] leave the file's " +
                           std::to_string(data_.size()) + " data bytes");
    if (end - begin != range.end)
      return bad(name, "dtype and shape need " + std::to_string(range.end) + " bytes, data_offsets give " +
                           std::to_string(end - begin));
    range.begin = begin, range.end = end;
    return Status();
  }

  // Sorted, the ranges must follow one another from the first byte to the last.
  Result<std::vector<SafetensorsEntry>> tile(std::vector<Range> ranges) const {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
    std::vector<SafetensorsEntry> entries;
    entries.reserve(ranges.size());
    uint64_t position = 0;
    for (Range& range : ranges) {
      if (range.begin != position)
        return bad(range.entry.name, range.begin < position ? "its data overlaps the tensor before it"
                                                            : "there is a hole in the data before it");
      position = range.end;
      range.entry.data = data_.subspan(range.begin, range.end - range.begin);
      entries.push_back(std::move(range.entry));
    }
    if (position != data_.size())
      return data_loss(path_ + ": " + std::to_string(data_.size() - position) + " bytes after the last tensor");
    return entries;
  }

  const std::string& path_;
  std::span<const std::byte> data_;
};

}  // namespace

Result<std::vector<SafetensorsEntry>> read_safetensors(const std::string& path, std::span<const std::byte> file) {
  if (file.size() < kLengthBytes)
    return data_loss(path + ": expected a safetensors file, got " + std::to_string(file.size()) + " bytes");
  const uint64_t length = read_u64_le(file.first(kLengthBytes));
  if (length > limits::kSafetensorsHeaderBytesMax || length > file.size() - kLengthBytes)
    return data_loss(
        path + ": the header claims " + std::to_string(length) + " bytes; expected at most " +
        std::to_string(std::min<uint64_t>(limits::kSafetensorsHeaderBytesMax, file.size() - kLengthBytes)) +
        " (is this a safetensors file, and complete?)");
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') return data_loss(path + ": the header does not start with '{'");
  JsonLimits json_limits;
  json_limits.bytes_max = limits::kSafetensorsHeaderBytesMax;
  json_limits.depth_max = 4;
  auto document = parse_json(text, json_limits);
  if (!document.ok()) return data_loss(path + ": header: " + document.status().message());
  return HeaderReader(path, file.subspan(kLengthBytes + length)).read((*document)->root());
}

}  // namespace quern
