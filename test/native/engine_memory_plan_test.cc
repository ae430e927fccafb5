// Memory planning: cgroup limits are respected, the plan fits, refusals carry the numbers.
#include <filesystem>
#include <fstream>

#include "engine/memory_plan.h"
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
