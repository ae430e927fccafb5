// Stands in for libFuzzer where there is no Clang: runs LLVMFuzzerTestOneInput over files, or over random mutants.
//
//   fuzz_safetensors [--seed N] [--seconds N] [FILE...]     files: each once (to replay a find); else mutants for N seconds
//
// A find ends the process with its seed and round; the same seed finds it again.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "safetensors_mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

volatile uint64_t running_round = 0;
uint64_t seed = 1;

void on_end(int signal) {
  std::fprintf(stderr, "fuzz: ended by signal %d in round %llu of seed %llu\n", signal,
               static_cast<unsigned long long>(running_round), static_cast<unsigned long long>(seed));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const std::string& input) {
  (void)LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

void run_mutants(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::mt19937_64 random(seed);
  std::string file;
  while (running_round % 256 != 0 || std::chrono::steady_clock::now() < end) {
    if (running_round % 8 == 0) file = quern::test::good_safetensors_file();
    file = running_round % 8 < 4 ? quern::test::mutate_safetensors(std::move(file), random)
                                 : quern::test::lying_safetensors_file(random);
    run(file);
    running_round = running_round + 1;
  }
  std::printf("%llu inputs, nothing found\n", static_cast<unsigned long long>(running_round));
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 10;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 0);
    } else if (argument == "--seconds" && i + 1 < argc) {
      seconds = std::strtod(argv[++i], nullptr);
    } else if (argument.starts_with("--")) {
      std::fprintf(stderr, "fuzz_safetensors: expected [--seed N] [--seconds N] [FILE...], got '%s'\n", argv[i]);
      return 2;
    } else {
      files.emplace_back(argument);
    }
  }
  for (const int signal : {SIGSEGV, SIGABRT, SIGILL, SIGTRAP, SIGBUS, SIGFPE}) std::signal(signal, on_end);
  if (files.empty()) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    run_mutants(seconds);
  }
  for (const std::string& path : files) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "fuzz_safetensors: cannot open %s\n", path.c_str());
      return 2;
    }
    run(std::string(std::istreambuf_iterator<char>(in), {}));
    std::printf("%s: fine\n", path.c_str());
  }
  return 0;
}
