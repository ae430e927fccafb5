// Runs the registered tests one after another and counts.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <new>
#include <vector>

#include "test.h"

namespace {

std::atomic<uint64_t> allocation_count{0};

struct Registered {
  const char* name;
  void (*body)();
};

std::vector<Registered>& registry() {
  static std::vector<Registered> tests;
  return tests;
}

std::map<std::string, std::string, std::less<>> options;
std::vector<std::string> folders;
uint64_t failures_of_this_test = 0;
std::string skip_reason;
uint64_t run_seed = 20240607;

bool selected(std::string_view name, std::string_view filter) {
  if (filter.empty()) return true;
  size_t begin = 0;
  while (begin <= filter.size()) {
    size_t end = filter.find(',', begin);
    if (end == std::string_view::npos) end = filter.size();
    std::string_view part = filter.substr(begin, end - begin);
    if (!part.empty() && name.find(part) != std::string_view::npos) return true;
    begin = end + 1;
  }
  return false;
}

// Returns false on a malformed command line.
bool parse(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (argument == "--list") {
      options.emplace("list", "1");
    } else if (argument.starts_with("--") && i + 1 < argc) {
      options.insert_or_assign(std::string(argument.substr(2)), argv[++i]);
    } else {
      std::fprintf(stderr, "engine_tests: expected --filter TEXT, --seed N, --list or --key value; got '%s'\n",
                   argv[i]);
      return false;
    }
  }
  return true;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QUERN_COUNTS_ALLOCATIONS 0
#else
#define QUERN_COUNTS_ALLOCATIONS 1
// Counting replacements, so that a test can say that a step allocates nothing.
void* operator new(size_t size) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  std::abort();
}
void* operator new(size_t size, std::align_val_t alignment) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  const size_t unit = static_cast<size_t>(alignment);
  if (void* p = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return p;
  std::abort();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
#endif

namespace quern::test {

int add(const char* name, void (*body)()) {
  registry().push_back({name, body});
  return 0;
}

void fail(const char* file, int line, const std::string& what) {
  constexpr uint64_t kShownFailures = 10;
  if (++failures_of_this_test <= kShownFailures) std::printf("  %s:%d: %s\n", file, line, what.c_str());
  if (failures_of_this_test == kShownFailures + 1) std::printf("  (more failures of this test are not shown)\n");
}

uint64_t failures() { return failures_of_this_test; }
void skip(const std::string& reason) { skip_reason = reason.empty() ? "no reason given" : reason; }
uint64_t seed() { return run_seed; }

std::string option(std::string_view key, std::string_view fallback) {
  auto found = options.find(key);
  return found == options.end() ? std::string(fallback) : found->second;
}

std::string temporary_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "quern-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::perror("mkdtemp");
    std::abort();
  }
  folders.push_back(pattern);
  return pattern;
}

uint64_t allocations() { return allocation_count.load(std::memory_order_relaxed); }
bool counts_allocations() { return QUERN_COUNTS_ALLOCATIONS != 0; }

}  // namespace quern::test

int main(int argc, char** argv) {
  using quern::test::option;
  if (!parse(argc, argv)) return 2;
  if (const std::string text = option("seed"); !text.empty()) run_seed = std::strtoull(text.c_str(), nullptr, 0);
  if (!option("list").empty()) {
    for (const Registered& test : registry()) std::printf("%s\n", test.name);
    return 0;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("seed %llu\n", static_cast<unsigned long long>(run_seed));
  const std::string filter = option("filter");
  // One of several processes that share the work: `--shards 2 --shard 1` runs every second of the selected tests.
  const uint64_t shards = std::max<uint64_t>(1, std::strtoull(option("shards", "1").c_str(), nullptr, 10));
  const uint64_t shard = std::strtoull(option("shard", "0").c_str(), nullptr, 10);
  uint64_t place = 0;
  const bool stop_early = !option("stop").empty();
  int passed = 0, failed = 0, skipped = 0;
  for (const Registered& test : registry()) {
    if (!selected(test.name, filter) || place++ % shards != shard) continue;
    failures_of_this_test = 0;
    skip_reason.clear();
    const auto start = std::chrono::steady_clock::now();
    test.body();
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    const char* verdict = failures_of_this_test > 0 ? "FAIL" : !skip_reason.empty() ? "skip" : "ok  ";
    std::printf("%s %s (%.0f ms)%s%s\n", verdict, test.name, ms, skip_reason.empty() ? "" : ": ", skip_reason.c_str());
    (failures_of_this_test > 0 ? failed : !skip_reason.empty() ? skipped : passed) += 1;
    if (failed > 0 && stop_early) break;
  }
  std::error_code ignored;
  for (const std::string& folder : folders) std::filesystem::remove_all(folder, ignored);
  if (skipped > 0) std::printf("%d skipped\n", skipped);
  std::printf("%d passed, %d failed\n", passed, failed);
  if (passed + failed + skipped == 0) {
    std::fprintf(stderr, "engine_tests: no test matches --filter '%s'\n", filter.c_str());
    return 1;
  }
  return failed == 0 ? 0 : 1;
}
