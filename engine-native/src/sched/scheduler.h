// Scheduler: which tokens of which sequences run in the next step. Integers only; time comes in as nanoseconds.
//
// One token budget per step. Every decode goes first; what is left is filled with prefill chunks in the order
//   (promoted, priority class, integer priority, tenant with the lowest token counter, arrival).
// A prefill chunk is sized by measured time, so that a long prompt never holds up the decodes beside it.
// Blocks for a sequence's present tokens are taken when it is admitted, so prefill cannot run out half-way. Decode can:
// then the weakest running sequence (lowest class, youngest) is preempted, its blocks freed, its tokens recomputed later.
// A waiting sequence displaces running ones only of strictly lower class.
//
// Thread safety: none; the engine thread owns it. Invariants: a sequence given to add() is reported in ended() exactly
// once; a running sequence has blocks for all its present tokens; nothing allocates between construction and end, but
// in the sequences' own pre-reserved arrays.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/block_pool.h"
#include "cache/prefix_hasher.h"
#include "sched/cost_model.h"
#include "sched/limits.h"
#include "sched/sequence.h"
#include "sched/tenant_accounts.h"

namespace quern {

struct SchedulerOptions {
  uint32_t block_size = 16;
  uint32_t max_num_seqs = 16;
  uint32_t max_num_batched_tokens = 512;  // >= max_num_seqs
  uint32_t max_logit_rows = 48;           // > max_num_seqs; the excess serves prompt logprobs
  uint32_t max_live_sequences = 1024;     // running and waiting; the caller keeps this bound
  uint32_t max_tenants = 4096;
  bool size_chunks_by_time = true;        // false: fill the token budget
  uint64_t mixed_step_ns = limits::kMixedStepNs;
  uint64_t prefill_step_ns = limits::kPrefillStepNs;
  uint64_t starvation_ns = limits::kStarvationNs;
  uint64_t promotion_interval_ns = limits::kPromotionIntervalNs;
};

struct SchedulerStats {
  uint64_t preemptions = 0, promotions = 0, displacements = 0, pressure_evictions = 0, interrupted_steps = 0;
  uint64_t prefix_query_tokens = 0, prefix_hit_tokens = 0;
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, BlockPool* pool, const PrefixHasher* hasher);

  // The choices of one request, choice 0 first. Ends older requests with the same supersede key; refuses all choices
  // (they appear in ended()) when the deadline has passed or cannot be met.
  void add(std::span<Sequence> choices, uint64_t now_ns);
  // Ends all choices of a request that are still live. Unknown ids are ignored.
  void cancel(uint64_t request_id, EndCause cause);
  // Ends one live sequence.
  void finish(Sequence* sequence, EndCause cause);

  // Plans the next step. Empty when nothing is live. Must be followed by commit() or abandon() when not empty.
  std::span<const PlannedSlice> schedule(uint64_t now_ns);
  // The planned step ran: its tokens' KV is valid from now on; full blocks become findable.
  void commit(uint64_t step_ns);
  // The planned step did not run, or was interrupted: nothing of it counts.
  void abandon();

  // Sequences that ended since clear_ended().
  std::span<const EndedSequence> ended() const { return ended_; }
  void clear_ended() { ended_.clear(); }

  uint32_t running_count() const { return static_cast<uint32_t>(running_.size()); }
  uint32_t waiting_count() const { return static_cast<uint32_t>(waiting_.size()); }
  uint64_t waiting_prompt_tokens() const;
  const SchedulerStats& stats() const { return stats_; }
  TenantAccounts& accounts() { return accounts_; }
  CostModel& cost() { return cost_; }

  // Empty when all invariants hold (the pool's included), else the first violation. For tests and debug builds.
  std::string check_integrity() const;

 private:
  struct Estimate {
    EndCause cause = EndCause::kFinished;  // kFinished: feasible
    uint64_t estimate_ns = 0, available_ns = 0;
    uint32_t tokens_ahead = 0;
  };

  bool stronger(const Sequence& a, const Sequence& b) const;
  bool weaker_victim(const Sequence& a, const Sequence& b) const;
  Sequence* weakest_running() const;
  bool ready(const Sequence& s) const;
  bool wants_prompt_rows(const Sequence& s) const {
    return s.prompt_logprobs && s.prompt_rows_done + 1 < s.prompt_count;
  }

  void expire(uint64_t now_ns);
  void promote(uint64_t now_ns);
  void relieve_pressure();
  void plan_decodes();
  void plan_prefills(uint64_t now_ns);
  Sequence* best_prefill(bool admission_open) const;
  bool admit(Sequence* s, uint64_t now_ns);
  bool displace_for(const Sequence& s, uint32_t blocks_wanted);
  uint32_t find_hits(Sequence* s);
  void extend_chain(Sequence* s, uint32_t block_index);
  bool ensure_block(Sequence* s);
  uint32_t plan_slice(Sequence* s, uint32_t count_max, bool decode);
  uint32_t cap_by_rows(const Sequence& s, uint32_t count, uint32_t* row_begin, uint32_t* row_count);
  void unplan(Sequence* s);
  void preempt(Sequence* victim, PreemptCause cause);
  void release_blocks(Sequence* s);
  void charge(PlannedSlice* slice);
  void refund(const PlannedSlice& slice);
  bool feasible(Sequence* s, uint64_t now_ns);
  Estimate estimate(const Sequence& s, uint32_t uncached, bool with_queue, uint64_t now_ns) const;
  uint32_t uncached_count(Sequence* s);
  void remember_end(Sequence* s, const EndedSequence& ended);

  SchedulerOptions options_;
  BlockPool* pool_;
  const PrefixHasher* hasher_;
  Hash128 public_salt_;
  CostModel cost_;
  TenantAccounts accounts_;
  SchedulerStats stats_;
  std::vector<Sequence*> running_, waiting_;  // sets; order is decided when planning
  std::vector<Sequence*> order_;              // scratch: running, strongest first
  std::vector<PlannedSlice> plan_;
  std::vector<EndedSequence> ended_;
  std::vector<uint32_t> hits_;                // scratch: blocks found for the sequence being admitted
  uint64_t now_ns_ = 0;
  uint64_t last_promotion_ns_ = 0;
  uint32_t tokens_left_ = 0;       // of this step's budget
  uint32_t prompt_rows_left_ = 0;  // of this step's logit rows
  uint32_t planned_decodes_ = 0;
};

}  // namespace quern
