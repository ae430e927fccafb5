// engine_bench MODEL_DIR: prefill and decode speed of a model on the CPU backend, without a server or a tokenizer.
//
// Every case is printed with its share of two roofs that are measured around each of its repetitions with the same
// number of threads: reading 1 GiB, and a multiply-add loop in registers. The loop runs with the instruction that the kernels
// use (%used) and with the best one that this processor has for weights of this type (%best): the two differ where --isa
// asked for less than there is. Shares compare best with best: the fastest step with the fastest probe; tok/s is of the
// median step. %cpu is operations per CPU second against the loop in use: what the kernels would reach if nobody else took
// the processors. Decode starts at an empty context unless --depth says
// otherwise (the cache's contents do not matter to its speed). Sampling and tokenising are excluded.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cpu/cpu_topology.h"
#include "engine_bench_host.h"
#include "engine_bench_roofs.h"
#include "model/open_model.h"

namespace quern::bench {
namespace {

constexpr const char* kUsage =
    "usage: engine_bench MODEL_DIR [--threads N] [--dtype auto|f32|bf16] [--isa auto|portable|avx2|avx512|avx512bf16]\n"
    "                    [--prompt 128,512] [--batch 1,8,16] [--generate 64] [--depth 0] [--repeat 3] [--json FILE]\n"
    "An empty list leaves that kind of case out.\n";
constexpr double kForeignLoadWarning = 0.1;

struct Arguments {
  std::string model, json;
  BackendOptions backend;
  std::vector<uint32_t> prompts = {128, 512}, batches = {1, 8, 16};
  uint32_t generate = 64, depth = 0, repeat = 3;
};

std::vector<uint32_t> parse_list(const std::string& text) {
  std::vector<uint32_t> numbers;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const uint32_t number = static_cast<uint32_t>(std::strtoul(text.substr(begin, end - begin).c_str(), nullptr, 10));
    if (number > 0) numbers.push_back(number);
    begin = end + 1;
  }
  return numbers;
}

// Returns an error sentence, or empty.
std::string parse(int argc, char** argv, Arguments& a) {
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (!key.starts_with("--")) {
      if (!a.model.empty()) return "expected one model folder, got '" + key + "' as well";
      a.model = key;
      continue;
    }
    if (i + 1 >= argc) return key + ": expected a value";
    const std::string value = argv[++i];
    const uint32_t number = static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
    if (key == "--threads") a.backend.threads = number;
    else if (key == "--dtype") a.backend.dtype = value;
    else if (key == "--isa") a.backend.isa = value;
    else if (key == "--prompt") a.prompts = parse_list(value);
    else if (key == "--batch") a.batches = parse_list(value);
    else if (key == "--generate") a.generate = std::max(1u, number);
    else if (key == "--depth") a.depth = number;
    else if (key == "--repeat") a.repeat = std::max(1u, number);
    else if (key == "--json") a.json = value;
    else return "unknown option '" + key + "'";
  }
  return a.model.empty() ? "expected a model folder" : "";
}

// A batch of `num_seqs` sequences with `query_count` new tokens each after `context` earlier ones, and its arrays.
struct OwnedBatch {
  std::vector<uint32_t> token_ids, positions, slots, block_tables, logit_rows;
  std::vector<SequenceSlice> sequences;

  OwnedBatch(uint32_t num_seqs, uint32_t query_count, uint32_t context, uint32_t vocabulary, uint32_t block_size,
             uint32_t blocks_per_seq) {
    const uint32_t blocks = (context + query_count + block_size - 1) / block_size;
    for (uint32_t s = 0; s < num_seqs; ++s) {
      sequences.push_back({s * query_count, query_count, context + query_count, s * blocks});
      for (uint32_t b = 0; b < blocks; ++b) block_tables.push_back(s * blocks_per_seq + b);
      for (uint32_t i = 0; i < query_count; ++i) {
        const uint32_t position = context + i;
        positions.push_back(position);
        slots.push_back(s * blocks_per_seq * block_size + position);
        token_ids.push_back((position * 7919u + s * 104729u) % vocabulary);
      }
      logit_rows.push_back((s + 1) * query_count - 1);
    }
  }
  Batch view() const { return {token_ids, positions, slots, sequences, block_tables, logit_rows}; }
};

struct Case {
  std::string name;
  uint32_t batch;
  uint32_t prompt;    // > 0: prefill of so many tokens
  uint32_t generate;  // > 0: so many decode steps
};

struct Measured {
  double tokens_per_s = 0;         // by the median step
  double best_tokens_per_s = 0;    // by the fastest step, as the roofs are
  double bytes_per_s = 0, flops = 0;  // of the fastest step
  double read_roof = 0, compute_roof = 0;  // best of the probes around them
  double best_roof = 0;                    // of the best instruction, whether or not it is used
  cpu::Isa best_isa = cpu::Isa::kPortable;
  double compute_share_cpu = 0;            // operations per CPU second of this process, as a share of the loop's
  double foreign_cpus = 0;
};

// Whose multiply-add the kernels use: f32 weights have no dot product.
cpu::Isa isa_in_use(const BackendInfo& info, cpu::Isa chosen) {
  return chosen == cpu::Isa::kAvx512Bf16 && !info.narrows_activations ? cpu::Isa::kAvx512 : chosen;
}

// Whose multiply-adds this processor could use: vectors of any width, and the dot product for bf16 weights. The portable
// loop is never better than AVX2's.
std::vector<cpu::Isa> usable_isas(const BackendInfo& info, cpu::Isa in_use) {
  std::vector<cpu::Isa> usable = {in_use};
  for (const cpu::Isa isa : cpu::kEveryIsa) {
    const bool fits = isa != cpu::Isa::kPortable && (isa != cpu::Isa::kAvx512Bf16 || info.weight_type == "bf16");
    if (fits && isa != in_use && cpu::isa_supported(isa)) usable.push_back(isa);
  }
  return usable;
}

class Bench {
 public:
  Bench(const Arguments& arguments, OpenedModel& model, const BackendInfo& info, cpu::Isa in_use, Roofs& roofs)
      : arguments_(arguments), model_(model), info_(info), usable_(usable_isas(info, in_use)), roofs_(roofs) {}

  Status reserve(const std::vector<Case>& cases);
  Measured measure(const Case& c);

 private:
  // One repetition; appends the seconds of each of its steps.
  void run_once(const Case& c, std::vector<double>& seconds);
  double probe_compute(Measured& result);
  void count(const Case& c, uint32_t context, double* bytes, double* operations) const;

  const Arguments& arguments_;
  OpenedModel& model_;
  const BackendInfo& info_;
  const std::vector<cpu::Isa> usable_;  // the one in use first
  Roofs& roofs_;
  RunnerLimits limits_;
  uint32_t blocks_per_seq_ = 0;
  std::vector<float> logits_;
};

Status Bench::reserve(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    limits_.max_num_tokens = std::max(limits_.max_num_tokens, std::max(c.prompt, c.batch));
    limits_.max_num_seqs = std::max(limits_.max_num_seqs, c.batch);
    limits_.context_length = std::max(limits_.context_length, c.prompt + c.generate + arguments_.depth);
  }
  limits_.max_logit_rows = limits_.max_num_seqs;
  blocks_per_seq_ = (limits_.context_length + limits_.block_size - 1) / limits_.block_size;
  limits_.num_blocks = blocks_per_seq_ * limits_.max_num_seqs;
  logits_.resize(size_t{limits_.max_logit_rows} * model_.transformer->vocabulary_size());
  return model_.transformer->reserve(limits_, model_.token_count);
}

// Weights once, K and V of the context once per step; two operations per multiply-add.
void Bench::count(const Case& c, uint32_t context, double* bytes, double* operations) const {
  const ModelConfig& m = model_.config;
  const double q = double{1} * m.num_q_heads * m.head_dim, kv = double{1} * m.num_kv_heads * m.head_dim;
  const double body = m.num_layers * (m.hidden_size * (2 * q + 2 * kv) + 3.0 * m.hidden_size * m.ffn_size);
  const double head = double{1} * m.hidden_size * m.vocabulary_size;
  const double tokens = c.prompt > 0 ? c.prompt : c.batch;
  const double seen = c.prompt > 0 ? c.prompt * (c.prompt + 1) / 2.0 : double{1} * c.batch * context;
  const double kv_width = info_.weight_type == "f32" ? 4 : 2;
  *bytes += static_cast<double>(info_.weight_bytes) + m.num_layers * 2 * kv * kv_width * (c.prompt > 0 ? c.prompt : seen);
  *operations += 2 * (body * tokens + head * c.batch) + m.num_layers * 4 * q * seen;
}

void Bench::run_once(const Case& c, std::vector<double>& seconds) {
  const uint32_t steps = c.prompt > 0 ? 1 : c.generate;
  for (uint32_t i = 0; i < steps; ++i) {
    const uint32_t context = c.prompt > 0 ? 0 : arguments_.depth + i;
    const OwnedBatch batch(c.batch, c.prompt > 0 ? c.prompt : 1, context, model_.token_count, limits_.block_size, blocks_per_seq_);
    const auto start = std::chrono::steady_clock::now();
    const Status status = model_.transformer->forward(batch.view(), logits_, nullptr);
    CHECK(status.ok(), status.message().c_str());
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

// The roofs by the clock go into `result`; returns the one in use by CPU time.
double Bench::probe_compute(Measured& result) {
  for (size_t i = 1; i < usable_.size(); ++i) {
    const double rate = roofs_.multiply_add_rate(usable_[i]);
    if (rate > result.best_roof) result.best_roof = rate, result.best_isa = usable_[i];
  }
  const double before = process_cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  const double rate = roofs_.multiply_add_rate(usable_[0]);
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.compute_roof = std::max(result.compute_roof, rate);
  if (rate > result.best_roof) result.best_roof = rate, result.best_isa = usable_[0];
  return rate * wall / std::max(process_cpu_seconds() - before, 1e-9);
}

Measured Bench::measure(const Case& c) {
  Measured result;
  std::vector<double> seconds;
  run_once(c, seconds);  // warm-up
  seconds.clear();
  const ForeignLoad load;
  double cpu_s = 1e9, roof_per_cpu_s = 0;
  for (uint32_t i = 0; i <= arguments_.repeat; ++i) {
    result.read_roof = std::max(result.read_roof, roofs_.read_bandwidth());
    roof_per_cpu_s = std::max(roof_per_cpu_s, probe_compute(result));
    if (i == arguments_.repeat) break;
    const double before = process_cpu_seconds();
    run_once(c, seconds);
    cpu_s = std::min(cpu_s, (process_cpu_seconds() - before) / std::max(1u, c.generate));
  }
  std::sort(seconds.begin(), seconds.end());
  const double tokens = c.prompt > 0 ? c.prompt : c.batch;
  result.tokens_per_s = tokens / seconds[seconds.size() / 2];
  result.best_tokens_per_s = tokens / seconds[0];
  double bytes = 0, operations = 0;
  count(c, arguments_.depth + c.generate / 2, &bytes, &operations);
  result.bytes_per_s = bytes / seconds[0];
  result.flops = operations / seconds[0];
  result.compute_share_cpu = operations / cpu_s / roof_per_cpu_s;
  result.foreign_cpus = load.foreign_cpus();
  return result;
}

void print_host(const Host& host, const BackendInfo& info, const OpenedModel& model) {
  std::printf("cpu        %s (%s)\n", host.cpu_model.c_str(), host.cpu_flags.c_str());
  std::printf("load       %s\n", host.load_average.c_str());
  std::printf("commit     %s\n", host.commit.c_str());
  std::printf("backend    %s, isa %s, weights and KV %s, %u threads\n", info.name.c_str(), info.isa.c_str(),
              info.weight_type.c_str(), info.threads);
  std::printf("model      %s, %.1f M parameters, %.1f MB of weights\n\n", model.model_hash.c_str(),
              static_cast<double>(model.parameter_count) * 1e-6, static_cast<double>(info.weight_bytes) * 1e-6);
}

void print_case(const Case& c, const Measured& m, const Arguments& arguments, const BackendInfo& info, const Host& host,
                std::FILE* json) {
  const double gb_s = m.bytes_per_s * 1e-9, gflop_s = m.flops * 1e-9;
  const double read_roof = m.read_roof * 1e-9, compute_roof = m.compute_roof * 1e-9, best_roof = m.best_roof * 1e-9;
  std::printf("%-7s %5u %9.1f %9.1f %8.1f %6.1f %9.1f %7.1f %7.1f %7.1f   %9.1f %9.1f %9.1f %-10s %7.2f\n", c.name.c_str(),
              c.batch, m.tokens_per_s, m.best_tokens_per_s, gb_s, 100 * gb_s / read_roof, gflop_s, 100 * gflop_s / compute_roof,
              100 * gflop_s / best_roof, 100 * m.compute_share_cpu, read_roof, compute_roof, best_roof,
              cpu::isa_name(m.best_isa), m.foreign_cpus);
  if (json == nullptr) return;
  std::fprintf(json, "{\"benchmark\":\"engine\",\"case\":\"%s\",\"batch\":%u,\"depth\":%u,", c.name.c_str(), c.batch,
               c.prompt > 0 ? 0 : arguments.depth);
  std::fprintf(json, "\"tok_s\":%.3f,\"best_tok_s\":%.3f,\"gb_s\":%.3f,\"gflop_s\":%.3f,", m.tokens_per_s,
               m.best_tokens_per_s, gb_s, gflop_s);
  std::fprintf(json, "\"read_roof_gb_s\":%.3f,\"fma_roof_gflop_s\":%.3f,\"fma_share_of_cpu_time\":%.4f,\"foreign_cpus\":%.3f,",
               read_roof, compute_roof, m.compute_share_cpu, m.foreign_cpus);
  std::fprintf(json, "\"best_roof_gflop_s\":%.3f,\"best_roof_isa\":\"%s\",", best_roof, cpu::isa_name(m.best_isa));
  std::fprintf(json, "\"isa\":\"%s\",\"dtype\":\"%s\",\"threads\":%u,\"cpu\":\"%s\",\"load\":\"%s\",\"commit\":\"%s\"}\n",
               info.isa.c_str(), info.weight_type.c_str(), info.threads, host.cpu_model.c_str(), host.load_average.c_str(),
               host.commit.c_str());
}

Status run(const Arguments& arguments) {
  Result<std::unique_ptr<Backend>> backend = make_cpu_backend(arguments.backend);
  QUERN_RETURN_IF_ERROR(backend.status());
  Result<OpenedModel> model = open_model(arguments.model, **backend);
  QUERN_RETURN_IF_ERROR(model.status());
  std::vector<Case> cases;
  for (uint32_t prompt : arguments.prompts) cases.push_back({"pp" + std::to_string(prompt), 1, prompt, 0});
  for (uint32_t batch : arguments.batches) cases.push_back({"tg" + std::to_string(arguments.generate), batch, 0, arguments.generate});
  const BackendInfo info = (*backend)->info();
  Result<cpu::Isa> isa = cpu::choose_isa(info.isa);
  QUERN_RETURN_IF_ERROR(isa.status());
  Result<std::unique_ptr<cpu::ThreadPool>> pool =
      cpu::ThreadPool::create(info.threads, cpu::processors_to_pin(cpu::read_topology(), info.threads));
  QUERN_RETURN_IF_ERROR(pool.status());
  (*pool)->adopt_caller();
  Result<Roofs> roofs = Roofs::create(**pool);
  QUERN_RETURN_IF_ERROR(roofs.status());
  const cpu::Isa in_use = isa_in_use(info, *isa);
  Bench bench(arguments, *model, info, in_use, *roofs);
  QUERN_RETURN_IF_ERROR(bench.reserve(cases));
  std::FILE* json = arguments.json.empty() ? nullptr : std::fopen(arguments.json.c_str(), "ae");
  if (!arguments.json.empty() && json == nullptr) return failed_precondition("--json: cannot write to " + arguments.json);
  const Host host = read_host();
  print_host(host, info, *model);
  std::printf("multiply-adds as %s; shares also of the best instruction this processor has for %s weights\n", cpu::isa_name(in_use),
              info.weight_type.c_str());
  if (host.cpu_flags.find("amx_bf16") != std::string::npos) {
    std::printf("note: AMX is not used, and no roof here includes it\n");
  }
  std::printf("case    batch     tok/s      best     GB/s  %%read   GFLOP/s   %%used   %%best    %%cpu   read roof used roof best roof "
              "with       foreign\n");
  bool disturbed = false;
  for (const Case& c : cases) {
    const Measured measured = bench.measure(c);
    print_case(c, measured, arguments, info, host, json);
    disturbed |= measured.foreign_cpus > kForeignLoadWarning;
  }
  if (json != nullptr) std::fclose(json);
  if (disturbed) {
    std::printf("\nwarning: other processes took more than %.1f processors; compare shares, not speeds\n", kForeignLoadWarning);
  }
  return Status::ok_status();
}

}  // namespace
}  // namespace quern::bench

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  quern::bench::Arguments arguments;
  if (const std::string error = quern::bench::parse(argc, argv, arguments); !error.empty()) {
    std::fprintf(stderr, "engine_bench: %s\n%s", error.c_str(), quern::bench::kUsage);
    return 2;
  }
  if (const quern::Status status = quern::bench::run(arguments); !status.ok()) {
    std::fprintf(stderr, "engine_bench: %s\n", status.message().c_str());
    return 1;
  }
  return 0;
}
