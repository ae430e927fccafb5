// Sequence: one choice of one request, as the scheduler sees it. Integers only.
//
//   tokens       [prompt | generated]; reserved to token_limit at submit, so appending does not allocate
//   block_table  blocks that hold the KV of tokens [0, computed_count) and room for the tokens being computed
//   chain        chain hash of each full block computed so far; longer than the table's published part after preemption
//
// Life: held (a further choice, until choice 0 computed the prompt) -> waiting -> running <-> waiting (preempted) -> ended.
// Memory belongs to the engine's request; the scheduler links it until it reports the end.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cache/hash128.h"

namespace quern {

inline constexpr uint64_t kNoDeadline = UINT64_MAX;

enum class SequenceState : uint8_t { kNew, kWaiting, kRunning, kEnded };

// Why a running sequence had to give its blocks back.
enum class PreemptCause : uint8_t { kKvFull, kDisplaced };

// One time that a sequence waited after it had run. end_ns 0: it still waits.
struct PreemptedTime {
  uint64_t begin_ns = 0, end_ns = 0;
  PreemptCause cause = PreemptCause::kKvFull;
};
inline constexpr uint32_t kPreemptedTimesKept = 4;

struct Sequence {
  // Identity; fixed at submit.
  void* owner = nullptr;        // the engine's request; opaque here
  uint64_t request_id = 0;
  uint32_t choice = 0;
  uint32_t tenant = 0;          // slot in TenantAccounts
  uint8_t priority_class = 3;   // 1 strongest .. 6
  int32_t priority = 0;         // within the class, lower first
  uint64_t arrival = 0;         // order of submission, unique
  uint64_t arrival_ns = 0;
  uint64_t deadline_ns = kNoDeadline;
  Hash128 supersede;            // zero = none
  Hash128 salt;                 // the tenant's region of the prefix cache
  uint32_t public_prefix_tokens = 0;
  bool prompt_logprobs = false; // wants logits at every prompt position
  bool may_hit = true;          // reads the prefix cache
  const Sequence* leader = nullptr;  // choice 0, whose prompt this choice waits for

  // Tokens.
  std::vector<uint32_t> tokens;
  uint32_t prompt_count = 0;    // prompt tokens; further ones at submit are resumed output
  uint32_t token_limit = 0;     // tokens.size() never exceeds it
  uint32_t computed_count = 0;  // tokens whose KV is valid
  std::vector<uint32_t> block_table;
  std::vector<Hash128> chain;
  uint32_t published_count = 0; // leading blocks offered to the prefix index

  // Scheduling state.
  SequenceState state = SequenceState::kNew;
  bool promoted = false;        // waited too long: above all classes, and not displaced by them
  bool planned = false;         // in the plan being built
  bool prompt_done = false;     // the whole prompt was computed once
  uint64_t waiting_since_ns = 0;
  uint32_t charged_count = 0;   // leading tokens the tenant paid for (or hit); recomputed ones are not charged again
  uint32_t prompt_rows_done = 0;   // prompt positions whose logits were delivered

  // Measured.
  uint32_t cached_count = 0;    // prompt tokens that the first admission found in the prefix cache
  bool admitted_once = false;
  uint64_t first_scheduled_ns = 0, first_token_ns = 0, last_token_ns = 0;
  uint32_t prefill_chunks = 0, decode_steps = 0, preemptions = 0;
  std::array<PreemptedTime, kPreemptedTimesKept> preempted;  // the first of `preemptions`

  uint32_t token_count() const { return static_cast<uint32_t>(tokens.size()); }
  uint32_t output_count() const { return token_count() - prompt_count; }
  uint32_t remaining_count() const { return token_count() - computed_count; }
  bool samples() const { return token_count() < token_limit; }  // false: prefill only, or nothing left to generate
  uint8_t effective_class() const { return promoted ? uint8_t{0} : priority_class; }
};

// Why the scheduler ended a sequence by itself, with the numbers that its sentence needs.
enum class EndCause : uint8_t {
  kFinished,      // the engine said so: stop, length, error
  kCancelled,
  kDeadline,      // the deadline passed
  kInfeasible,    // even alone it would miss its deadline
  kOverloaded,    // the work ahead of it would make it miss its deadline
  kSuperseded,
};

struct EndedSequence {
  Sequence* sequence = nullptr;
  EndCause cause = EndCause::kFinished;
  uint64_t estimate_ns = 0;     // kInfeasible, kOverloaded: predicted time to the first token
  uint64_t available_ns = 0;    // ... and what the deadline leaves
  uint32_t tokens_ahead = 0;    // kOverloaded
};

// One sequence's share of a step.
struct PlannedSlice {
  Sequence* sequence = nullptr;
  uint32_t begin = 0;       // first token computed in this step
  uint32_t count = 0;
  uint32_t row_begin = 0;   // tokens [row_begin, row_begin + row_count) want logits: prompt positions, then the last one
  uint32_t row_count = 0;
  bool samples = false;     // the last row gives the next token
  bool decode = false;      // planned as a decode
  uint64_t cost = 0;        // charged to the tenant
  uint32_t charged_before = 0;
};

}  // namespace quern
