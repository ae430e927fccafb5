#include "engine/step_buffer.h"

#include <utility>

namespace quern {

StepBuffer::StepBuffer(uint32_t max_num_seqs, uint32_t max_live) {
  tokens_.reserve(max_num_seqs);
  token_logprobs_.reserve(max_num_seqs);
  logprobs_.reserve(size_t{max_num_seqs} * (kLogprobsTopMax + 1));
  prompts_.reserve(max_num_seqs);
  finished_.reserve(max_live);
  finished_choices_.reserve(max_live);
  choices_.reserve(max_live);
  slices_.reserve(max_num_seqs);
}

void StepBuffer::clear() {
  tokens_.clear();
  token_logprobs_.clear();
  logprobs_.clear();
  prompts_.clear();
  finished_.clear();
  finished_choices_.clear();
  choices_.clear();
  run_ = {};
  slices_.clear();
}

void StepBuffer::add_token(uint64_t id, uint32_t choice, uint32_t token_id, const std::vector<RankedLogprob>& logprobs) {
  token_logprobs_.push_back({logprobs_.size(), logprobs.size()});
  for (const RankedLogprob& entry : logprobs) logprobs_.push_back({entry.token_id, entry.logprob, entry.rank});
  tokens_.push_back({id, choice, token_id, {}});
}

void StepBuffer::add_prompt_logprobs(const PromptLogprobsOut& prompt) { prompts_.push_back(prompt); }

void StepBuffer::add_finished(FinishedOut finished, const std::vector<ChoiceEnd>& choices) {
  finished_choices_.push_back({choices_.size(), choices.size()});
  choices_.insert(choices_.end(), choices.begin(), choices.end());
  finished_.push_back(std::move(finished));
}

StepOut StepBuffer::view(uint32_t running, uint32_t waiting) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    tokens_[i].logprobs = std::span(logprobs_).subspan(token_logprobs_[i].begin, token_logprobs_[i].count);
  }
  for (size_t i = 0; i < finished_.size(); ++i) {
    finished_[i].choices = std::span(choices_).subspan(finished_choices_[i].begin, finished_choices_[i].count);
  }
  return {tokens_, prompts_, finished_, running, waiting, run_, slices_};
}

}  // namespace quern
