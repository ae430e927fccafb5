#include "engine/engine_loop.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/admit_request.h"
#include "engine/end_of_request.h"
#include "engine/inbox.h"
#include "engine/limits.h"
#include "engine/rate_window.h"
#include "engine/step_batch.h"
#include "engine/step_buffer.h"
#include "sample/sampler.h"

namespace quern {
namespace {

SchedulerOptions scheduler_options(const EngineParts& parts, const Inbox& inbox) {
  SchedulerOptions options;
  options.block_size = parts.limits.block_size;
  options.max_num_seqs = parts.limits.max_num_seqs;
  options.max_num_batched_tokens = parts.limits.max_num_tokens;
  options.max_logit_rows = parts.limits.max_logit_rows;
  options.max_live_sequences = inbox.max_live();
  options.max_tenants = inbox.max_tenants();
  options.size_chunks_by_time = parts.size_chunks_by_time;
  return options;
}

RequestBounds request_bounds(const EngineParts& parts) {
  return {parts.limits.context_length, parts.num_ids, parts.limits.block_size, parts.prefix_cache, parts.info.eos_token_ids};
}

class EngineLoop final : public Engine {
 public:
  EngineLoop(EngineParts parts, StepCallback on_step);
  ~EngineLoop() override { close(); }

  const ModelInfo& info() const override { return parts_.info; }
  Status submit(Request request) override;
  void cancel(uint64_t id) override { inbox_.cancel(id); }
  Load load() const override;
  void drain() override { inbox_.drain(); }
  void close() override;

 private:
  void run();
  void take_mail(bool block);
  bool step();
  bool run_plan(std::span<const PlannedSlice> plan);
  void note_run(std::span<const PlannedSlice> plan, uint64_t begin_unix_ns, uint64_t forward_ns);
  void fail_plan(std::span<const PlannedSlice> plan, const Status& status);
  void sample_plan();
  bool sample_prompt_rows(const PlannedSlice& slice, std::span<const float> rows);
  void sample_last_row(const PlannedSlice& slice, std::span<float> row);
  void fail_request(LiveRequest* live, const std::string& message);
  void end_choice(Sequence* s, FinishReason reason, std::optional<uint32_t> stop_id);
  void collect_ended();
  void finish_request(LiveRequest* live);
  void deliver();
  void publish_load();

  EngineParts parts_;
  StepCallback on_step_;
  SystemClock system_clock_;
  Clock* clock_;
  PrefixHasher hasher_;
  RequestBounds bounds_;
  Inbox inbox_;
  BlockPool pool_;
  Scheduler scheduler_;
  Sampler sampler_;
  StepBuffer buffer_;
  StepBatch batch_;
  std::atomic<uint64_t> arrivals_{0};

  // Engine thread only.
  Inbox::Mail mail_;
  std::vector<std::unique_ptr<LiveRequest>> owned_;
  std::vector<std::unique_ptr<LiveRequest>> over_;      // finished in this step; freed after delivery
  std::vector<LiveRequest*> batch_requests_;
  std::vector<PlannedSlice> plan_;                      // a copy: commit() clears the scheduler's
  std::vector<float> logits_;                           // [max_logit_rows, vocabulary]
  std::vector<RankedLogprob> ranked_;
  uint64_t now_ns_ = 0;
  uint32_t failed_steps_ = 0;  // in a row
  bool closing_ = false;

  RateWindow generated_rate_, prompt_rate_;
  mutable std::mutex load_mutex_;
  Load load_;
  std::mutex close_mutex_;
  std::thread thread_;
};

EngineLoop::EngineLoop(EngineParts parts, StepCallback on_step)
    : parts_(std::move(parts)), on_step_(std::move(on_step)), clock_(parts_.clock ? parts_.clock : &system_clock_),
      hasher_(PrefixHasher::with_random_key()), bounds_(request_bounds(parts_)),
      inbox_(parts_.limits.max_num_seqs, parts_.info.max_waiting), pool_(parts_.limits.num_blocks),
      scheduler_(scheduler_options(parts_, inbox_), &pool_, &hasher_),
      sampler_(parts_.runner->vocabulary_size(), parts_.num_ids),
      buffer_(parts_.limits.max_num_seqs, inbox_.max_live()), batch_(parts_.limits) {
  logits_.resize(size_t{parts_.limits.max_logit_rows} * parts_.runner->vocabulary_size());
  mail_.submits.reserve(inbox_.max_live());
  mail_.cancels.reserve(inbox_.max_live());
  owned_.reserve(inbox_.max_live());
  over_.reserve(inbox_.max_live());
  batch_requests_.reserve(parts_.limits.max_num_seqs);
  plan_.reserve(parts_.limits.max_num_seqs);
  ranked_.reserve(kLogprobsTopMax + 1);
  load_.num_blocks = load_.free_blocks = pool_.num_blocks();
  load_.last_step_unix_ns = clock_->unix_ns();
  thread_ = std::thread([this] { run(); });
}

Status EngineLoop::submit(Request request) {
  auto admitted = admit_request(std::move(request), bounds_, hasher_);
  if (!admitted.ok()) return admitted.status();
  std::unique_ptr<LiveRequest> live = std::move(admitted).value();
  live->arrival_ns = clock_->now_ns();
  live->received_unix_ns = clock_->unix_ns();
  const uint32_t timeout_ms = live->timeout_ms.value_or(0);
  const uint64_t first = arrivals_.fetch_add(live->choices.size());
  for (Sequence& s : live->choices) {
    s.arrival = first + s.choice;
    s.arrival_ns = live->arrival_ns;
    if (timeout_ms > 0) s.deadline_ns = live->arrival_ns + timeout_ms * limits::kNsPerMs;
  }
  return inbox_.submit(std::move(live));
}

void EngineLoop::close() {
  std::lock_guard lock(close_mutex_);
  if (!thread_.joinable()) return;
  CHECK(thread_.get_id() != std::this_thread::get_id(), "close() was called from the step callback");
  inbox_.close();
  thread_.join();
}

Load EngineLoop::load() const {
  const Inbox::Counts counts = inbox_.counts();
  std::lock_guard lock(load_mutex_);
  Load out = load_;
  out.waiting += counts.waiting;
  out.waiting_prompt_tokens = static_cast<uint32_t>(
      std::min<uint64_t>(out.waiting_prompt_tokens + counts.waiting_tokens, UINT32_MAX));
  out.draining = counts.draining;
  return out;
}

void EngineLoop::run() {
  bool idle = true;
  for (;;) {
    take_mail(idle);
    if (closing_) {
      for (const auto& live : owned_) scheduler_.cancel(live->id, EndCause::kCancelled);
      collect_ended();
      plan_.clear();
      publish_load();
      deliver();
      CHECK(owned_.empty(), "a request outlived close()");
      return;
    }
    idle = !step();
    if (parts_.check_integrity) {
      const std::string violation = scheduler_.check_integrity();
      CHECK(violation.empty(), violation.c_str());
    }
  }
}

void EngineLoop::take_mail(bool block) {
  inbox_.take(&mail_, block);
  closing_ = mail_.closing;
  now_ns_ = clock_->now_ns();
  for (auto& incoming : mail_.submits) {
    LiveRequest* live = incoming.get();
    live->owner_index = static_cast<uint32_t>(owned_.size());
    owned_.push_back(std::move(incoming));
    if (live->tenant_is_new) scheduler_.accounts().reset(live->tenant_slot);
    if (live->born_ended) {
      live->ends.push_back({0, *live->born_ended, live->born_stop_id});
      finish_request(live);
      continue;
    }
    scheduler_.add(live->choices, now_ns_);
  }
  for (uint64_t id : mail_.cancels) scheduler_.cancel(id, EndCause::kCancelled);
}

// One step. False when there is nothing to do until mail comes.
bool EngineLoop::step() {
  const auto planned = scheduler_.schedule(now_ns_);
  plan_.assign(planned.begin(), planned.end());
  inbox_.note_waiting(scheduler_.waiting_count());
  collect_ended();
  if (!plan_.empty()) {
    deliver();  // refusals and cancels do not wait for the model
    if (run_plan(plan_)) sample_plan();
    collect_ended();
  }
  const bool live = scheduler_.running_count() + scheduler_.waiting_count() > 0;
  CHECK(!plan_.empty() || !live, "live sequences, but the scheduler planned nothing");
  publish_load();
  deliver();
  return live;
}

bool EngineLoop::run_plan(std::span<const PlannedSlice> plan) {
  batch_requests_.clear();
  for (const PlannedSlice& slice : plan) batch_requests_.push_back(static_cast<LiveRequest*>(slice.sequence->owner));
  inbox_.begin_batch(batch_requests_);
  const Batch& batch = batch_.build(plan);
  const std::span<float> logits = std::span(logits_).first(batch.logit_rows.size() * parts_.runner->vocabulary_size());
  const uint64_t begin_unix_ns = clock_->unix_ns();
  const uint64_t begin_ns = clock_->now_ns();
  const Status status = parts_.runner->forward(batch, logits, inbox_.interrupt());
  now_ns_ = clock_->now_ns();
  const bool interrupted = inbox_.interrupt()->load(std::memory_order_relaxed);
  inbox_.end_batch(batch_requests_);
  if (status.ok()) {
    failed_steps_ = 0;
    note_run(plan, begin_unix_ns, now_ns_ - begin_ns);
    scheduler_.commit(now_ns_ - begin_ns);
    return true;
  }
  scheduler_.abandon();
  // An interrupted step has nobody left to wait for it; anything else is the model's failure.
  if (status.code() == Code::kCancelled && interrupted) return false;
  fail_plan(plan, status);
  CHECK(++failed_steps_ < limits::kFailedStepsMax, "every step of the model fails; the process must be restarted");
  return false;
}

void EngineLoop::note_run(std::span<const PlannedSlice> plan, uint64_t begin_unix_ns, uint64_t forward_ns) {
  StepRun run{begin_unix_ns, forward_ns, 0, 0, pool_.held_count()};
  for (const PlannedSlice& slice : plan) {
    (slice.decode ? run.decode_tokens : run.prefill_tokens) += slice.count;
    buffer_.add_slice({slice.sequence->request_id, slice.count, slice.decode});
  }
  buffer_.set_run(run);
}

void EngineLoop::fail_plan(std::span<const PlannedSlice> plan, const Status& status) {
  std::fprintf(stderr, "quern engine: a step failed: %s\n", status.message().c_str());
  for (const PlannedSlice& slice : plan) {
    LiveRequest* live = static_cast<LiveRequest*>(slice.sequence->owner);
    if (live->status.ok()) fail_request(live, "the model's step failed: " + status.message());
  }
}

void EngineLoop::fail_request(LiveRequest* live, const std::string& message) {
  live->status = internal_error(message);
  scheduler_.cancel(live->id, EndCause::kCancelled);
}

void EngineLoop::sample_plan() {
  const size_t columns = parts_.runner->vocabulary_size();
  size_t row = 0;
  uint64_t generated = 0, computed = 0;
  for (const PlannedSlice& slice : plan_) {
    const std::span<float> rows = std::span(logits_).subspan(row * columns, slice.row_count * columns);
    row += slice.row_count;
    Sequence* s = slice.sequence;
    if (!slice.decode) computed += slice.count;
    if (s->state == SequenceState::kEnded) continue;  // another choice of its request failed just now
    if (!sample_prompt_rows(slice, rows)) continue;
    if (slice.samples) {
      ++generated;
      sample_last_row(slice, rows.last(columns));
    } else if (s->remaining_count() == 0 && !s->samples()) {
      end_choice(s, FinishReason::kLength, std::nullopt);
    }
  }
  generated_rate_.add(now_ns_, generated);
  prompt_rate_.add(now_ns_, computed);
}

bool EngineLoop::sample_prompt_rows(const PlannedSlice& slice, std::span<const float> rows) {
  Sequence* s = slice.sequence;
  LiveRequest* live = static_cast<LiveRequest*>(s->owner);
  if (!s->prompt_logprobs || live->prompt_logprobs_sent) return true;
  const size_t columns = parts_.runner->vocabulary_size();
  const uint32_t prompt_rows = slice.row_count - (slice.samples ? 1 : 0);
  for (uint32_t i = 0; i < prompt_rows; ++i) {
    sampler_.keep_raw(rows.subspan(i * columns, columns));
    ranked_.clear();
    const uint32_t target = s->tokens[slice.row_begin + i + 1];
    if (!sampler_.logprobs(target, *live->prompt_logprobs, &ranked_)) {
      fail_request(live, "the model gave no finite logits at prompt position " + std::to_string(slice.row_begin + i));
      return false;
    }
    for (const RankedLogprob& entry : ranked_) live->prompt_entries.push_back({entry.token_id, entry.logprob, entry.rank});
    live->prompt_counts.push_back(static_cast<uint32_t>(ranked_.size()));
  }
  if (live->prompt_counts.size() + 1 == s->prompt_count) {
    live->prompt_logprobs_sent = true;
    buffer_.add_prompt_logprobs({live->id, live->prompt_entries, live->prompt_counts});
  }
  return true;
}

void EngineLoop::sample_last_row(const PlannedSlice& slice, std::span<float> row) {
  Sequence* s = slice.sequence;
  LiveRequest* live = static_cast<LiveRequest*>(s->owner);
  if (live->logprobs) sampler_.keep_raw(row);
  const Sampled sampled = sampler_.sample(row, live->sampler, {s->tokens, s->prompt_count, s->choice});
  if (sampled.error != SampleError::kNone) {
    fail_request(live, sample_error_sentence(sampled.error, s->output_count()));
    return;
  }
  ranked_.clear();
  if (live->logprobs) (void)sampler_.logprobs(sampled.token_id, *live->logprobs, &ranked_);
  s->tokens.push_back(sampled.token_id);
  if (s->first_token_ns == 0) s->first_token_ns = now_ns_;
  s->last_token_ns = now_ns_;
  buffer_.add_token(live->id, s->choice, sampled.token_id, ranked_);
  if (live->is_stop(sampled.token_id)) {  // never before min_tokens: until then stop ids are masked
    end_choice(s, FinishReason::kStop, sampled.token_id);
  } else if (!s->samples()) {
    end_choice(s, FinishReason::kLength, std::nullopt);
  }
}

void EngineLoop::end_choice(Sequence* s, FinishReason reason, std::optional<uint32_t> stop_id) {
  LiveRequest* live = static_cast<LiveRequest*>(s->owner);
  live->ends.push_back({s->choice, reason, stop_id});
  scheduler_.finish(s, EndCause::kFinished);
}

void EngineLoop::collect_ended() {
  for (const EndedSequence& ended : scheduler_.ended()) {
    LiveRequest* live = static_cast<LiveRequest*>(ended.sequence->owner);
    if (ended.cause != EndCause::kFinished) note_end(live, ended);
    if (++live->ended_count == live->choices.size()) finish_request(live);
  }
  scheduler_.clear_ended();
}

void EngineLoop::finish_request(LiveRequest* live) {
  buffer_.add_finished(finished_out(*live, now_ns_), live->ends);
  std::unique_ptr<LiveRequest> owner = std::move(owned_[live->owner_index]);
  if (live->owner_index + 1 != owned_.size()) {
    owned_[live->owner_index] = std::move(owned_.back());
    owned_[live->owner_index]->owner_index = live->owner_index;
  }
  owned_.pop_back();
  over_.push_back(std::move(owner));
}

void EngineLoop::deliver() {
  // Forgotten first: whoever hears of the end may use the id again.
  for (const auto& live : over_) inbox_.forget(*live);
  if (!buffer_.empty()) {
    on_step_(buffer_.view(scheduler_.running_count(), scheduler_.waiting_count()));
    buffer_.clear();
  }
  over_.clear();
}

void EngineLoop::publish_load() {
  const SchedulerStats& stats = scheduler_.stats();
  inbox_.note_waiting(scheduler_.waiting_count());
  std::lock_guard lock(load_mutex_);
  load_.running = scheduler_.running_count();
  load_.waiting = scheduler_.waiting_count();
  load_.waiting_prompt_tokens = static_cast<uint32_t>(std::min<uint64_t>(scheduler_.waiting_prompt_tokens(), UINT32_MAX));
  load_.free_blocks = pool_.free_count();
  load_.cached_blocks = pool_.cached_count();
  load_.generation_tokens_per_s = generated_rate_.per_second(now_ns_);
  load_.prompt_tokens_per_s = prompt_rate_.per_second(now_ns_);
  load_.preemptions = stats.preemptions;
  load_.prefix_query_tokens = stats.prefix_query_tokens;
  load_.prefix_hit_tokens = stats.prefix_hit_tokens;
  if (!plan_.empty()) {
    ++load_.steps;
    load_.last_step_unix_ns = clock_->unix_ns();
  }
}

}  // namespace

std::unique_ptr<Engine> make_engine(EngineParts parts, Engine::StepCallback on_step) {
  return std::make_unique<EngineLoop>(std::move(parts), std::move(on_step));
}

}  // namespace quern
