// Inbox: the one door between the world's threads and the engine thread. Bounded; knows every live request by id.
//
// A request is waiting from submit until the scheduler admits it. When the inbox is full, a tenant that has nothing live
// still gets in, up to a reserve: one tenant's flood cannot lock the others out.
//
// Cancel also raises the interrupt flag when everything in the running step is cancelled, so that the model stops
// between layers instead of finishing work nobody wants.
//
// Thread safety: all methods may be called from any thread unless marked. Invariant: an id is live from a successful
// submit() until forget().
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "engine/live_request.h"
#include "engine/tenant_registry.h"

namespace quern {

class Inbox {
 public:
  // `max_waiting` sequences wait at most (plus the reserve); max_running of them run.
  Inbox(uint32_t max_running, uint32_t max_waiting);

  // Sequences that may be live at once; what the scheduler must hold.
  uint32_t max_live() const { return max_live_; }
  uint32_t max_tenants() const { return max_tenants_; }

  Status submit(std::unique_ptr<LiveRequest> request);
  void cancel(uint64_t id);
  void drain();
  // No further submits; wakes the engine thread and interrupts its step.
  void close();

  struct Mail {
    std::vector<std::unique_ptr<LiveRequest>> submits;
    std::vector<uint64_t> cancels;
    bool closing = false;
  };
  struct Counts {
    uint32_t waiting = 0;         // sequences that no step has seen yet
    uint64_t waiting_tokens = 0;
    bool draining = false;
  };
  Counts counts() const;

  // Engine thread. Moves what came into `mail` (cleared first; its memory is reused). With `block`, waits for something.
  void take(Mail* mail, bool block);
  // Engine thread: how many sequences wait inside the scheduler now.
  void note_waiting(uint32_t scheduler_waiting);
  // Engine thread, around each step: whose work the step holds.
  void begin_batch(std::span<LiveRequest* const> requests);
  void end_batch(std::span<LiveRequest* const> requests);
  // Engine thread: the request is over; its id may be used again.
  void forget(const LiveRequest& request);
  const std::atomic<bool>* interrupt() const { return &interrupt_; }

 private:
  const uint32_t max_waiting_, reserve_, max_live_, max_tenants_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::unique_ptr<LiveRequest>> submits_;
  std::vector<uint64_t> cancels_;
  std::unordered_map<uint64_t, LiveRequest*> live_;
  TenantRegistry tenants_;
  uint32_t inbox_sequences_ = 0;      // in submits_
  uint64_t inbox_tokens_ = 0;
  uint32_t scheduler_waiting_ = 0;    // as of the last note_waiting()
  uint32_t batch_wanted_ = 0;         // requests of the running step that nobody cancelled
  bool batch_runs_ = false;
  bool draining_ = false, closing_ = false;
  std::atomic<bool> interrupt_{false};
};

}  // namespace quern
