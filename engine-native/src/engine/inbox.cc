#include "engine/inbox.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "engine/limits.h"

namespace quern {
namespace {

// At least one, so that the promise to other tenants holds for tiny inboxes too.
uint32_t reserve_of(uint32_t max_waiting) { return std::max(1u, max_waiting / limits::kInboxReserveDivisor); }

}  // namespace

Inbox::Inbox(uint32_t max_running, uint32_t max_waiting)
    : max_waiting_(max_waiting), reserve_(reserve_of(max_waiting)),
      max_live_(max_running + max_waiting + reserve_ + limits::kChoicesMax),
      max_tenants_(std::max(limits::kTenantsMax, max_live_ + 1)), tenants_(max_tenants_) {
  submits_.reserve(max_live_);
  cancels_.reserve(max_live_);
  live_.reserve(max_live_);
}

Status Inbox::submit(std::unique_ptr<LiveRequest> request) {
  const uint32_t choices = static_cast<uint32_t>(request->choices.size());
  std::unique_lock lock(mutex_);
  if (closing_) return Status(Code::kUnavailable, "the engine is closing; submit to another replica");
  if (draining_) return Status(Code::kUnavailable, "the engine is draining and takes no new requests; submit to another replica");
  if (live_.contains(request->id)) {
    return Status(Code::kAlreadyExists, "request.id: expected an id that no live request has, got " + std::to_string(request->id));
  }
  const uint32_t waiting = inbox_sequences_ + scheduler_waiting_;
  const bool newcomer = tenants_.live_count(request->tenant) == 0;
  // A single request with several choices may overshoot the bound by its own width, not more.
  if (waiting >= max_waiting_ + (newcomer ? reserve_ : 0)) {
    return resource_exhausted("the engine's inbox is full: expected fewer than " + std::to_string(max_waiting_) +
                              " sequences waiting, found " + std::to_string(waiting) + "; retry later or on another replica");
  }
  const TenantRegistry::Lease lease = tenants_.acquire(request->tenant, choices);
  request->tenant_slot = lease.slot;
  request->tenant_is_new = lease.is_new;
  for (Sequence& s : request->choices) s.tenant = lease.slot;
  live_[request->id] = request.get();
  inbox_sequences_ += choices;
  inbox_tokens_ += request->choices.front().token_count();
  submits_.push_back(std::move(request));
  lock.unlock();
  arrived_.notify_one();
  return Status();
}

void Inbox::cancel(uint64_t id) {
  {
    std::lock_guard lock(mutex_);
    const auto found = live_.find(id);
    if (found == live_.end() || found->second->cancel_requested) return;
    LiveRequest& request = *found->second;
    request.cancel_requested = true;
    cancels_.push_back(id);
    if (batch_runs_ && request.in_batch && --batch_wanted_ == 0) interrupt_.store(true, std::memory_order_relaxed);
  }
  arrived_.notify_one();
}

void Inbox::drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

void Inbox::close() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    interrupt_.store(true, std::memory_order_relaxed);
  }
  arrived_.notify_one();
}

Inbox::Counts Inbox::counts() const {
  std::lock_guard lock(mutex_);
  return {inbox_sequences_, inbox_tokens_, draining_ || closing_};
}

void Inbox::take(Mail* mail, bool block) {
  mail->submits.clear();
  mail->cancels.clear();
  std::unique_lock lock(mutex_);
  if (block) arrived_.wait(lock, [this] { return !submits_.empty() || !cancels_.empty() || closing_; });
  std::swap(mail->submits, submits_);
  std::swap(mail->cancels, cancels_);
  mail->closing = closing_;
  scheduler_waiting_ += inbox_sequences_;
  inbox_sequences_ = 0;
  inbox_tokens_ = 0;
}

void Inbox::begin_batch(std::span<LiveRequest* const> requests) {
  std::lock_guard lock(mutex_);
  batch_wanted_ = 0;
  for (LiveRequest* request : requests) {
    if (request->in_batch) continue;  // another choice of the same request
    request->in_batch = true;
    if (!request->cancel_requested) ++batch_wanted_;
  }
  batch_runs_ = true;
  interrupt_.store(closing_ || batch_wanted_ == 0, std::memory_order_relaxed);
}

void Inbox::end_batch(std::span<LiveRequest* const> requests) {
  std::lock_guard lock(mutex_);
  batch_runs_ = false;
  for (LiveRequest* request : requests) request->in_batch = false;
}

void Inbox::note_waiting(uint32_t scheduler_waiting) {
  std::lock_guard lock(mutex_);
  scheduler_waiting_ = scheduler_waiting;
}

void Inbox::forget(const LiveRequest& request) {
  std::lock_guard lock(mutex_);
  live_.erase(request.id);
  tenants_.release(request.tenant_slot, static_cast<uint32_t>(request.choices.size()));
}

}  // namespace quern
