#include "weights/weight_files.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

namespace quern {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

std::string show_shape(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (const uint64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

// A name in this folder and nothing else: no separators, no "..", no hidden files.
bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name.front() == '.') return false;
  return name.find('/') == std::string_view::npos && name.find('\\') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

bool by_name(const SafetensorsEntry& a, const SafetensorsEntry& b) { return a.name < b.name; }

}  // namespace

Result<std::unique_ptr<WeightFiles>> WeightFiles::open(const std::string& folder) {
  std::unique_ptr<WeightFiles> weights(new WeightFiles());
  const std::string single = folder + "/" + kSingleFile, index = folder + "/" + kIndexFile;
  if (is_regular_file(single)) {
    QUERN_RETURN_IF_ERROR(weights->add_file(single));
    std::sort(weights->entries_.begin(), weights->entries_.end(), by_name);
    return weights;
  }
  Result<std::string> text = read_text_file(index, limits::kIndexBytesMax);
  if (!text.ok() && text.status().code() == Code::kNotFound)
    return not_found(folder + ": expected " + kSingleFile + " or " + kIndexFile +
                     "; other formats must be converted to safetensors first");
  QUERN_RETURN_IF_ERROR(text.status());
  QUERN_RETURN_IF_ERROR(weights->check_index(index, folder, *text));
  return weights;
}

Status WeightFiles::add_file(const std::string& path) {
  Result<MappedFile> file = MappedFile::open(path);
  QUERN_RETURN_IF_ERROR(file.status());
  Result<std::vector<SafetensorsEntry>> found = read_safetensors(path, file->bytes());
  QUERN_RETURN_IF_ERROR(found.status());
  for (SafetensorsEntry& entry : *found) {
    data_bytes_ += entry.data.size();
    entries_.push_back(std::move(entry));
  }
  files_.push_back(std::move(*file));
  return Status();
}

Status WeightFiles::check_index(const std::string& index_path, const std::string& folder, const std::string& text) {
  JsonLimits json_limits;
  json_limits.bytes_max = limits::kIndexBytesMax;
  auto document = parse_json(text, json_limits);
  if (!document.ok()) return data_loss(index_path + ": " + document.status().message());
  const auto map = (*document)->root().find("weight_map");
  if (!map || !map->is_object()) return data_loss(index_path + ": expected an object 'weight_map'");
  std::map<std::string, std::set<std::string_view>> shards;  // file name -> tensors
  for (auto member = map->first(); member; member = member->next()) {
    const auto file = member->as_string();
    if (!file || !is_plain_file_name(*file))
      return data_loss(index_path + ": weight_map: expected plain file names, got " + member->excerpt());
    shards[std::string(*file)].insert(member->key());
  }
  if (shards.empty() || shards.size() > limits::kShardsMax)
    return data_loss(index_path + ": expected 1 to " + std::to_string(limits::kShardsMax) + " files, got " +
                     std::to_string(shards.size()));
  for (const auto& [file, names] : shards) {
    const size_t before = entries_.size();
    QUERN_RETURN_IF_ERROR(add_file(folder + "/" + file));
    for (size_t i = before; i < entries_.size(); ++i)
      if (!names.contains(entries_[i].name))
        return data_loss(folder + "/" + file + ": tensor '" + entries_[i].name + "' is not in the index for this file");
    if (entries_.size() - before != names.size())
      return data_loss(folder + "/" + file + ": the index names " + std::to_string(names.size()) +
                       " tensors in this file, it holds " + std::to_string(entries_.size() - before));
  }
  std::sort(entries_.begin(), entries_.end(), by_name);
  return Status();
}

const SafetensorsEntry* WeightFiles::find(std::string_view name) const {
  const auto found =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const SafetensorsEntry& entry, std::string_view key) { return entry.name < key; });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

Result<HostTensor> WeightFiles::tensor(std::string_view name, const std::vector<uint64_t>& shape) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) return not_found("tensor '" + std::string(name) + "' is missing from the weight files");
  if (entry->shape != shape)
    return invalid_argument("tensor '" + entry->name + "': expected shape " + show_shape(shape) + ", got " +
                            show_shape(entry->shape));
  HostTensor tensor;
  tensor.name = entry->name;
  if (entry->dtype == "F32") {
    tensor.dtype = DType::kF32;
  } else if (entry->dtype == "F16") {
    tensor.dtype = DType::kF16;
  } else if (entry->dtype == "BF16") {
    tensor.dtype = DType::kBF16;
  } else {
    return unimplemented("tensor '" + entry->name + "': expected dtype F32, F16 or BF16, got " + entry->dtype);
  }
  tensor.rows = shape[0];
  tensor.cols = shape.size() == 2 ? shape[1] : 1;
  tensor.data = entry->data.data();
  return tensor;
}

Result<HostTensor> WeightFiles::matrix(std::string_view name, uint64_t rows, uint64_t cols) const {
  return tensor(name, {rows, cols});
}

Result<HostTensor> WeightFiles::vector(std::string_view name, uint64_t rows) const { return tensor(name, {rows}); }

uint64_t WeightFiles::fingerprint() const {
  constexpr size_t kSampleBytes = 4096;
  uint64_t state = kFnvOffset;
  for (const SafetensorsEntry& entry : entries_) {
    state = fnv1a64(entry.name + " " + entry.dtype + show_shape(entry.shape), state);
    const std::string_view bytes(reinterpret_cast<const char*>(entry.data.data()), entry.data.size());
    state = fnv1a64(bytes.substr(0, kSampleBytes), state);
    if (bytes.size() > kSampleBytes) state = fnv1a64(bytes.substr(bytes.size() - kSampleBytes), state);
  }
  return state;
}

}  // namespace quern
