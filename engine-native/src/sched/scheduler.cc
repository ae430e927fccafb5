// Scheduler, part 1: how sequences come, end and advance. Planning is in scheduler_plan.cc.
#include "sched/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace quern {

Scheduler::Scheduler(const SchedulerOptions& options, BlockPool* pool, const PrefixHasher* hasher)
    : options_(options), pool_(pool), hasher_(hasher), public_salt_(hasher->public_salt()), accounts_(options.max_tenants) {
  CHECK(options.block_size > 0, "block_size: expected at least 1");
  CHECK(options.max_num_seqs > 0, "max_num_seqs: expected at least 1");
  CHECK(options.max_num_batched_tokens >= options.max_num_seqs, "the token budget must hold one decode per sequence");
  CHECK(options.max_logit_rows > options.max_num_seqs, "logit rows: expected more than max_num_seqs");
  running_.reserve(options.max_num_seqs);
  order_.reserve(options.max_num_seqs);
  plan_.reserve(options.max_num_seqs);
  waiting_.reserve(options.max_live_sequences);
  ended_.reserve(options.max_live_sequences);
  hits_.reserve(pool->num_blocks());
}

void Scheduler::extend_chain(Sequence* s, uint32_t block_index) {
  const uint32_t size = options_.block_size;
  while (s->chain.size() <= block_index) {
    const uint32_t i = static_cast<uint32_t>(s->chain.size());
    const Hash128 parent = i == 0 ? Hash128{} : s->chain[i - 1];
    const bool shared = (i + 1) * size <= s->public_prefix_tokens;
    s->chain.push_back(hasher_->extend(parent, shared ? public_salt_ : s->salt,
                                       std::span<const uint32_t>(s->tokens).subspan(i * size, size)));
  }
}

uint32_t Scheduler::find_hits(Sequence* s) {
  hits_.clear();
  if (!s->may_hit) return 0;
  // The last token must run to give logits; prompt positions whose logits are wanted must run, too.
  const uint32_t cap = wants_prompt_rows(*s) ? s->prompt_rows_done : s->token_count() - 1;
  for (uint32_t i = 0; (i + 1) * options_.block_size <= cap; ++i) {
    extend_chain(s, i);
    const auto block = pool_->find(s->chain[i]);
    if (!block) break;
    hits_.push_back(*block);
  }
  return static_cast<uint32_t>(hits_.size());
}

uint32_t Scheduler::uncached_count(Sequence* s) { return s->token_count() - find_hits(s) * options_.block_size; }

Scheduler::Estimate Scheduler::estimate(const Sequence& s, uint32_t uncached, bool with_queue, uint64_t now_ns) const {
  Estimate out;
  if (s.deadline_ns == kNoDeadline || !cost_.trusted()) return out;
  out.available_ns = s.deadline_ns > now_ns ? s.deadline_ns - now_ns : 0;
  const auto misses = [&](uint64_t ns) { return ns / 100 * limits::kInfeasiblePercent > out.available_ns; };
  out.estimate_ns = cost_.prefill_ns(uncached);
  if (misses(out.estimate_ns)) {
    out.cause = EndCause::kInfeasible;
    return out;
  }
  if (!with_queue) return out;
  // What certainly goes first: prefill of stronger classes, and of the tenant's own earlier requests of the same class.
  uint64_t ahead = 0;
  for (const auto* list : {&running_, &waiting_}) {
    for (const Sequence* other : *list) {
      const bool before = other->effective_class() < s.priority_class ||
                          (other->priority_class == s.priority_class && other->tenant == s.tenant &&
                           other->priority <= s.priority && other->arrival < s.arrival);
      if (before && other->leader == nullptr && other->remaining_count() > 1) ahead += other->remaining_count();
    }
  }
  const uint64_t total_ns = cost_.prefill_ns(ahead + uncached);
  if (!misses(total_ns)) return out;
  out.cause = EndCause::kOverloaded;
  out.estimate_ns = total_ns;
  out.tokens_ahead = static_cast<uint32_t>(std::min<uint64_t>(ahead, UINT32_MAX));
  return out;
}

void Scheduler::remember_end(Sequence* s, const EndedSequence& ended) {
  CHECK(s->state != SequenceState::kEnded, "a sequence ended twice");
  s->state = SequenceState::kEnded;
  ended_.push_back(ended);
}

void Scheduler::add(std::span<Sequence> choices, uint64_t now_ns) {
  CHECK(!choices.empty(), "a request has at least one choice");
  now_ns_ = std::max(now_ns_, now_ns);
  Sequence& first = choices.front();
  if (!first.supersede.is_zero()) {
    // The end reorders both lists: start again after each hit.
    for (bool found = true; found;) {
      found = false;
      for (const auto* list : {&running_, &waiting_}) {
        const auto it = std::find_if(list->begin(), list->end(), [&](const Sequence* s) {
          return s->supersede == first.supersede && s->arrival < first.arrival && s->request_id != first.request_id;
        });
        if (it == list->end()) continue;
        finish(*it, EndCause::kSuperseded);
        found = true;
        break;
      }
    }
  }
  Estimate verdict;
  if (first.deadline_ns <= now_ns_) {
    verdict.cause = EndCause::kDeadline;
  } else {
    verdict = estimate(first, uncached_count(&first), true, now_ns_);
  }
  for (Sequence& s : choices) {
    CHECK(s.state == SequenceState::kNew, "a sequence was added twice");
    CHECK(s.token_count() > 0 && s.token_count() <= s.token_limit, "tokens: expected 1 to token_limit");
    if (verdict.cause != EndCause::kFinished) {
      remember_end(&s, {&s, verdict.cause, verdict.estimate_ns, verdict.available_ns, verdict.tokens_ahead});
      continue;
    }
    CHECK(running_.size() + waiting_.size() < options_.max_live_sequences, "more live sequences than agreed");
    s.state = SequenceState::kWaiting;
    s.waiting_since_ns = now_ns_;
    accounts_.enter(s.tenant);
    waiting_.push_back(&s);
  }
}

void Scheduler::release_blocks(Sequence* s) {
  // Last to first: tails enter the free list earlier and are reused before heads.
  for (size_t i = s->block_table.size(); i-- > 0;) pool_->unref(s->block_table[i]);
  s->block_table.clear();
  s->computed_count = 0;
  s->published_count = 0;
}

void Scheduler::finish(Sequence* s, EndCause cause) {
  CHECK(!s->planned, "a sequence ended while its step runs");
  auto& list = s->state == SequenceState::kRunning ? running_ : waiting_;
  const auto it = std::find(list.begin(), list.end(), s);
  CHECK(it != list.end(), "ended a sequence that is not live");
  *it = list.back();
  list.pop_back();
  release_blocks(s);
  accounts_.leave(s->tenant);
  remember_end(s, {s, cause, 0, 0, 0});
}

void Scheduler::cancel(uint64_t request_id, EndCause cause) {
  for (auto* list : {&running_, &waiting_}) {
    for (size_t i = list->size(); i-- > 0;) {
      // finish() moves the last entry here; walking downwards has seen it already.
      if ((*list)[i]->request_id == request_id) finish((*list)[i], cause);
    }
  }
}

void Scheduler::preempt(Sequence* victim, PreemptCause cause) {
  CHECK(victim->state == SequenceState::kRunning, "preempted a sequence that does not run");
  if (victim->planned) unplan(victim);
  const auto it = std::find(running_.begin(), running_.end(), victim);
  *it = running_.back();
  running_.pop_back();
  release_blocks(victim);
  victim->state = SequenceState::kWaiting;
  victim->waiting_since_ns = now_ns_;
  if (victim->preemptions < kPreemptedTimesKept) victim->preempted[victim->preemptions] = {now_ns_, 0, cause};
  ++victim->preemptions;
  ++stats_.preemptions;
  waiting_.push_back(victim);
}

// Tokens that were charged before (recomputed after a preemption) or came from the prefix cache are free.
void Scheduler::charge(PlannedSlice* slice) {
  Sequence* s = slice->sequence;
  const uint32_t end = slice->begin + slice->count;
  slice->charged_before = s->charged_count;
  if (end <= s->charged_count) return;
  const uint64_t unit = s->prompt_done ? limits::kDecodeTokenCost : limits::kPrefillTokenCost;
  slice->cost = unit * (end - std::max(slice->begin, s->charged_count));
  s->charged_count = end;
  accounts_.charge(s->tenant, slice->cost);
}

void Scheduler::refund(const PlannedSlice& slice) {
  accounts_.refund(slice.sequence->tenant, slice.cost);
  slice.sequence->charged_count = slice.charged_before;
}

void Scheduler::unplan(Sequence* s) {
  const auto it = std::find_if(plan_.begin(), plan_.end(), [s](const PlannedSlice& p) { return p.sequence == s; });
  CHECK(it != plan_.end(), "a planned sequence is not in the plan");
  refund(*it);
  tokens_left_ += it->count;
  if (it->decode) --planned_decodes_;
  plan_.erase(it);
  s->planned = false;
}

void Scheduler::commit(uint64_t step_ns) {
  uint32_t decodes = 0, prefill_tokens = 0;
  for (const PlannedSlice& slice : plan_) (slice.decode ? decodes : prefill_tokens) += slice.count;
  cost_.observe(decodes, prefill_tokens, step_ns);
  for (const PlannedSlice& slice : plan_) {
    Sequence* s = slice.sequence;
    s->planned = false;
    const uint32_t end = slice.begin + slice.count;
    CHECK(s->computed_count == slice.begin, "a planned sequence moved while its step ran");
    s->computed_count = end;
    if (slice.begin < s->prompt_count && !s->prompt_done) ++s->prefill_chunks;
    if (s->prompt_done) ++s->decode_steps;
    if (wants_prompt_rows(*s)) s->prompt_rows_done = std::min(end, s->prompt_count - 1);
    if (end >= s->prompt_count) s->prompt_done = true;
    if (!s->may_hit) continue;
    for (; (s->published_count + 1) * options_.block_size <= end; ++s->published_count) {
      extend_chain(s, s->published_count);
      // False when a twin was faster; then this block stays private to the sequence.
      (void)pool_->publish(s->block_table[s->published_count], s->chain[s->published_count]);
    }
  }
  plan_.clear();
}

void Scheduler::abandon() {
  for (const PlannedSlice& slice : plan_) {
    slice.sequence->planned = false;
    refund(slice);
  }
  plan_.clear();
  ++stats_.interrupted_steps;
}

uint64_t Scheduler::waiting_prompt_tokens() const {
  uint64_t total = 0;
  for (const Sequence* s : waiting_) total += s->leader == nullptr ? s->remaining_count() : 0;
  return total;
}

std::string Scheduler::check_integrity() const {
  std::vector<uint32_t> holders(pool_->num_blocks(), 0);
  std::vector<uint32_t> active(accounts_.capacity(), 0);
  for (const Sequence* s : running_) {
    if (s->state != SequenceState::kRunning) return "a sequence in the running set is not running";
    if (s->block_table.size() * options_.block_size < s->computed_count) return "computed tokens without a block";
    for (uint32_t block : s->block_table) ++holders[block];
    ++active[s->tenant];
  }
  for (const Sequence* s : waiting_) {
    if (s->state != SequenceState::kWaiting) return "a sequence in the waiting set is not waiting";
    if (!s->block_table.empty() || s->computed_count != 0) return "a waiting sequence holds blocks";
    ++active[s->tenant];
  }
  if (running_.size() > options_.max_num_seqs) return "more running sequences than max_num_seqs";
  for (uint32_t t = 0; t < active.size(); ++t) {
    if (accounts_.active_count(t) != active[t]) return "tenant " + std::to_string(t) + "'s active count is wrong";
  }
  return pool_->check_integrity(holders);
}

}  // namespace quern
