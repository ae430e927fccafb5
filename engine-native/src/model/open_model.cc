#include "model/open_model.h"

#include <cstdio>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "weights/weight_files.h"

namespace quern {
namespace {

// Of the config's text and the weights' fingerprint.
Result<std::string> hash_model(const std::string& folder, const WeightFiles& weights) {
  Result<std::string> text = read_text_file(folder + "/config.json", limits::kConfigBytesMax);
  QUERN_RETURN_IF_ERROR(text.status());
  const uint64_t config_hash = fnv1a64(*text), weights_hash = weights.fingerprint();
  char digits[33];
  std::snprintf(digits, sizeof(digits), "%016llx%016llx", static_cast<unsigned long long>(splitmix64(config_hash)),
                static_cast<unsigned long long>(splitmix64(weights_hash ^ config_hash)));
  return std::string(digits);
}

}  // namespace

Result<OpenedModel> open_model(const std::string& folder, Backend& backend, const LoadProgress& progress) {
  Result<ModelConfig> config = read_model_config(folder);
  QUERN_RETURN_IF_ERROR(config.status());
  Result<uint32_t> token_count = defined_token_count(folder, *config);
  QUERN_RETURN_IF_ERROR(token_count.status());
  Result<std::unique_ptr<WeightFiles>> weights = WeightFiles::open(folder);
  QUERN_RETURN_IF_ERROR(weights.status());
  Result<std::string> hash = hash_model(folder, **weights);
  QUERN_RETURN_IF_ERROR(hash.status());
  Result<std::unique_ptr<Transformer>> transformer = Transformer::load(*config, **weights, backend, progress);
  QUERN_RETURN_IF_ERROR(transformer.status());
  OpenedModel model;
  model.config = *config;
  model.attention_shape = Transformer::attention_shape(*config);
  model.token_count = *token_count;
  model.parameter_count = (*transformer)->parameter_count();
  model.transformer = std::move(*transformer);
  model.model_hash = *hash;
  return model;
}

}  // namespace quern
