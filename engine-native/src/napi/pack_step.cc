#include "napi/pack_step.h"

#include <bit>
#include <cstring>

namespace quern {
namespace {

using Words = std::vector<uint32_t>;

uint32_t count(size_t value) { return static_cast<uint32_t>(value); }

void put_u64(uint64_t value, Words* words) {
  words->push_back(static_cast<uint32_t>(value));
  words->push_back(static_cast<uint32_t>(value >> 32));
}

void put_entries(std::span<const Logprob> entries, Words* words) {
  for (const Logprob& entry : entries) {
    words->insert(words->end(), {entry.token_id, std::bit_cast<uint32_t>(entry.logprob), entry.rank});
  }
}

void put_finished(const FinishedOut& end, Words* words) {
  const std::string& message = end.status.message();
  words->insert(words->end(), {static_cast<uint32_t>(end.id), static_cast<uint32_t>(end.status.code()), count(message.size())});
  put_u64(end.seed, words);
  words->insert(words->end(), {end.prompt_tokens, end.cached_tokens, end.completion_tokens, end.prefill_chunks,
                               end.decode_steps, end.preemptions});
  put_u64(end.received_unix_ns, words);
  put_u64(end.queue_ns, words);
  put_u64(end.prefill_ns, words);
  put_u64(end.decode_ns, words);
  words->push_back(count(end.choices.size()));
  for (const ChoiceEnd& choice : end.choices) {
    words->insert(words->end(), {choice.choice, static_cast<uint32_t>(choice.reason), choice.stop_token_id ? 1u : 0u,
                                 choice.stop_token_id.value_or(0)});
  }
  const size_t at = words->size();
  words->resize(at + (message.size() + 3) / 4, 0);
  if (!message.empty()) std::memcpy(words->data() + at, message.data(), message.size());
}

void put_run(const StepOut& step, Words* words) {
  const StepRun& run = step.run;
  words->push_back(run.begin_unix_ns != 0 ? 1 : 0);
  if (run.begin_unix_ns == 0) return;
  put_u64(run.begin_unix_ns, words);
  put_u64(run.forward_ns, words);
  words->insert(words->end(), {run.prefill_tokens, run.decode_tokens, run.held_blocks, count(step.slices.size())});
  for (const StepSlice& slice : step.slices) {
    words->insert(words->end(), {static_cast<uint32_t>(slice.id), slice.tokens, slice.decode ? 1u : 0u});
  }
}

void put_preempted(const StepOut& step, Words* words) {
  const size_t at = words->size();
  words->push_back(0);
  for (size_t i = 0; i < step.finished.size(); ++i) {
    for (const PreemptedOut& time : std::span(step.finished[i].preempted).first(step.finished[i].preempted_count)) {
      ++(*words)[at];
      words->push_back(count(i));
      put_u64(time.after_ns, words);
      put_u64(time.ns, words);
      words->push_back(time.displaced ? 1 : 0);
    }
  }
}

}  // namespace

void pack_step(const StepOut& step, Words* words) {
  const size_t start = words->size();
  words->insert(words->end(), {0, step.running, step.waiting, count(step.tokens.size()), count(step.prompt_logprobs.size()),
                               count(step.finished.size())});
  for (const TokenOut& token : step.tokens) {
    words->insert(words->end(), {static_cast<uint32_t>(token.id), token.choice, token.token_id, count(token.logprobs.size())});
    put_entries(token.logprobs, words);
  }
  for (const PromptLogprobsOut& prompt : step.prompt_logprobs) {
    words->insert(words->end(), {static_cast<uint32_t>(prompt.id), count(prompt.counts.size()), count(prompt.entries.size())});
    words->insert(words->end(), prompt.counts.begin(), prompt.counts.end());
    put_entries(prompt.entries, words);
  }
  for (const FinishedOut& end : step.finished) put_finished(end, words);
  put_run(step, words);
  put_preempted(step, words);
  (*words)[start] = count(words->size() - start);
}

}  // namespace quern
