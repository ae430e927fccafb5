// Scheduler, part 2: planning one step.
#include <algorithm>

#include "base/check.h"
#include "sched/scheduler.h"

namespace quern {

bool Scheduler::stronger(const Sequence& a, const Sequence& b) const {
  if (a.effective_class() != b.effective_class()) return a.effective_class() < b.effective_class();
  if (a.promoted) return a.arrival < b.arrival;
  if (a.priority != b.priority) return a.priority < b.priority;
  const uint64_t a_counter = accounts_.counter(a.tenant), b_counter = accounts_.counter(b.tenant);
  if (a_counter != b_counter) return a_counter < b_counter;
  return a.arrival < b.arrival;
}

// Whom to put out first: lowest class, then least urgent, then youngest (it has the least to recompute).
bool Scheduler::weaker_victim(const Sequence& a, const Sequence& b) const {
  if (a.effective_class() != b.effective_class()) return a.effective_class() > b.effective_class();
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.arrival > b.arrival;
}

Sequence* Scheduler::weakest_running() const {
  Sequence* weakest = nullptr;
  for (Sequence* s : running_) {
    if (weakest == nullptr || weaker_victim(*s, *weakest)) weakest = s;
  }
  return weakest;
}

bool Scheduler::ready(const Sequence& s) const {
  return s.leader == nullptr || s.leader->prompt_done || s.leader->state == SequenceState::kEnded;
}

std::span<const PlannedSlice> Scheduler::schedule(uint64_t now_ns) {
  CHECK(plan_.empty(), "the last plan was neither committed nor abandoned");
  now_ns_ = std::max(now_ns_, now_ns);
  planned_decodes_ = 0;
  tokens_left_ = options_.max_num_batched_tokens;
  prompt_rows_left_ = options_.max_logit_rows - options_.max_num_seqs;
  expire(now_ns_);
  promote(now_ns_);
  relieve_pressure();
  plan_decodes();
  plan_prefills(now_ns_);
  return plan_;
}

void Scheduler::expire(uint64_t now_ns) {
  for (auto* list : {&running_, &waiting_}) {
    for (size_t i = list->size(); i-- > 0;) {
      if ((*list)[i]->deadline_ns <= now_ns) finish((*list)[i], EndCause::kDeadline);
    }
  }
}

void Scheduler::promote(uint64_t now_ns) {
  if (last_promotion_ns_ != 0 && now_ns - last_promotion_ns_ < options_.promotion_interval_ns) return;
  Sequence* chosen = nullptr;
  for (Sequence* s : waiting_) {
    if (s->promoted || !ready(*s) || now_ns - s->waiting_since_ns < options_.starvation_ns) continue;
    if (chosen != nullptr) {
      const uint64_t mine = accounts_.counter(s->tenant), best = accounts_.counter(chosen->tenant);
      if (mine > best || (mine == best && s->arrival > chosen->arrival)) continue;
    }
    chosen = s;
  }
  if (chosen == nullptr) return;
  chosen->promoted = true;
  last_promotion_ns_ = now_ns;
  ++stats_.promotions;
}

// Keeps headroom for the strong: while sequences hold too many blocks and classes are mixed, the weakest goes.
void Scheduler::relieve_pressure() {
  const uint64_t bound = uint64_t{pool_->num_blocks()} * limits::kKvPressurePercent;
  while (uint64_t{pool_->held_count()} * 100 > bound) {
    Sequence* weakest = weakest_running();
    const bool mixed = std::any_of(running_.begin(), running_.end(), [&](const Sequence* s) {
      return s->priority_class < weakest->priority_class && s->effective_class() < weakest->effective_class();
    });
    if (!mixed) return;
    preempt(weakest, PreemptCause::kKvFull);
    ++stats_.pressure_evictions;
  }
}

bool Scheduler::ensure_block(Sequence* s) {
  while (s->computed_count / options_.block_size >= s->block_table.size()) {
    const auto block = pool_->allocate();
    if (block) {
      s->block_table.push_back(*block);
      continue;
    }
    Sequence* victim = weakest_running();
    preempt(victim, PreemptCause::kKvFull);
    if (victim == s) return false;
  }
  return true;
}

void Scheduler::plan_decodes() {
  order_.assign(running_.begin(), running_.end());
  std::sort(order_.begin(), order_.end(), [this](const Sequence* a, const Sequence* b) { return weaker_victim(*b, *a); });
  for (Sequence* s : order_) {
    if (s->state != SequenceState::kRunning) continue;  // preempted for a stronger one just now
    if (s->remaining_count() != 1) continue;            // still in prefill
    if (!ensure_block(s)) continue;
    plan_slice(s, 1, true);
    ++planned_decodes_;
  }
}

// Prompt logprobs: how many of `count` tokens fit this step's logit rows, and which rows they want.
uint32_t Scheduler::cap_by_rows(const Sequence& s, uint32_t count, uint32_t* row_begin, uint32_t* row_count) {
  const uint32_t begin = s.computed_count;
  const uint32_t prompt_end = s.prompt_count - 1;  // position p predicts prompt token p + 1
  // Resumed output lies behind the prompt: its row is not contiguous with the prompt's, so stop where the prompt's end.
  if (s.token_count() > s.prompt_count) count = std::min(count, prompt_end - begin);
  const uint32_t from = std::max(begin, s.prompt_rows_done);
  const uint32_t end = std::min(begin + count, prompt_end);
  uint32_t rows = end > from ? end - from : 0;
  if (rows > prompt_rows_left_) {
    rows = prompt_rows_left_;
    count = from + rows - begin;
  }
  prompt_rows_left_ -= rows;
  *row_begin = from;
  *row_count = rows;
  return count;
}

uint32_t Scheduler::plan_slice(Sequence* s, uint32_t count_max, bool decode) {
  PlannedSlice slice;
  slice.sequence = s;
  slice.begin = s->computed_count;
  slice.decode = decode;
  const uint32_t remaining = s->remaining_count();
  slice.count = std::min({count_max, remaining, tokens_left_});
  // A rest smaller than a block would cost a whole further step.
  if (!decode && remaining <= std::min(slice.count + options_.block_size, tokens_left_)) slice.count = remaining;
  if (wants_prompt_rows(*s)) slice.count = cap_by_rows(*s, slice.count, &slice.row_begin, &slice.row_count);
  CHECK(slice.count > 0, "planned nothing for a sequence");
  slice.samples = slice.begin + slice.count == s->token_count() && s->samples();
  if (slice.samples) {
    if (slice.row_count == 0) slice.row_begin = slice.begin + slice.count - 1;
    ++slice.row_count;
  }
  charge(&slice);
  s->planned = true;
  tokens_left_ -= slice.count;
  plan_.push_back(slice);
  return slice.count;
}

Sequence* Scheduler::best_prefill(bool admission_open) const {
  Sequence* best = nullptr;
  const auto consider = [&](Sequence* s) {
    if (s->planned || (wants_prompt_rows(*s) && prompt_rows_left_ == 0)) return;
    if (best == nullptr || stronger(*s, *best)) best = s;
  };
  for (Sequence* s : running_) consider(s);
  if (!admission_open) return best;
  for (Sequence* s : waiting_) {
    if (ready(*s)) consider(s);
  }
  return best;
}

void Scheduler::plan_prefills(uint64_t now_ns) {
  uint32_t budget = tokens_left_;
  if (options_.size_chunks_by_time) {
    const uint64_t target = planned_decodes_ > 0 ? options_.mixed_step_ns : options_.prefill_step_ns;
    budget = std::min(budget, cost_.prefill_budget(planned_decodes_, target));
  }
  bool admission_open = true;
  while (budget > 0 && tokens_left_ > 0) {
    Sequence* s = best_prefill(admission_open);
    if (s == nullptr) return;
    if (s->state == SequenceState::kWaiting) {
      if (!feasible(s, now_ns)) continue;
      // The best one does not fit: nobody weaker slips past it, or a large prompt would wait for ever.
      if (!admit(s, now_ns)) {
        admission_open = false;
        continue;
      }
    }
    const uint32_t count = plan_slice(s, budget, false);
    budget -= std::min(budget, count);
  }
}

// Refuses a whole request that cannot make its deadline any more, before its first prefill.
bool Scheduler::feasible(Sequence* s, uint64_t now_ns) {
  if (s->admitted_once || s->leader != nullptr || s->deadline_ns == kNoDeadline) return true;
  const Estimate verdict = estimate(*s, uncached_count(s), false, now_ns);
  if (verdict.cause == EndCause::kFinished) return true;
  const size_t before = ended_.size();
  cancel(s->request_id, verdict.cause);
  for (size_t i = before; i < ended_.size(); ++i) {
    ended_[i].estimate_ns = verdict.estimate_ns;
    ended_[i].available_ns = verdict.available_ns;
  }
  return false;
}

bool Scheduler::admit(Sequence* s, uint64_t now_ns) {
  const uint32_t size = options_.block_size;
  const uint32_t hits = find_hits(s);
  uint32_t revived = 0;
  for (uint32_t block : hits_) revived += pool_->is_free(block) ? 1 : 0;
  const uint32_t table_size = (s->token_count() + size - 1) / size;
  const uint32_t fresh = table_size - hits;
  // One spare block per running sequence, or the newcomer would be preempted as soon as they grow.
  const uint32_t wanted = fresh + revived + static_cast<uint32_t>(running_.size());
  bool stronger_runs = false;
  for (const Sequence* other : running_) {
    stronger_runs |= other->priority_class < s->priority_class && other->effective_class() < s->effective_class();
  }
  if (stronger_runs) {
    const uint64_t held_after = uint64_t{pool_->held_count()} + fresh + revived;
    if (held_after * 100 > uint64_t{pool_->num_blocks()} * limits::kKvAdmitWeakerPercent) return false;
  }
  if (running_.size() >= options_.max_num_seqs || wanted > pool_->free_count()) {
    if (!displace_for(*s, fresh + revived)) return false;
    // Displacing freed blocks, some of which may hold this very prefix; look again. It fits now with fewer running.
    return admit(s, now_ns);
  }
  for (uint32_t block : hits_) {
    pool_->ref(block);
    s->block_table.push_back(block);
  }
  while (s->block_table.size() < table_size) s->block_table.push_back(*pool_->allocate());
  s->computed_count = hits * size;
  s->published_count = hits;
  s->state = SequenceState::kRunning;
  *std::find(waiting_.begin(), waiting_.end(), s) = waiting_.back();
  waiting_.pop_back();
  running_.push_back(s);
  if (!s->admitted_once) {
    s->admitted_once = true;
    s->first_scheduled_ns = now_ns;
    s->cached_count = std::min(hits * size, s->prompt_count);
    s->charged_count = hits * size;
    stats_.prefix_query_tokens += s->prompt_count;
    stats_.prefix_hit_tokens += s->cached_count;
  } else if (s->preemptions <= kPreemptedTimesKept) {
    s->preempted[s->preemptions - 1].end_ns = now_ns;
  }
  return true;
}

// Preempts weaker sequences, weakest first, until a slot and the wanted blocks are free. Touches nothing unless that
// will succeed. Only strictly lower classes give way.
bool Scheduler::displace_for(const Sequence& s, uint32_t blocks_wanted) {
  const auto gives_way = [&](const Sequence& other) {
    return other.priority_class > s.priority_class && other.effective_class() > s.effective_class();
  };
  uint32_t victims = 0, freed = 0;
  for (const Sequence* other : running_) {
    if (!gives_way(*other)) continue;
    ++victims;
    for (uint32_t block : other->block_table) freed += pool_->ref_count(block) == 1 ? 1 : 0;
  }
  const uint32_t staying = static_cast<uint32_t>(running_.size()) - victims;
  if (victims == 0 || staying >= options_.max_num_seqs) return false;
  if (pool_->free_count() + freed < blocks_wanted + staying) return false;
  while (running_.size() >= options_.max_num_seqs ||
         pool_->free_count() < blocks_wanted + static_cast<uint32_t>(running_.size())) {
    Sequence* victim = weakest_running();
    if (victim == nullptr || !gives_way(*victim)) return false;
    preempt(victim, PreemptCause::kDisplaced);
    ++stats_.displacements;
  }
  return true;
}

}  // namespace quern
