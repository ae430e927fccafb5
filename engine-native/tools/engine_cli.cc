// engine_cli MODEL_DIR --ids 1,2,3: the engine without Node. Token ids in, token ids out.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <string>

#include "engine_cli_engine.h"
#include "engine_cli_runner.h"

namespace {

constexpr const char* kUsage =
    "usage: engine_cli MODEL_DIR --ids 1,2,3 [--max-tokens N] [--temperature T] [--seed S] [--dtype auto|f32|bf16]\n"
    "                  [--backend auto|cpu|cuda] [--isa auto|portable|avx2|avx512|avx512bf16] [--threads N] [--logits]\n"
    "Prints the generated ids on one line, and speed on stderr. Temperature 0 (greedy) unless told.\n"
    "--logits: without scheduler and cache, greedy; the ten best logits after the prompt and after each token.\n";

struct Arguments {
  quern::RunnerOptions run;
  float temperature = 0;
  std::optional<uint64_t> seed;
  bool logits = false;
};

std::string take_ids(const std::string& text, std::vector<uint32_t>& ids) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (part.empty() || part.size() > 9 || part.find_first_not_of("0123456789") != std::string::npos)
      return "--ids: expected numbers with commas between, got '" + part + "'";
    ids.push_back(static_cast<uint32_t>(std::strtoul(part.c_str(), nullptr, 10)));
    begin = end + 1;
  }
  return "";
}

std::string take_option(const std::string& key, const std::string& value, Arguments& arguments) {
  if (key == "--ids") return take_ids(value, arguments.run.ids);
  if (key == "--max-tokens") return arguments.run.max_tokens = static_cast<uint32_t>(std::atoi(value.c_str())), "";
  if (key == "--threads") return arguments.run.threads = static_cast<uint32_t>(std::atoi(value.c_str())), "";
  if (key == "--temperature") return arguments.temperature = std::strtof(value.c_str(), nullptr), "";
  if (key == "--seed") return arguments.seed = std::strtoull(value.c_str(), nullptr, 0), "";
  if (key == "--dtype") return arguments.run.dtype = value, "";
  if (key == "--backend") return arguments.run.backend = value, "";
  if (key == "--isa") return arguments.run.isa = value, "";
  return "unknown option '" + key + "'";
}

std::string parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--logits") {
      arguments.logits = true;
    } else if (!argument.starts_with("--")) {
      arguments.run.model_dir = argument;
    } else if (i + 1 >= argc) {
      return argument + ": expected a value";
    } else if (std::string error = take_option(argument, argv[++i], arguments); !error.empty()) {
      return error;
    }
  }
  return arguments.run.model_dir.empty() ? "expected a model folder" : "";
}

void print_ids(const std::vector<uint32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%u", i == 0 ? "" : ",", ids[i]);
  std::printf("\n");
}

void print_best(const std::vector<float>& row) {
  constexpr size_t kShown = 10;
  std::vector<uint32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0u);
  const size_t shown = std::min(kShown, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](uint32_t a, uint32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
  for (size_t i = 0; i < shown; ++i)
    std::printf("%s%u:%.6f", i == 0 ? "" : " ", order[i], static_cast<double>(row[order[i]]));
  std::printf("\n");
}

quern::Status run_with_logits(const Arguments& arguments) {
  quern::Result<quern::RunnerResult> result = quern::run_directly(arguments.run);
  QUERN_RETURN_IF_ERROR(result.status());
  for (const std::vector<float>& row : result->logits) print_best(row);
  print_ids(result->ids);
  return quern::Status();
}

quern::Status run_engine(const Arguments& arguments) {
  const quern::RunnerOptions& run = arguments.run;
  quern::EngineOptions options;
  options.model_dir = run.model_dir, options.backend = run.backend, options.isa = run.isa, options.dtype = run.dtype;
  options.threads = run.threads, options.max_num_seqs = 1;
  quern::Request request;
  request.id = 1, request.token_ids = run.ids, request.tenant = "local";
  request.sampling.max_tokens = run.max_tokens, request.sampling.temperature = arguments.temperature;
  request.sampling.seed = arguments.seed;
  quern::Result<quern::EngineRun> result = quern::run_through_engine(options, request);
  QUERN_RETURN_IF_ERROR(result.status());
  print_ids(result->ids);
  const double prefill_s = static_cast<double>(result->prefill_ns) * 1e-9;
  const double decode_s = static_cast<double>(result->decode_ns) * 1e-9;
  std::fprintf(stderr, "prompt of %zu tokens in %.3f s; %u decode steps in %.3f s (%.2f tok/s); seed %llu\n",
               run.ids.size(), prefill_s, result->decode_steps, decode_s,
               decode_s > 0 ? result->decode_steps / decode_s : 0.0, static_cast<unsigned long long>(result->seed));
  return quern::Status();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const std::string error = parse(argc, argv, arguments); !error.empty()) {
    std::fprintf(stderr, "engine_cli: %s\n%s", error.c_str(), kUsage);
    return 2;
  }
  const quern::Status status = arguments.logits ? run_with_logits(arguments) : run_engine(arguments);
  if (!status.ok()) {
    std::fprintf(stderr, "engine_cli: %s\n", status.message().c_str());
    return 1;
  }
  return 0;
}
