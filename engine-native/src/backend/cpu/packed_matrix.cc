#include "backend/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/float16.h"

namespace quern::cpu {
namespace {

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

float load_f32(const std::byte* p) {
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

float load_element(const std::byte* p, DType dtype) {
  if (dtype == DType::kF32) return load_f32(p);
  return dtype == DType::kBF16 ? bf16_to_f32(load_u16(p)) : f16_to_f32(load_u16(p));
}

// Borders of `slices` slices of k columns, multiples of 32 where k is a multiple of 32 per slice, else even.
std::vector<uint32_t> slice_borders(uint32_t k, uint32_t slices) {
  const uint32_t unit = k >= 32 * slices ? 32 : 2;
  std::vector<uint32_t> borders;
  for (uint32_t i = 0; i < slices; ++i) {
    borders.push_back(static_cast<uint32_t>(uint64_t{k} * i / slices / unit * unit));
  }
  borders.push_back(k);
  return borders;
}

Status check_source(const LinearSource& source) {
  if (source.parts.empty() || source.k_slices == 0) return invalid_argument("load_linear: expected a part and a K slice, got none");
  if (!source.bias.empty() && source.bias.size() != source.parts.size()) {
    return invalid_argument("load_linear: expected one bias entry per part (" + std::to_string(source.parts.size()) +
                            "), got " + std::to_string(source.bias.size()));
  }
  uint64_t rows = 0;
  for (size_t i = 0; i < source.parts.size(); ++i) {
    const HostTensor& part = source.parts[i];
    if (part.rows == 0 || part.cols == 0 || part.cols != source.parts[0].cols) {
      return invalid_argument("load_linear: tensor '" + std::string(part.name) + "' is [" + std::to_string(part.rows) + ", " +
                              std::to_string(part.cols) + "]; expected [> 0, " + std::to_string(source.parts[0].cols) +
                              "] as the first part");
    }
    rows += part.rows;
    if (source.bias.empty() || !source.bias[i].has_value()) continue;
    if (source.bias[i]->count() != part.rows) {
      return invalid_argument("load_linear: bias '" + std::string(source.bias[i]->name) + "' has " +
                              std::to_string(source.bias[i]->count()) + " elements; expected " + std::to_string(part.rows));
    }
  }
  if (rows > UINT32_MAX / 2 || source.parts[0].cols > UINT32_MAX / 2) {
    return invalid_argument("load_linear: a matrix of " + std::to_string(rows) + " rows is too large; expected below 2^31");
  }
  return Status::ok_status();
}

}  // namespace

float tensor_element(const HostTensor& tensor, uint64_t index) {
  return load_element(tensor.data + index * dtype_size(tensor.dtype), tensor.dtype);
}

Result<PackedMatrix> PackedMatrix::pack(const LinearSource& source, WeightType type, ThreadPool& pool) {
  QUERN_RETURN_IF_ERROR(check_source(source));
  PackedMatrix m;
  m.type_ = type;
  for (const HostTensor& part : source.parts) m.rows_ += static_cast<uint32_t>(part.rows);
  m.cols_ = static_cast<uint32_t>(source.parts[0].cols);
  m.padded_cols_ = m.cols_ + m.cols_ % 2;
  m.slice_borders_ = slice_borders(m.cols_, source.k_slices);
  const uint64_t bytes = uint64_t{m.strips()} * m.padded_cols_ * kStripRows * weight_size(type);
  Result<MappedMemory> memory = MappedMemory::allocate(bytes, "a weight matrix");
  if (!memory.ok()) return memory.status();
  m.memory_ = std::move(*memory);
  bool any_bias = false;
  for (const auto& bias : source.bias) any_bias |= bias.has_value();
  if (any_bias) m.bias_.assign(size_t{m.strips()} * kStripRows, 0.0f);
  for (size_t i = 0, row = 0; any_bias && i < source.parts.size(); row += source.parts[i].rows, ++i) {
    if (!source.bias[i].has_value()) continue;
    for (uint64_t j = 0; j < source.parts[i].rows; ++j) m.bias_[row + j] = tensor_element(*source.bias[i], j);
  }
  // Each thread writes the share that multiply() will hand to it first, so that its pages lie near it.
  pool.run([&](uint32_t thread) {
    const uint32_t begin = WorkShares::share_begin(m.strips(), kStripChunk, thread, pool.size());
    const uint32_t end = WorkShares::share_begin(m.strips(), kStripChunk, thread + 1, pool.size());
    for (uint32_t strip = begin; strip < end; ++strip) m.pack_strip(source, strip);
  });
  return m;
}

void PackedMatrix::pack_strip(const LinearSource& source, uint32_t strip) {
  const size_t strip_elements = size_t{padded_cols_} * kStripRows;
  for (uint32_t lane = 0; lane < kStripRows; ++lane) {
    uint64_t row = uint64_t{strip} * kStripRows + lane;
    if (row >= rows_) return;  // mapped memory starts as zeros
    size_t part = 0;
    while (row >= source.parts[part].rows) row -= source.parts[part++].rows;
    const HostTensor& tensor = source.parts[part];
    const uint32_t step = dtype_size(tensor.dtype);
    const std::byte* in = tensor.data + row * cols_ * step;
    if (type_ == WeightType::kF32) {
      float* out = memory_.as<float>() + strip * strip_elements + lane;
      for (uint32_t k = 0; k < cols_; ++k) out[size_t{k} * kStripRows] = load_element(in + size_t{k} * step, tensor.dtype);
      continue;
    }
    uint16_t* out = memory_.as<uint16_t>() + strip * strip_elements + size_t{lane} * 2;
    for (uint32_t k = 0; k < cols_; ++k) {
      const std::byte* element = in + size_t{k} * step;
      const bool same = tensor.dtype == DType::kBF16;
      out[size_t{k / 2} * 2 * kStripRows + k % 2] = same ? load_u16(element) : f32_to_bf16(load_element(element, tensor.dtype));
    }
  }
}

const std::byte* PackedMatrix::panel(uint32_t strip, uint32_t column) const {
  return memory_.as<std::byte>() + (size_t{strip} * padded_cols_ + column) * kStripRows * weight_size(type_);
}

void PackedMatrix::read_row(uint32_t row, float* out) const {
  const uint32_t strip = row / kStripRows, lane = row % kStripRows;
  if (type_ == WeightType::kF32) {
    const float* in = reinterpret_cast<const float*>(panel(strip, 0)) + lane;
    for (uint32_t k = 0; k < cols_; ++k) out[k] = in[size_t{k} * kStripRows];
    return;
  }
  const uint16_t* in = reinterpret_cast<const uint16_t*>(panel(strip, 0)) + size_t{lane} * 2;
  for (uint32_t k = 0; k < cols_; ++k) out[k] = bf16_to_f32(in[size_t{k / 2} * 2 * kStripRows + k % 2]);
}

void PackedMatrix::multiply(const Kernels& kernels, RowsIn x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end,
                            float* sums) const {
  const Input input{reinterpret_cast<const std::byte*>(x.data), x.stride, sizeof(float), kernels.tile[static_cast<int>(type_)]};
  multiply_rows(kernels, input, y, tokens, begin, end, sums);
}

void PackedMatrix::multiply(const Kernels& kernels, NarrowRowsIn x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end,
                            float* sums) const {
  CHECK(kernels.dot != nullptr && type_ == WeightType::kBF16, "narrow rows need dot tiles and bf16 weights");
  const Input input{reinterpret_cast<const std::byte*>(x.data), x.stride, sizeof(uint16_t), kernels.dot->tile};
  multiply_rows(kernels, input, y, tokens, begin, end, sums);
}

void PackedMatrix::multiply_rows(const Kernels& kernels, Input x, RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end,
                                 float* sums) const {
  CHECK(end - begin <= kStripChunk, "a chunk of strips is too large for the parked sums");
  const uint32_t blocks = (tokens + kTokenBlock - 1) / kTokenBlock;
  for (uint32_t b = 0; b < blocks; ++b) {
    const uint32_t first = static_cast<uint32_t>(uint64_t{tokens} * b / blocks);
    const uint32_t count = static_cast<uint32_t>(uint64_t{tokens} * (b + 1) / blocks) - first;
    const Input x_block{x.at(first, 0), x.stride, x.element, x.tile};
    const RowsOut y_block{y.data + first * y.stride, y.stride};
    const size_t slices = slice_borders_.size() - 1;
    // A single tile reads each weight once, so nothing is gained by stopping at column blocks.
    const uint32_t block_columns = count <= kernels.max_tokens ? cols_ : kColumnBlock;
    for (size_t s = 0; s < slices; ++s) {
      const uint32_t slice_end = slice_borders_[s + 1];
      // Once at least: an empty slice (few columns) still contributes its zeros.
      for (uint32_t k = slice_borders_[s]; k < slice_end || k == slice_borders_[s];) {
        const uint32_t k_count = std::min(block_columns, slice_end - k);
        multiply_columns(kernels, x_block, count, begin, end,
                         {k, k_count, k == slice_borders_[s], k + k_count == slice_end}, sums);
        k += std::max(k_count, 1u);
      }
      add_slice(y_block, count, begin, end, s == 0, s + 1 == slices, sums);
    }
  }
}

// What is read after the panels before `strip`: it comes into L2 meanwhile, an equal part during each tile.
const std::byte* PackedMatrix::next_panel(uint32_t strip, uint32_t begin, uint32_t end, Columns columns) const {
  if (strip < end) return panel(strip, columns.begin);
  if (columns.begin + columns.count < cols_) return panel(begin, columns.begin + columns.count);
  return panel(std::min(end, strips() - 1), 0);
}

void PackedMatrix::multiply_columns(const Kernels& kernels, Input x, uint32_t tokens, uint32_t begin, uint32_t end,
                                    Columns columns, float* sums) const {
  const uint32_t tiles = (tokens + kernels.max_tokens - 1) / kernels.max_tokens;
  const uint32_t widest = (tokens + tiles - 1) / tiles;
  const void* panels[kMaxTileStrips];
  TileArgs args;
  args.panels = panels;
  args.k_count = columns.count;
  args.x_stride = x.stride;
  args.acc_token_stride = kStripRows;
  args.acc_strip_stride = size_t{kTokenBlock} * kStripRows;
  args.accumulate = !columns.first;
  for (uint32_t strip = begin; strip < end;) {
    const uint32_t wanted = kernels.strips_for_tokens[widest];
    const uint32_t strips = end - strip >= wanted ? wanted : 1;
    for (uint32_t i = 0; i < strips; ++i) panels[i] = panel(strip + i, columns.begin);
    const size_t panel_bytes = size_t{columns.count} * kStripRows * weight_size(type_) * strips;
    const std::byte* next = next_panel(strip + strips, begin, end, columns);
    args.prefetch_step = panel_bytes / tiles / std::max(1u, columns.count / 2);
    for (uint32_t t = 0; t < tiles; ++t) {
      const uint32_t first = tokens * t / tiles;
      const uint32_t count = tokens * (t + 1) / tiles - first;
      args.prefetch = next + panel_bytes * t / tiles;
      args.x = x.at(first, columns.begin);
      args.acc = sums + (size_t{strip - begin} * kTokenBlock + first) * kStripRows;
      x.tile[strips][count](args);
    }
    strip += strips;
  }
}

void PackedMatrix::add_slice(RowsOut y, uint32_t tokens, uint32_t begin, uint32_t end, bool first, bool last,
                             const float* sums) const {
  const float* bias = last && !bias_.empty() ? bias_.data() : nullptr;
  for (uint32_t strip = begin; strip < end; ++strip) {
    const float* in = sums + size_t{strip - begin} * kTokenBlock * kStripRows;
    const float* b = bias == nullptr ? nullptr : bias + size_t{strip} * kStripRows;
    for (uint32_t t = 0; t < tokens; ++t, in += kStripRows) {
      float* out = y.data + t * y.stride + size_t{strip} * kStripRows;
      for (uint32_t i = 0; i < kStripRows; ++i) {
        const float sum = first ? in[i] : out[i] + in[i];
        out[i] = b == nullptr ? sum : sum + b[i];
      }
    }
  }
}

}  // namespace quern::cpu
