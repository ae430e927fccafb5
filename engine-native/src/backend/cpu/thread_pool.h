// A pinned pool with a hybrid barrier: the caller is thread 0, the others wait for the next call by spinning a few
// microseconds and then sleep on a futex, so that neither Node's thread nor a crowded machine is starved.
//
// Thread safety: run() from one thread at a time. Invariants: run() allocates nothing and returns when every thread
// has finished; what a thread wrote is visible to all threads of the next run().
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"

namespace quern::cpu {

class ThreadPool {
 public:
  // Thread i is pinned to cpus[i]; nothing is pinned when there are more threads than cpus.
  // Error: a thread could not be started.
  static Result<std::unique_ptr<ThreadPool>> create(uint32_t threads, const std::vector<uint32_t>& cpus);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t size() const { return size_; }

  // Pins the calling thread, which will call run(), to cpus[0] until the pool goes away. Without this the scheduler may
  // leave it on the processor of a pinned thread while another one has only niced work. Threads that it creates in the
  // meantime inherit the pin.
  void adopt_caller();

  // Calls body(thread) once for each thread in [0, size()).
  template <typename Body>
  void run(const Body& body) {
    run_erased([](const void* erased, uint32_t thread) { (*static_cast<const Body*>(erased))(thread); }, &body);
  }

 private:
  using Erased = void (*)(const void*, uint32_t);

  struct Member {
    ThreadPool* pool;
    uint32_t thread;
    pthread_t handle;
  };

  ThreadPool(uint32_t size, std::vector<uint32_t> cpus);
  void run_erased(Erased call, const void* body);
  void release_caller();
  void serve(uint32_t thread);
  void wait_for_call(uint32_t seen);

  const uint32_t size_;
  const std::vector<uint32_t> cpus_;  // one per thread, or empty: nothing is pinned
  uint32_t spin_count_ = 0;
  bool adopted_ = false;
  pthread_t caller_{};
  int caller_id_ = 0;
  cpu_set_t caller_mask_{};  // before adoption
  std::vector<Member> members_;  // threads 1..; never moves once they run
  Erased call_ = nullptr;
  const void* body_ = nullptr;
  bool stopping_ = false;
  alignas(64) std::atomic<uint32_t> epoch_{0};      // counts calls; workers sleep on it
  std::atomic<uint32_t> sleepers_{0};
  alignas(64) std::atomic<uint32_t> remaining_{0};  // workers still busy; the caller sleeps on it
  std::atomic<uint32_t> caller_sleeps_{0};
};

// Items [0, total) dealt to threads in contiguous shares; a thread that finishes its own takes from the others, so a
// core that is stolen by somebody else holds nobody up. Which thread computes an item never changes its bits.
//
// Thread safety: reset() before run(), next() inside it.
class WorkShares {
 public:
  explicit WorkShares(uint32_t threads);

  void reset(uint32_t total, uint32_t chunk);
  // Takes the next chunk [*begin, *end); false when all is taken.
  bool next(uint32_t thread, uint32_t* begin, uint32_t* end);

  // The first owner's share: item range of `thread` before any stealing.
  static uint32_t share_begin(uint32_t total, uint32_t chunk, uint32_t thread, uint32_t threads);

 private:
  struct alignas(64) Share {
    std::atomic<uint32_t> next{0};
    uint32_t end = 0;
  };

  const uint32_t threads_;
  uint32_t chunk_ = 1;
  std::unique_ptr<Share[]> shares_;
};

}  // namespace quern::cpu
