// The step loop behind Engine: drain the inbox, schedule, run the model, sample, tell the world.
//
// Engine::open builds it over the transformer; tests build it over a fake ModelRunner with their own clock.
#pragma once

#include <memory>

#include "cache/hash128.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "model/runner.h"
#include "sched/scheduler.h"

namespace quern {

struct EngineParts {
  std::unique_ptr<ModelRunner> runner;  // reserved for `limits`
  RunnerLimits limits;
  uint32_t num_ids = 0;                 // ids that exist; the vocabulary's further columns are padding
  ModelInfo info;
  bool prefix_cache = true;
  bool size_chunks_by_time = true;
  Clock* clock = nullptr;               // outlives the engine; null = the system's
  bool check_integrity = false;         // after every step; for tests
};

// Starts the engine thread.
std::unique_ptr<Engine> make_engine(EngineParts parts, Engine::StepCallback on_step);

}  // namespace quern
