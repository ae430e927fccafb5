// weights/: what a safetensors header may and may not say, and folders of one or many files.
#include <cstring>
#include <filesystem>
#include <fstream>

#include "test.h"
#include "weights/safetensors.h"
#include "weights/tensor_values.h"
#include "weights/weight_files.h"
#include "weights_sample.h"

namespace quern {
namespace {

using test::safetensors_file;

Result<std::vector<SafetensorsEntry>> read(const std::string& file) {
  return read_safetensors("x.safetensors", std::as_bytes(std::span(file.data(), file.size())));
}

Result<std::vector<SafetensorsEntry>> read_header(const std::string& header, size_t data_bytes) {
  return read(safetensors_file(header, std::string(data_bytes, '\1')));
}

TEST(weights_read_a_good_file) {
  const std::string file = safetensors_file(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"c":{"dtype":"I64","shape":[],"data_offsets":[20,28]}}   )",
      std::string(28, '\2'));
  Result<std::vector<SafetensorsEntry>> entries = read(file);
  REQUIRE_OK(entries);
  REQUIRE(entries->size() == 3);
  EXPECT_EQ((*entries)[0].name, std::string("a"));
  EXPECT_EQ((*entries)[1].dtype, std::string("BF16"));
  EXPECT((*entries)[1].shape == (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ((*entries)[1].data.size(), 12u);
  EXPECT((*entries)[2].shape.empty());
}

TEST(weights_tensors_of_no_elements_are_allowed) {
  EXPECT_OK(read_header(R"({"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}})", 0));
  EXPECT_OK(read_header("{}", 0));
}

TEST(weights_refuse_headers_that_lie) {
  const struct {
    const char* header;
    size_t data_bytes;
    const char* error;
  } cases[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9, "after the last tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, "leave the file's"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})", 9, "hole"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}})",
       7, "hole"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "need 12 bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "leave the file's"},
      {R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8, "unknown dtype"},
      {R"({"a":{"dtype":3,"shape":[2],"data_offsets":[0,8]}})", 8, "'dtype'"},
      {R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, "'shape'"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "whole numbers"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "whole numbers"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})", 8, "8 dimensions"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8, "overflows"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8, "two whole numbers"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", 8, "two whole numbers"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8, "leave the file's"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8, "unknown key"},
      {R"({"a":[]})", 8, "expected an object"},
      {R"({"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8, "expected a name"},
      {R"({"__metadata__":{"a":1}})", 0, "strings only"},
      {R"({"__metadata__":[]})", 0, "object of strings"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "twice"},
      {R"([])", 0, "start with '{'"},
      {R"( {})", 0, "start with '{'"},
      {R"({"a":)", 0, "header: JSON"},
  };
  for (const auto& c : cases) EXPECT_ERROR(read_header(c.header, c.data_bytes), c.error);
}

TEST(weights_refuse_impossible_lengths) {
  EXPECT_ERROR(read(""), "got 0 bytes");
  EXPECT_ERROR(read("1234567"), "got 7 bytes");
  std::string file = safetensors_file("{}", "");
  for (const uint64_t length : {uint64_t{3}, uint64_t{100'000'001}, UINT64_MAX, UINT64_MAX - 7}) {
    std::memcpy(file.data(), &length, 8);
    EXPECT_ERROR(read(file), "the header claims");
  }
  const uint64_t zero = 0;
  std::memcpy(file.data(), &zero, 8);
  EXPECT_ERROR(read(file), "start with '{'");
}

TEST(weights_values_are_read_from_any_address_and_type) {
  std::string bytes(1 + 12, '\0');
  const float f32[3] = {1.5f, -2.0f, 0x1p-20f};
  std::memcpy(bytes.data() + 1, f32, 12);
  HostTensor tensor;
  tensor.rows = 3, tensor.data = reinterpret_cast<const std::byte*>(bytes.data()) + 1;
  float out[3] = {};
  tensor_values(tensor, out);
  EXPECT(std::memcmp(out, f32, 12) == 0);
  const uint16_t f16[3] = {0x3E00, 0xC000, 0x0010};
  std::memcpy(bytes.data() + 1, f16, 6);
  tensor.dtype = DType::kF16;
  tensor_values(tensor, out);
  EXPECT(std::memcmp(out, f32, 12) == 0);
  const uint16_t bf16[3] = {0x3FC0, 0xC000, 0x3580};
  std::memcpy(bytes.data() + 1, bf16, 6);
  tensor.dtype = DType::kBF16;
  tensor_values(tensor, std::span(out).first(2), 1);
  EXPECT_EQ(out[0], -2.0f);
  EXPECT_EQ(out[1], 0x1p-20f);
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// Two shards with a vector and a matrix each: a, b in the first, c, d in the second.
std::string sharded_folder(const std::string& weight_map) {
  const std::string folder = test::temporary_folder();
  write(
      folder + "/m-1.safetensors",
      safetensors_file(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]}})",
          std::string(16, '\0')));
  write(
      folder + "/m-2.safetensors",
      safetensors_file(
          R"({"c":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"d":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",
          std::string(8, '\0')));
  write(folder + "/model.safetensors.index.json", "{\"weight_map\": " + weight_map + "}");
  return folder;
}

TEST(weights_shards_are_read_through_their_index) {
  auto files = WeightFiles::open(
      sharded_folder(R"({"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors","d":"m-2.safetensors"})"));
  REQUIRE_OK(files);
  EXPECT_EQ((*files)->entries().size(), 4u);
  EXPECT_EQ((*files)->data_bytes(), 24u);
  EXPECT_OK((*files)->vector("a", 2));
  EXPECT_OK((*files)->matrix("b", 2, 2));
  EXPECT_EQ((*files)->vector("c", 2)->dtype, DType::kF16);
  EXPECT_ERROR((*files)->vector("a", 3), "'a': expected shape [3], got [2]");
  EXPECT_ERROR((*files)->matrix("b", 4, 1), "expected shape [4, 1], got [2, 2]");
  EXPECT_ERROR((*files)->vector("d", 1), "expected dtype F32, F16 or BF16, got I32");
  EXPECT_ERROR((*files)->vector("e", 1), "'e' is missing");
}

TEST(weights_an_index_that_disagrees_with_its_files_is_refused) {
  const struct {
    const char* weight_map;
    const char* error;
  } cases[] = {
      {R"({"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"})", "'d' is not in the index"},
      {R"({"a":"m-1.safetensors","b":"m-1.safetensors","x":"m-1.safetensors"})", "names 3 tensors"},
      {R"({"a":"m-1.safetensors","b":"m-2.safetensors"})", "not in the index for this file"},
      {R"({"a":"../m-1.safetensors"})", "plain file names"},
      {R"({"a":"/etc/passwd"})", "plain file names"},
      {R"({"a":".."})", "plain file names"},
      {R"({"a":""})", "plain file names"},
      {R"({"a":"m\u00001"})", "plain file names"},
      {R"({"a":1})", "plain file names"},
      {R"({"a":"m-9.safetensors"})", "cannot open"},
      {R"({})", "expected 1 to"},
      {R"([])", "'weight_map'"},
  };
  for (const auto& c : cases) EXPECT_ERROR(WeightFiles::open(sharded_folder(c.weight_map)), c.error);
  EXPECT_ERROR(WeightFiles::open(test::temporary_folder()), "expected model.safetensors or");
}

TEST(weights_the_fingerprint_notices_changed_names_shapes_and_bytes) {
  const auto fingerprint = [](const std::string& header, const std::string& data) {
    const std::string folder = test::temporary_folder();
    write(folder + "/model.safetensors", safetensors_file(header, data));
    auto files = WeightFiles::open(folder);
    return files.ok() ? (*files)->fingerprint() : 0;
  };
  const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const uint64_t first = fingerprint(header, std::string(8, '\0'));
  EXPECT_NE(first, 0u);
  EXPECT_EQ(first, fingerprint(header, std::string(8, '\0')));
  EXPECT_NE(first, fingerprint(header, std::string(7, '\0') + "x"));
  EXPECT_NE(first, fingerprint(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0')));
  EXPECT_NE(first, fingerprint(R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})", std::string(8, '\0')));
}

}  // namespace
}  // namespace quern
