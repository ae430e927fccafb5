#include "backend/cpu/thread_pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "backend/cpu/cpu_topology.h"
#include "backend/cpu/float_env.h"

namespace quern::cpu {
namespace {

// Long enough to bridge the caller's short serial work between two parallel operations, short against a time slice.
constexpr double kSpinMicroseconds = 20;

void pause_instruction() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How many spins (a load and a pause) last kSpinMicroseconds; pause takes 40 to 140 cycles depending on the processor.
uint32_t calibrate_spins() {
  constexpr uint32_t kProbe = 2000;
  std::atomic<uint32_t> word{0};
  double best_us = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < kProbe && word.load(std::memory_order_acquire) == 0; ++i) pause_instruction();
    best_us = std::min(best_us, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  return std::clamp(static_cast<uint32_t>(kSpinMicroseconds * kProbe / std::max(best_us, 1.0)), 50u, 20000u);
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

// A refusal costs speed only.
void pin(pthread_t thread, uint32_t cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  pthread_setaffinity_np(thread, sizeof one, &one);
}

}  // namespace

ThreadPool::ThreadPool(uint32_t size, std::vector<uint32_t> cpus) : size_(size), cpus_(std::move(cpus)) {}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(uint32_t threads, const std::vector<uint32_t>& cpus) {
  CHECK(threads >= 1, "a pool needs a thread");
  const bool pinned = threads > 1 && threads <= cpus.size();
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads, pinned ? cpus : std::vector<uint32_t>{}));
  const bool crowded = threads > read_topology().cpus.size();
  // With more threads than processors a spinning thread keeps the one it waits for from running.
  pool->spin_count_ = crowded ? 1 : calibrate_spins();
  pool->members_.reserve(threads - 1);
  for (uint32_t i = 1; i < threads; ++i) {
    Member& member = pool->members_.emplace_back(Member{pool.get(), i, {}});
    const auto start = [](void* argument) -> void* {
      const Member* self = static_cast<const Member*>(argument);
      self->pool->serve(self->thread);
      return nullptr;
    };
    if (const int error = pthread_create(&member.handle, nullptr, start, &member); error != 0) {
      pool->members_.pop_back();
      return resource_exhausted("cpu backend: could not start thread " + std::to_string(i) + " of " +
                                std::to_string(threads) + " (" + std::strerror(error) + "); ask for fewer threads");
    }
    if (pinned) pin(member.handle, cpus[i]);
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake(epoch_, static_cast<int>(size_));
  for (Member& member : members_) pthread_join(member.handle, nullptr);
  release_caller();
}

void ThreadPool::adopt_caller() {
  if (cpus_.empty() || (adopted_ && pthread_equal(caller_, pthread_self()) != 0)) return;
  release_caller();
  caller_ = pthread_self();
  caller_id_ = static_cast<int>(syscall(SYS_gettid));
  adopted_ = sched_getaffinity(0, sizeof caller_mask_, &caller_mask_) == 0;
  if (adopted_) pin(caller_, cpus_[0]);
}

void ThreadPool::release_caller() {
  // By id, not by handle: the thread may have ended.
  if (adopted_) sched_setaffinity(caller_id_, sizeof caller_mask_, &caller_mask_);
  adopted_ = false;
}

void ThreadPool::run_erased(Erased call, const void* body) {
  if (size_ == 1) {
    call(body, 0);
    return;
  }
  call_ = call;
  body_ = body;
  remaining_.store(size_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake(epoch_, static_cast<int>(size_));
  call(body, 0);
  for (uint32_t i = 0; i < spin_count_; ++i) {
    if (remaining_.load(std::memory_order_acquire) == 0) return;
    pause_instruction();
  }
  caller_sleeps_.store(1, std::memory_order_seq_cst);
  for (uint32_t left = remaining_.load(std::memory_order_seq_cst); left != 0;
       left = remaining_.load(std::memory_order_seq_cst)) {
    futex_wait(remaining_, left);
  }
  caller_sleeps_.store(0, std::memory_order_relaxed);
}

void ThreadPool::wait_for_call(uint32_t seen) {
  for (uint32_t i = 0; i < spin_count_; ++i) {
    if (epoch_.load(std::memory_order_acquire) != seen) return;
    pause_instruction();
  }
  // The count goes up before the futex compares the epoch: either the caller sees a sleeper or the futex sees the call.
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (epoch_.load(std::memory_order_seq_cst) == seen) futex_wait(epoch_, seen);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void ThreadPool::serve(uint32_t thread) {
  const FlushDenormals flush;
  pthread_setname_np(pthread_self(), "quern-cpu");
  for (uint32_t seen = 0;;) {
    wait_for_call(seen);
    ++seen;
    if (stopping_) return;
    call_(body_, thread);
    if (remaining_.fetch_sub(1, std::memory_order_seq_cst) == 1 && caller_sleeps_.load(std::memory_order_seq_cst) != 0) {
      futex_wake(remaining_, 1);
    }
  }
}

WorkShares::WorkShares(uint32_t threads) : threads_(threads), shares_(std::make_unique<Share[]>(threads)) {}

uint32_t WorkShares::share_begin(uint32_t total, uint32_t chunk, uint32_t thread, uint32_t threads) {
  const uint64_t chunks = (uint64_t{total} + chunk - 1) / chunk;
  const uint64_t begin = chunks * thread / threads * chunk;
  return static_cast<uint32_t>(std::min<uint64_t>(begin, total));
}

void WorkShares::reset(uint32_t total, uint32_t chunk) {
  chunk_ = chunk;
  for (uint32_t i = 0; i < threads_; ++i) {
    shares_[i].next.store(share_begin(total, chunk, i, threads_), std::memory_order_relaxed);
    shares_[i].end = share_begin(total, chunk, i + 1, threads_);
  }
}

bool WorkShares::next(uint32_t thread, uint32_t* begin, uint32_t* end) {
  for (uint32_t i = 0; i < threads_; ++i) {
    const uint32_t victim = thread + i < threads_ ? thread + i : thread + i - threads_;
    Share& share = shares_[victim];
    if (share.next.load(std::memory_order_relaxed) >= share.end) continue;
    const uint32_t first = share.next.fetch_add(chunk_, std::memory_order_relaxed);
    if (first >= share.end) continue;
    *begin = first;
    *end = std::min(first + chunk_, share.end);
    return true;
  }
  return false;
}

}  // namespace quern::cpu
