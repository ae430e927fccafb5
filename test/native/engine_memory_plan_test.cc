// Memory planning: cgroup limits are respected, the plan fits, refusals carry the numbers.
#include <filesystem>
#include <fstream>

#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "model/open_model.h"
#include "parity_fixture.h"
#include "test.h"

namespace quern {
namespace {

void write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST(engine_memory_takes_the_tightest_bound) {
  const std::string root = test::temporary_folder();
  write(root + "/proc/meminfo", "MemTotal: 8000 kB\nMemAvailable:    4000 kB\n");
  write(root + "/proc/self/cgroup", "0::/a/b\n");
  auto memory = read_free_memory(root);
  REQUIRE_OK(memory);
  EXPECT_EQ(memory->bytes, uint64_t{4000 * 1024});
  write(root + "/sys/fs/cgroup/a/memory.max", "3000000\n");
  write(root + "/sys/fs/cgroup/a/memory.current", "2500000\n");
  write(root + "/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500000\n");
  write(root + "/sys/fs/cgroup/a/b/memory.max", "max\n");
  write(root + "/sys/fs/cgroup/a/b/memory.current", "2500000\n");
  memory = read_free_memory(root);
  REQUIRE_OK(memory);
  EXPECT_EQ(memory->bytes, uint64_t{1000000});
  EXPECT(memory->source.find("cgroup/a") != std::string::npos);
  write(root + "/proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/m\n");
  write(root + "/sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
  write(root + "/sys/fs/cgroup/memory/memory.usage_in_bytes", "600000\n");
  memory = read_free_memory(root);
  REQUIRE_OK(memory);
  EXPECT_EQ(memory->bytes, uint64_t{100000});
}

// 1000 MiB of weights, 1 MiB of KV cache per token.
ModelNeed large_need() {
  ModelNeed need;
  need.dtype = "bf16";
  need.weight_bytes = 1000ull << 20;
  need.kv_bytes_per_token = 1ull << 20;
  need.context_length = 4096;
  return need;
}

TEST(engine_memory_refuses_a_model_that_does_not_fit) {
  const ModelNeed need = large_need();
  // 256 tokens are the shortest context that is served.
  EXPECT_OK(check_need(need, 0, 0, {1256ull << 20, "MemAvailable"}));
  const Status refused = check_need(need, 0, 0, {(1256ull << 20) - 1, "MemAvailable"});
  EXPECT_EQ(refused.code(), Code::kResourceExhausted);
  EXPECT_ERROR(refused,
               "memory: the model needs 1.23 GiB (0.98 GiB of weights as bf16, at least 0.25 GiB of KV cache), MemAvailable "
               "leaves 1.23 GiB; free memory or serve a smaller model");
  EXPECT_OK(check_need(need, 1, 0, {(1000ull << 20) + 1, "test"}));
  EXPECT_ERROR(check_need(need, 1ull << 40, 0, {2000ull << 20, "test"}), "at least 1024.00 GiB of KV cache");
  EXPECT_ERROR(check_need(need, 1ull << 40, 0, {2000ull << 20, "test"}), "lower kv_bytes or context_length");
  EXPECT_OK(check_need(need, 0, 1000, {2000ull << 20, "test"}));
  EXPECT_ERROR(check_need(need, 0, 1001, {2000ull << 20, "test"}), "lower kv_bytes or context_length");
  EXPECT_ERROR(check_need(need, 0, 0, {999ull << 20, "test"}), "leaves 0.98 GiB");  // weights alone: no wrap-around
  ModelNeed widened = need;
  widened.dtype = "f32", widened.widened = true;
  EXPECT_ERROR(check_need(widened, 0, 0, {1, "test"}), "set dtype to bf16");
}

TEST(engine_memory_measures_what_will_be_loaded) {
  auto fixture = test::read_fixture(test::fixture_families().front());
  REQUIRE_OK(fixture);
  for (const DType files : {DType::kF32, DType::kBF16}) {
    auto folder = test::write_fixture_model(*fixture, files);
    REQUIRE_OK(folder);
    auto config = read_model_config(*folder);
    auto weights = WeightFiles::open(*folder);
    REQUIRE_OK(config);
    REQUIRE_OK(weights);
    for (const std::string dtype : {"auto", "f32", "bf16"}) {
      const ModelNeed need = measure_need(*config, **weights, dtype);
      auto backend = make_cpu_backend({"portable", dtype, 1});
      REQUIRE_OK(backend);
      auto opened = open_model(*folder, **backend);
      REQUIRE_OK(opened);
      const BackendInfo info = (*backend)->info();
      EXPECT_EQ(need.dtype, info.weight_type);
      EXPECT_EQ(need.widened, files == DType::kBF16 && dtype == "f32");
      EXPECT_EQ(need.weight_bytes, opened->parameter_count * (need.dtype == "f32" ? 4 : 2));
      EXPECT_LE(need.weight_bytes, info.weight_bytes);  // padding comes on top: never a refusal of what fits
      EXPECT_LE(need.kv_bytes_per_token, (*backend)->kv_bytes_per_token(opened->attention_shape));
    }
    EngineOptions options;
    options.model_dir = *folder, options.backend = "cpu", options.isa = "portable", options.threads = 1;
    options.kv_bytes = 1ull << 50;
    bool loaded = false;
    const auto engine = Engine::open(options, [](const StepOut&) {}, [&](const char*, uint64_t, uint64_t) { loaded = true; });
    EXPECT_ERROR(engine, "memory: the model needs 1048576.00 GiB");
    EXPECT(!loaded);
  }
}

TEST(engine_memory_of_a_device_is_its_own) {
  constexpr uint64_t kGib = 1ull << 30;
  // 10 of 16 GiB free beside 2 GiB of weights: 90 % of 12 less weights and workspace.
  const FreeMemory memory = device_memory_left({10 * kGib, 16 * kGib, 2 * kGib, kGib}, "a GPU");
  EXPECT_EQ(memory.bytes, 12 * kGib / 100 * 90 - 3 * kGib);
  EXPECT_EQ(memory.source, "the memory of a GPU (10.00 GiB of 16.00 GiB free, at most 90 % of it to be used)");
  EXPECT_EQ(device_memory_left({0, 16 * kGib, kGib, 0}, "full").bytes, 0u);  // no wrap-around
  KvRequest r;
  r.model_context_length = 4096, r.bytes_per_token = 1 << 20, r.max_num_seqs = 64;
  auto plan = plan_kv(r, memory);
  REQUIRE_OK(plan);
  EXPECT_EQ(plan->num_blocks, memory.bytes / (16u << 20));  // all of it, not the host's quarter
}

KvRequest request() {
  KvRequest r;
  r.model_context_length = 4096;
  r.block_size = 16;
  r.max_num_seqs = 4;
  r.bytes_per_token = 1000;
  return r;
}

TEST(engine_kv_plan_takes_what_is_useful_within_its_share) {
  auto roomy = plan_kv(request(), {1ull << 30, "test"});
  REQUIRE_OK(roomy);
  EXPECT_EQ(roomy->num_blocks, 4096u / 16 * 4);
  EXPECT_EQ(roomy->context_length, 4096u);
  auto tight = plan_kv(request(), {20'000'000, "test"});  // a quarter holds 5000 tokens
  REQUIRE_OK(tight);
  EXPECT_EQ(tight->num_blocks, 5000u / 16);
  EXPECT_EQ(tight->context_length, 4096u);
  auto lowered = plan_kv(request(), {2'000'000, "test"});  // 70 % hold 1400 tokens
  REQUIRE_OK(lowered);
  EXPECT_EQ(lowered->context_length, 1400u / 16 * 16);
  EXPECT_LE(lowered->kv_bytes, uint64_t{1'400'000});
}

TEST(engine_kv_plan_refuses_with_numbers) {
  KvRequest r = request();
  r.context_length = 4096;
  EXPECT_ERROR(plan_kv(r, {2'000'000, "the memory limit in /x"}), "4096 tokens x 1000 bytes");
  r.context_length = 0;
  EXPECT_ERROR(plan_kv(r, {100'000, "the memory limit in /x"}), "the memory limit in /x");
  r.kv_bytes = 5'000'000;
  EXPECT_ERROR(plan_kv(r, {1'000'000, "MemAvailable"}), "kv_bytes: expected at most");
  r.kv_bytes = 0;
  r.context_length = 8192;
  EXPECT_ERROR(plan_kv(r, {1ull << 30, "test"}), "context_length: expected at most the model's 4096");
}

}  // namespace
}  // namespace quern
