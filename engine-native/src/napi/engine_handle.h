// EngineHandle: one engine as JavaScript holds it.
//
// Loading and closing run on a thread of their own; everything that must reach JavaScript (progress, the outcome of
// open, batches, the end of close) is left under one lock, and one thread-safe function wakes the environment's thread,
// which takes all of it. When JavaScript lags, batches simply grow: one call delivers what several steps said, in order,
// bounded by the live requests' max_tokens. At most one wake-up is queued.
//
// Life: created -> opening -> open -> closing -> closed. From opening to closed the wrapper object is referenced (else
// the engine would stop silently when JavaScript forgot it) and the event loop stays alive. If the environment goes away
// first (process.exit, a terminated thread), the cleanup hook stops the engine and joins.
//
// Thread safety: methods on the environment's thread, but for the callbacks marked otherwise.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "napi/napi_env.h"

namespace quern {

class EngineHandle {
 public:
  EngineHandle(EngineOptions options, Napi::Function on_batch, Napi::Function on_progress);
  ~EngineHandle();
  EngineHandle(const EngineHandle&) = delete;
  EngineHandle& operator=(const EngineHandle&) = delete;

  // Resolves with the model's description, rejects with {code, message}. `wrapper` is kept alive until closed.
  Napi::Value open(Napi::Env env, Napi::Object wrapper);
  // Resolves when every request has ended and its end was delivered.
  Napi::Value close(Napi::Env env);
  // Null before open and after close.
  Engine* engine() { return state_ == State::kOpen ? engine_.get() : nullptr; }

 private:
  enum class State { kCreated, kOpening, kOpen, kClosing, kClosed };
  struct Progress {
    std::string phase;
    uint64_t done = 0, total = 0;
  };

  static void call_js(Napi::Env env, Napi::Function, EngineHandle* handle, void*);
  static void clean_up(void* self);
  using Waker = Napi::TypedThreadSafeFunction<EngineHandle, void, call_js>;

  void wake();                                // any thread; the lock is held
  void on_step(const StepOut& step);          // engine thread
  void pump(Napi::Env env);
  void settle_open(Napi::Env env, Status status);
  void start_closing();
  void finish_close(Napi::Env env);
  void stop_threads();

  EngineOptions options_;
  Napi::FunctionReference on_batch_, on_progress_;
  Napi::ObjectReference wrapper_;
  std::optional<Napi::Promise::Deferred> open_promise_;
  std::vector<Napi::Promise::Deferred> close_promises_;
  State state_ = State::kCreated;
  bool close_after_open_ = false;
  Waker waker_;
  bool waker_started_ = false;  // a waker that never started must not be released
  std::unique_ptr<Engine> engine_;
  std::thread thread_;          // of the open or the close under way

  std::mutex mutex_;
  bool wake_queued_ = false;
  std::optional<Progress> progress_;
  std::optional<Status> opened_;
  std::unique_ptr<Engine> opened_engine_;
  bool closed_ = false;
  std::vector<uint32_t> pending_;   // packed records not yet taken
  std::vector<uint32_t> taken_;     // the other buffer of the pair
};

// {code, message} as an Error object; code is the gRPC number.
Napi::Error js_error(Napi::Env env, const Status& status);

}  // namespace quern
