#include "engine_cli_runner.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "backend/backend.h"
#include "model/open_model.h"

namespace quern {
namespace {

constexpr uint32_t kBlockSize = 16;

// auto: the GPU where there is one.
Result<std::unique_ptr<Backend>> choose_backend(const std::string& name, const BackendOptions& options) {
  if (name != "auto" && name != "cpu" && name != "cuda")
    return invalid_argument("--backend: expected auto, cpu or cuda, got '" + name + "'");
  if (name == "cpu") return make_cpu_backend(options);
  Result<std::unique_ptr<Backend>> cuda = make_cuda_backend(options);
  return cuda.ok() || name == "cuda" ? std::move(cuda) : make_cpu_backend(options);
}

Status check(const RunnerOptions& options, const OpenedModel& model) {
  const uint64_t total = uint64_t{options.max_tokens} + options.ids.size();
  if (total > model.config.context_length)
    return invalid_argument("--ids and --max-tokens: " + std::to_string(total) + " tokens; the context length is " +
                            std::to_string(model.config.context_length));
  for (const uint32_t id : options.ids)
    if (id >= model.token_count)
      return invalid_argument("--ids: expected ids below " + std::to_string(model.token_count));
  return Status();
}

// One sequence whose blocks lie in order, so that the slot of a token is its position.
Result<RunnerResult> generate(const RunnerOptions& options, Transformer& transformer, uint32_t num_blocks) {
  RunnerResult result;
  result.vocabulary_size = transformer.vocabulary_size();
  std::vector<uint32_t> tokens = options.ids, positions(options.ids.size() + options.max_tokens), blocks(num_blocks);
  std::iota(positions.begin(), positions.end(), 0u);
  std::iota(blocks.begin(), blocks.end(), 0u);
  uint32_t done = 0;
  while (true) {
    const uint32_t count = static_cast<uint32_t>(tokens.size()) - done, last = count - 1;
    const SequenceSlice slice{0, count, done + count, 0};
    Batch batch;
    batch.token_ids = std::span(tokens).subspan(done, count);
    batch.positions = batch.slot_mapping = std::span(positions).subspan(done, count);
    batch.sequences = std::span(&slice, 1);
    batch.block_tables = std::span(blocks).first((done + count + kBlockSize - 1) / kBlockSize);
    batch.logit_rows = std::span(&last, 1);
    std::vector<float>& row = result.logits.emplace_back(result.vocabulary_size);
    QUERN_RETURN_IF_ERROR(transformer.forward(batch, row, nullptr));
    done += count;
    if (result.ids.size() == options.max_tokens) return result;
    result.ids.push_back(static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    tokens.push_back(result.ids.back());
  }
}

}  // namespace

Result<RunnerResult> run_directly(const RunnerOptions& options) {
  if (options.ids.empty()) return invalid_argument("--ids: expected at least one token id");
  BackendOptions backend_options;
  backend_options.isa = options.isa, backend_options.dtype = options.dtype, backend_options.threads = options.threads;
  Result<std::unique_ptr<Backend>> backend = choose_backend(options.backend, backend_options);
  QUERN_RETURN_IF_ERROR(backend.status());
  Result<OpenedModel> model = open_model(options.model_dir, **backend);
  QUERN_RETURN_IF_ERROR(model.status());
  QUERN_RETURN_IF_ERROR(check(options, *model));
  RunnerLimits limits;
  limits.max_num_tokens = static_cast<uint32_t>(options.ids.size());
  limits.max_num_seqs = 1, limits.max_logit_rows = 1, limits.block_size = kBlockSize;
  limits.context_length = limits.max_num_tokens + options.max_tokens;
  limits.num_blocks = (limits.context_length + kBlockSize - 1) / kBlockSize;
  QUERN_RETURN_IF_ERROR(model->transformer->reserve(limits, model->token_count));
  return generate(options, *model->transformer, limits.num_blocks);
}

}  // namespace quern
