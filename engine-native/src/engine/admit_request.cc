#include "engine/admit_request.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "engine/limits.h"

namespace quern {
namespace {

std::string text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", value);
  return buffer;
}

Status expected(const char* path, const std::string& wanted, const std::string& got) {
  return invalid_argument(std::string(path) + ": expected " + wanted + ", got " + got);
}

Status check_range(const char* path, float value, bool inside, const char* wanted) {
  if (inside && std::isfinite(value)) return Status();
  return expected(path, wanted, text(static_cast<double>(value)));
}

Status check_count(const char* path, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return Status();
  return expected(path, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
}

Status check_ids(const char* path, std::span<const uint32_t> ids, uint32_t num_ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= num_ids) {
      const std::string element = std::string(path) + "[" + std::to_string(i) + "]";
      return expected(element.c_str(), "an id below " + std::to_string(num_ids), std::to_string(ids[i]));
    }
  }
  return Status();
}

Status check_penalties(const SamplingParams& s) {
  QUERN_RETURN_IF_ERROR(check_range("request.sampling.repetition_penalty", s.repetition_penalty,
                                    s.repetition_penalty > 0 && s.repetition_penalty <= limits::kPenaltyAbsMax, "(0, 2]"));
  QUERN_RETURN_IF_ERROR(check_range("request.sampling.frequency_penalty", s.frequency_penalty,
                                    std::abs(s.frequency_penalty) <= limits::kPenaltyAbsMax, "[-2, 2]"));
  return check_range("request.sampling.presence_penalty", s.presence_penalty,
                     std::abs(s.presence_penalty) <= limits::kPenaltyAbsMax, "[-2, 2]");
}

Status check_logit_bias(const SamplingParams& s, uint32_t num_ids) {
  QUERN_RETURN_IF_ERROR(check_count("request.sampling.logit_bias: entries", s.logit_bias.size(), 0, limits::kLogitBiasMax));
  for (const auto& [id, bias] : s.logit_bias) {
    const std::string path = "request.sampling.logit_bias[" + std::to_string(id) + "]";
    if (id >= num_ids) return expected(path.c_str(), "an id below " + std::to_string(num_ids), std::to_string(id));
    QUERN_RETURN_IF_ERROR(check_range(path.c_str(), bias, std::abs(bias) <= limits::kLogitBiasAbsMax, "[-100, 100]"));
  }
  return Status();
}

Status check_sampling(const SamplingParams& s, const RequestBounds& bounds) {
  QUERN_RETURN_IF_ERROR(check_count("request.sampling.max_tokens", s.max_tokens, 0, bounds.context_length));
  QUERN_RETURN_IF_ERROR(check_count("request.sampling.min_tokens", s.min_tokens, 0, s.max_tokens));
  QUERN_RETURN_IF_ERROR(check_range("request.sampling.temperature", s.temperature,
                                    s.temperature >= 0 && s.temperature <= limits::kTemperatureMax, "[0, 2]"));
  QUERN_RETURN_IF_ERROR(check_range("request.sampling.top_p", s.top_p, s.top_p > 0 && s.top_p <= 1, "(0, 1]"));
  QUERN_RETURN_IF_ERROR(check_range("request.sampling.min_p", s.min_p, s.min_p >= 0 && s.min_p < 1, "[0, 1)"));
  QUERN_RETURN_IF_ERROR(check_penalties(s));
  QUERN_RETURN_IF_ERROR(check_logit_bias(s, bounds.num_ids));
  QUERN_RETURN_IF_ERROR(
      check_count("request.sampling.stop_token_ids: entries", s.stop_token_ids.size(), 0, limits::kStopTokenIdsMax));
  QUERN_RETURN_IF_ERROR(check_ids("request.sampling.stop_token_ids", s.stop_token_ids, bounds.num_ids));
  QUERN_RETURN_IF_ERROR(check_count("request.sampling.logprobs", s.logprobs.value_or(0), 0, limits::kLogprobsMax));
  QUERN_RETURN_IF_ERROR(
      check_count("request.sampling.prompt_logprobs", s.prompt_logprobs.value_or(0), 0, limits::kLogprobsMax));
  QUERN_RETURN_IF_ERROR(check_count("request.sampling.n", s.n, 1, limits::kChoicesMax));
  if (s.max_tokens == 0 && s.n > 1) return expected("request.sampling.n", "1 with max_tokens 0", std::to_string(s.n));
  return Status();
}

Status check_names(const Request& r) {
  const std::array<std::pair<const char*, const std::string*>, 4> names{{{"request.tenant", &r.tenant},
                                                                         {"request.cache_salt", &r.cache_salt},
                                                                         {"request.supersede_key", &r.supersede_key},
                                                                         {"request.principal", &r.principal}}};
  for (const auto& [path, name] : names) {
    if (name->size() <= limits::kNameBytesMax) continue;
    return expected(path, "at most " + std::to_string(limits::kNameBytesMax) + " bytes", std::to_string(name->size()));
  }
  return Status();
}

Status check_tokens(const Request& r, const RequestBounds& bounds) {
  if (r.token_ids.empty()) return expected("request.token_ids", "at least 1 token", "none");
  const uint64_t wanted = r.token_ids.size() + (r.sampling.max_tokens > 0 ? 1 : 0);
  if (wanted > bounds.context_length) {
    return expected("request.token_ids",
                    "at most " + std::to_string(bounds.context_length - (r.sampling.max_tokens > 0 ? 1 : 0)) +
                        " tokens (context length " + std::to_string(bounds.context_length) +
                        (r.sampling.max_tokens > 0 ? " less one to generate)" : ")"),
                    std::to_string(r.token_ids.size()));
  }
  QUERN_RETURN_IF_ERROR(check_ids("request.token_ids", r.token_ids, bounds.num_ids));
  const uint64_t room = std::min<uint64_t>(r.sampling.max_tokens, bounds.context_length - r.token_ids.size());
  if (r.resume_token_ids.size() > room) {
    return expected("request.resume_token_ids", "at most " + std::to_string(room) + " tokens (what max_tokens allows)",
                    std::to_string(r.resume_token_ids.size()));
  }
  QUERN_RETURN_IF_ERROR(check_ids("request.resume_token_ids", r.resume_token_ids, bounds.num_ids));
  if (!r.resume_token_ids.empty() && r.sampling.n > 1) {
    return expected("request.resume_token_ids", "none with n above 1", std::to_string(r.resume_token_ids.size()));
  }
  return check_count("request.public_prefix_tokens", r.public_prefix_tokens, 0, r.token_ids.size());
}

Status check_request(const Request& r, const RequestBounds& bounds) {
  QUERN_RETURN_IF_ERROR(check_sampling(r.sampling, bounds));
  QUERN_RETURN_IF_ERROR(check_tokens(r, bounds));
  QUERN_RETURN_IF_ERROR(check_names(r));
  QUERN_RETURN_IF_ERROR(check_count("request.priority_class", static_cast<uint64_t>(r.priority_class), 1, 6));
  if (r.timeout_ms) return check_count("request.timeout_ms", *r.timeout_ms, 1, limits::kTimeoutMsMax);
  return Status();
}

SamplerSettings sampler_settings(SamplingParams&& s, const std::vector<uint32_t>& eos_token_ids) {
  SamplerSettings out;
  out.temperature = s.temperature;
  out.top_p = s.top_p;
  out.top_k = s.top_k;
  out.min_p = s.min_p;
  out.repetition_penalty = s.repetition_penalty;
  out.frequency_penalty = s.frequency_penalty;
  out.presence_penalty = s.presence_penalty;
  out.min_tokens = s.min_tokens;
  out.logit_bias = std::move(s.logit_bias);
  out.stop_ids = std::move(s.stop_token_ids);
  if (!s.ignore_eos) out.stop_ids.insert(out.stop_ids.end(), eos_token_ids.begin(), eos_token_ids.end());
  out.seed = s.seed.value_or(0);
  if (!s.seed) CHECK(getrandom(&out.seed, sizeof out.seed, 0) == sizeof out.seed, "the system's random source failed");
  return out;
}

// Resumed output may already be complete: then nothing must run.
void mark_if_complete(LiveRequest* live, uint32_t token_limit) {
  const Sequence& s = live->choices.front();
  if (s.output_count() == 0) return;
  const uint32_t last = s.tokens.back();
  if (live->is_stop(last) && s.output_count() > live->sampler.min_tokens) {
    live->born_ended = FinishReason::kStop;
    live->born_stop_id = last;
  } else if (s.token_count() >= token_limit) {
    live->born_ended = FinishReason::kLength;
  }
}

}  // namespace

Result<std::unique_ptr<LiveRequest>> admit_request(Request r, const RequestBounds& bounds, const PrefixHasher& hasher) {
  QUERN_RETURN_IF_ERROR(check_request(r, bounds));
  auto live = std::make_unique<LiveRequest>();
  live->id = r.id;
  live->tenant = r.tenant;
  live->timeout_ms = r.timeout_ms;
  live->prompt_count = static_cast<uint32_t>(r.token_ids.size());
  live->resumed_count = static_cast<uint32_t>(r.resume_token_ids.size());
  live->logprobs = r.sampling.logprobs;
  live->prompt_logprobs = r.sampling.prompt_logprobs;
  const uint32_t n = r.sampling.n;
  const uint32_t token_limit =
      live->prompt_count + std::min(r.sampling.max_tokens, bounds.context_length - live->prompt_count);
  if (live->prompt_logprobs) {
    live->prompt_entries.reserve(size_t{live->prompt_count} * (*live->prompt_logprobs + 1));
    live->prompt_counts.reserve(live->prompt_count);
  }
  Hash128 supersede;
  if (!r.supersede_key.empty()) {
    const std::array<std::string_view, 4> parts{"supersede", r.tenant, r.principal, r.supersede_key};
    supersede = hasher.name(parts);
  }
  live->sampler = sampler_settings(std::move(r.sampling), bounds.eos_token_ids);
  live->ends.reserve(n);
  live->choices.resize(n);
  const size_t blocks = (size_t{token_limit} + bounds.block_size - 1) / bounds.block_size;
  for (uint32_t c = 0; c < n; ++c) {
    Sequence& s = live->choices[c];
    s.owner = live.get();
    s.request_id = r.id;
    s.choice = c;
    s.priority_class = static_cast<uint8_t>(r.priority_class);
    s.priority = r.priority;
    s.supersede = supersede;
    s.salt = hasher.salt(r.tenant, r.cache_salt);
    s.public_prefix_tokens = r.public_prefix_tokens;
    s.prompt_logprobs = c == 0 && live->prompt_logprobs.has_value();
    s.may_hit = bounds.prefix_cache;
    s.leader = c > 0 ? &live->choices.front() : nullptr;
    s.prompt_count = live->prompt_count;
    s.token_limit = token_limit;
    s.tokens.reserve(token_limit);
    s.tokens.assign(r.token_ids.begin(), r.token_ids.end());
    s.tokens.insert(s.tokens.end(), r.resume_token_ids.begin(), r.resume_token_ids.end());
    s.block_table.reserve(blocks);
    s.chain.reserve(blocks);
  }
  mark_if_complete(live.get(), token_limit);
  return live;
}

}  // namespace quern
