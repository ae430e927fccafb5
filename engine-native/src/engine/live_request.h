// LiveRequest: one accepted request from submit to its Finished. Built by the submitting thread with all memory that its
// life will need, then handed to the engine thread, which owns it from there on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "sample/sampler.h"
#include "sched/sequence.h"

namespace quern {

struct LiveRequest {
  uint64_t id = 0;
  std::string tenant;
  uint32_t tenant_slot = 0;
  bool tenant_is_new = false;     // its slot had another owner before
  uint64_t arrival_ns = 0;
  uint64_t received_unix_ns = 0;
  std::optional<uint32_t> timeout_ms;
  uint32_t prompt_count = 0;
  uint32_t resumed_count = 0;     // output tokens that were delivered by an earlier engine

  SamplerSettings sampler;
  std::optional<uint32_t> logprobs;
  std::optional<uint32_t> prompt_logprobs;

  std::vector<Sequence> choices;  // never resized: the scheduler points into it
  std::vector<ChoiceEnd> ends;    // reserved, one per choice in order of ending
  uint32_t ended_count = 0;       // choices whose end the scheduler has reported
  Status status;                  // why it failed, when it did
  std::optional<FinishReason> born_ended;  // resumed output that was already complete
  std::optional<uint32_t> born_stop_id;

  std::vector<Logprob> prompt_entries;   // reserved when prompt logprobs were asked for
  std::vector<uint32_t> prompt_counts;
  bool prompt_logprobs_sent = false;

  // Guarded by the inbox's lock.
  bool cancel_requested = false;
  bool in_batch = false;

  uint32_t owner_index = 0;       // place among the engine's live requests
  bool is_stop(uint32_t token_id) const {
    for (uint32_t id : sampler.stop_ids) {
      if (id == token_id) return true;
    }
    return false;
  }
};

}  // namespace quern
