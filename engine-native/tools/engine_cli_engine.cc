#include "engine_cli_engine.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

namespace quern {
namespace {

// What the engine's thread says, for the thread that waits.
struct Outcome {
  std::mutex mutex;
  std::condition_variable changed;
  EngineRun run;
  Status status;
  bool done = false;

  void take(const StepOut& step) {
    std::lock_guard lock(mutex);
    for (const TokenOut& token : step.tokens) run.ids.push_back(token.token_id);
    for (const FinishedOut& end : step.finished) {
      if (!end.choices.empty()) run.reason = end.choices[0].reason;
      run.seed = end.seed, run.prefill_ns = end.prefill_ns, run.decode_ns = end.decode_ns;
      run.decode_steps = end.decode_steps;
      status = end.status;
      done = true;
    }
    if (done) changed.notify_one();
  }
};

}  // namespace

Result<EngineRun> run_through_engine(const EngineOptions& options, Request request) {
  Outcome outcome;  // outlives the engine
  Result<std::unique_ptr<Engine>> engine = Engine::open(options, [&](const StepOut& step) { outcome.take(step); });
  QUERN_RETURN_IF_ERROR(engine.status());
  QUERN_RETURN_IF_ERROR((*engine)->submit(std::move(request)));
  std::unique_lock lock(outcome.mutex);
  outcome.changed.wait(lock, [&] { return outcome.done; });
  QUERN_RETURN_IF_ERROR(outcome.status);
  return std::move(outcome.run);
}

}  // namespace quern
