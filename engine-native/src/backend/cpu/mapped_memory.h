// Owned zeroed memory from mmap, 2 MiB aligned with huge pages advised where it is large. Pages belong to the thread
// that touches them first, so owners of a share should write it themselves.
//
// Thread safety: plain move-only owner.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace quern::cpu {

class MappedMemory {
 public:
  MappedMemory() = default;
  ~MappedMemory();
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;

  // `bytes` > 0. Error: resource_exhausted with the size that was asked for; `what` names it.
  static Result<MappedMemory> allocate(uint64_t bytes, const char* what);

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t size_bytes() const { return size_; }

 private:
  void release();

  void* data_ = nullptr;
  uint64_t size_ = 0;
  void* map_ = nullptr;
  uint64_t map_size_ = 0;
};

}  // namespace quern::cpu
