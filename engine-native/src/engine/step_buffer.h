// StepBuffer: what one step tells the world, gathered in memory that is reused from step to step.
//
// Spans of StepOut point into vectors that may grow while a step is gathered, so entries hold offsets until view().
// Thread safety: none; the engine thread owns it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "sample/sampler.h"

namespace quern {

class StepBuffer {
 public:
  // Sized so that steps within these bounds do not allocate.
  StepBuffer(uint32_t max_num_seqs, uint32_t max_live);

  void clear();
  bool empty() const { return tokens_.empty() && prompts_.empty() && finished_.empty() && run_.begin_unix_ns == 0; }
  // The model ran: what with, and for whom. Slices are added one by one.
  void set_run(const StepRun& run) { run_ = run; }
  void add_slice(const StepSlice& slice) { slices_.push_back(slice); }
  // `logprobs` is copied.
  void add_token(uint64_t id, uint32_t choice, uint32_t token_id, const std::vector<RankedLogprob>& logprobs);
  // Borrows the spans until the next clear().
  void add_prompt_logprobs(const PromptLogprobsOut& prompt);
  // `choices` is copied, the spans of `finished` are set by view().
  void add_finished(FinishedOut finished, const std::vector<ChoiceEnd>& choices);
  // Valid until the next change.
  StepOut view(uint32_t running, uint32_t waiting);

 private:
  struct Range {
    size_t begin = 0, count = 0;
  };
  std::vector<TokenOut> tokens_;
  std::vector<Range> token_logprobs_;   // per token, into logprobs_
  std::vector<Logprob> logprobs_;
  std::vector<PromptLogprobsOut> prompts_;
  std::vector<FinishedOut> finished_;
  std::vector<Range> finished_choices_; // per finished, into choices_
  std::vector<ChoiceEnd> choices_;
  StepRun run_;
  std::vector<StepSlice> slices_;
};

}  // namespace quern
