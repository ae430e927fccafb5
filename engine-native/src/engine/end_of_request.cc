#include "engine/end_of_request.h"

#include <algorithm>

#include "sched/limits.h"

namespace quern {
namespace {

std::string ms(uint64_t ns) { return std::to_string((ns + limits::kNsPerMs / 2) / limits::kNsPerMs) + " ms"; }

Status deadline_status(const LiveRequest& live) {
  bool ran = false;
  for (const Sequence& s : live.choices) ran |= s.admitted_once;
  if (ran) return Status();  // it delivered what it could; the reason says the rest
  return Status(Code::kDeadlineExceeded,
                "request.timeout_ms: the deadline passed while the request waited; it never ran. Send it with more time, or to a "
                "replica with a shorter queue");
}

Status infeasible_status(const EndedSequence& ended) {
  return Status(Code::kDeadlineExceeded, "request.timeout_ms: expected at least " + ms(ended.estimate_ns) +
                                             " to compute the prompt at the measured speed, got " + ms(ended.available_ns) +
                                             "; refused before prefill");
}

Status overloaded_status(const EndedSequence& ended) {
  return resource_exhausted("the queue ahead holds " + std::to_string(ended.tokens_ahead) + " tokens: about " +
                            ms(ended.estimate_ns) + " to the first token, the deadline leaves " + ms(ended.available_ns) +
                            "; retry later or on another replica");
}

void note_preempted(const LiveRequest& live, uint64_t now_ns, FinishedOut* out) {
  for (const Sequence& s : live.choices) {
    const uint32_t kept = std::min(s.preemptions, kPreemptedTimesKept);
    for (uint32_t i = 0; i < kept && out->preempted_count < kPreemptedOutMax; ++i) {
      const PreemptedTime& time = s.preempted[i];
      const uint64_t end_ns = time.end_ns != 0 ? time.end_ns : now_ns;
      out->preempted[out->preempted_count++] = {time.begin_ns - std::min(time.begin_ns, live.arrival_ns),
                                                end_ns - std::min(end_ns, time.begin_ns), time.cause == PreemptCause::kDisplaced};
    }
  }
}

}  // namespace

void note_end(LiveRequest* live, const EndedSequence& ended) {
  FinishReason reason = FinishReason::kCancelled;
  if (!live->status.ok()) {
    reason = FinishReason::kError;  // the engine failed it and told the scheduler to drop it
    if (live->status.code() == Code::kDeadlineExceeded) reason = FinishReason::kDeadline;
  }
  switch (ended.cause) {
    case EndCause::kFinished:
    case EndCause::kCancelled:
      break;
    case EndCause::kDeadline:
      reason = FinishReason::kDeadline;
      if (live->status.ok()) live->status = deadline_status(*live);
      break;
    case EndCause::kInfeasible:
      reason = FinishReason::kDeadline;
      if (live->status.ok()) live->status = infeasible_status(ended);
      break;
    case EndCause::kOverloaded:
      reason = FinishReason::kError;
      if (live->status.ok()) live->status = overloaded_status(ended);
      break;
    case EndCause::kSuperseded:
      reason = FinishReason::kSuperseded;
      break;
  }
  live->ends.push_back({ended.sequence->choice, reason, std::nullopt});
}

std::string sample_error_sentence(SampleError error, uint32_t output_count) {
  const std::string at = " at output token " + std::to_string(output_count);
  switch (error) {
    case SampleError::kNan:
      return "the model gave NaN logits" + at;
    case SampleError::kInfinite:
      return "the model gave an infinite logit" + at;
    case SampleError::kAllMasked:
      return "no token is allowed" + at + ": logit_bias and masks exclude the whole vocabulary";
    case SampleError::kNone:
      break;
  }
  return "";
}

FinishedOut finished_out(const LiveRequest& live, uint64_t now_ns) {
  FinishedOut out;
  out.id = live.id;
  out.status = live.status;
  out.prompt_tokens = live.prompt_count;
  out.seed = live.sampler.seed;
  out.received_unix_ns = live.received_unix_ns;
  uint64_t first_token_ns = 0, last_token_ns = 0;
  for (const Sequence& s : live.choices) {
    out.completion_tokens += s.output_count();
    out.prefill_chunks += s.prefill_chunks;
    out.decode_steps += s.decode_steps;
    out.preemptions += s.preemptions;
    if (s.first_token_ns != 0 && (first_token_ns == 0 || s.first_token_ns < first_token_ns)) first_token_ns = s.first_token_ns;
    last_token_ns = std::max(last_token_ns, s.last_token_ns);
  }
  const Sequence& first = live.choices.front();
  out.cached_tokens = first.cached_count;
  if (!first.admitted_once) {
    out.queue_ns = now_ns > live.arrival_ns ? now_ns - live.arrival_ns : 0;
    return out;
  }
  out.queue_ns = first.first_scheduled_ns > live.arrival_ns ? first.first_scheduled_ns - live.arrival_ns : 0;
  const uint64_t prefill_end = first_token_ns != 0 ? first_token_ns : now_ns;
  out.prefill_ns = prefill_end > first.first_scheduled_ns ? prefill_end - first.first_scheduled_ns : 0;
  out.decode_ns = last_token_ns > first_token_ns ? last_token_ns - first_token_ns : 0;
  note_preempted(live, now_ns, &out);
  return out;
}

}  // namespace quern
