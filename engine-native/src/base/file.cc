#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace quern {
namespace {

// Owns a descriptor for the length of a function.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

Status open_error(const std::string& path) {
  const int error = errno;
  std::string message = path + ": cannot open: " + std::strerror(error);
  return error == ENOENT ? not_found(std::move(message)) : failed_precondition(std::move(message));
}

// The size of a regular file behind an open descriptor.
Result<size_t> regular_size(int descriptor, const std::string& path) {
  struct stat info{};
  if (::fstat(descriptor, &info) != 0) return open_error(path);
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": expected a regular file");
  return static_cast<size_t>(info.st_size);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) return open_error(path);
  Result<size_t> size = regular_size(descriptor.get(), path);
  QUERN_RETURN_IF_ERROR(size.status());
  if (*size == 0) return MappedFile(path, nullptr, 0);  // mmap refuses empty files
  void* data = ::mmap(nullptr, *size, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (data == MAP_FAILED) return resource_exhausted(path + ": cannot map: " + std::strerror(errno));
  return MappedFile(path, static_cast<const std::byte*>(data), *size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, size_t{0})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> read_text_file(const std::string& path, size_t bytes_max) {
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) return open_error(path);
  Result<size_t> size = regular_size(descriptor.get(), path);
  QUERN_RETURN_IF_ERROR(size.status());
  if (*size > bytes_max)
    return invalid_argument(path + ": expected at most " + std::to_string(bytes_max) + " bytes, got " +
                            std::to_string(*size));
  std::string text(*size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(descriptor.get(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return open_error(path);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  text.resize(done);
  return text;
}

bool is_regular_file(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace quern
