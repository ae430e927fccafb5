#include "backend/cpu/mapped_memory.h"

#include <sys/mman.h>

#include <string>
#include <utility>

namespace quern::cpu {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kSmallPage = 4096;

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

MappedMemory::~MappedMemory() { release(); }

MappedMemory::MappedMemory(MappedMemory&& other) noexcept { *this = std::move(other); }

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  if (this == &other) return *this;
  release();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  map_ = std::exchange(other.map_, nullptr);
  map_size_ = std::exchange(other.map_size_, 0);
  return *this;
}

void MappedMemory::release() {
  if (map_ != nullptr) munmap(map_, map_size_);
  map_ = nullptr;
}

Result<MappedMemory> MappedMemory::allocate(uint64_t bytes, const char* what) {
  CHECK(bytes > 0, "an allocation needs a size");
  const bool large = bytes >= kHugePage / 2;
  const uint64_t size = round_up(bytes, large ? kHugePage : kSmallPage);
  const uint64_t map_size = size + (large ? kHugePage : 0);
  void* map = mmap(nullptr, map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) {
    return resource_exhausted("cpu backend: could not allocate " + std::to_string(bytes) + " bytes for " + what +
                              "; use a smaller model, fewer KV blocks or a shorter context");
  }
  MappedMemory memory;
  memory.map_ = map;
  memory.map_size_ = map_size;
  memory.size_ = bytes;
  const uintptr_t start = reinterpret_cast<uintptr_t>(map);
  memory.data_ = reinterpret_cast<void*>(large ? round_up(start, kHugePage) : start);
  if (large) madvise(memory.data_, size, MADV_HUGEPAGE);  // advice only: without it the kernels are slower, not wrong
  return memory;
}

}  // namespace quern::cpu
