// Read-only files: mapped whole, or read whole within a bound.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace quern {

// A regular file mapped for reading. Move-only; the mapping ends with the object.
//
// A file that another process truncates while it is mapped ends this process with SIGBUS: model folders must be
// replaced by renaming, as every downloader does.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(std::string path, const std::byte* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole file as text. kNotFound if there is none, kInvalidArgument if it is larger than bytes_max.
Result<std::string> read_text_file(const std::string& path, size_t bytes_max);

bool is_regular_file(const std::string& path);

}  // namespace quern
