// All tensors of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
//
// Thread safety: immutable once open. Invariants: names are unique over all shards; every tensor of the index exists in
// the file the index names, and every tensor of the files stands in the index. Views live as long as this object.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "weights/safetensors.h"
#include "weights/tensor.h"

namespace quern {

class WeightFiles {
 public:
  // `folder` holds the files. Errors name file and tensor.
  static Result<std::unique_ptr<WeightFiles>> open(const std::string& folder);

  // Sorted by name.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  bool contains(std::string_view name) const { return find(name) != nullptr; }

  // The tensor as a matrix [rows, cols] or, with cols = 1, a vector [rows]. Errors: missing; not F32, F16 or BF16;
  // another shape (expected and actual are named).
  Result<HostTensor> matrix(std::string_view name, uint64_t rows, uint64_t cols) const;
  Result<HostTensor> vector(std::string_view name, uint64_t rows) const;

  uint64_t data_bytes() const { return data_bytes_; }
  // Identity of the weights: names, types, shapes and a sample of each tensor's bytes. Not cryptographic.
  uint64_t fingerprint() const;

 private:
  Status add_file(const std::string& path);
  Status check_index(const std::string& index_path, const std::string& folder, const std::string& text);
  const SafetensorsEntry* find(std::string_view name) const;
  Result<HostTensor> tensor(std::string_view name, const std::vector<uint64_t>& shape) const;

  std::vector<MappedFile> files_;
  std::vector<SafetensorsEntry> entries_;
  uint64_t data_bytes_ = 0;
};

}  // namespace quern
