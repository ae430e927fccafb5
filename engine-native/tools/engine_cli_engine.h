// Runs one request through the whole engine and collects its tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace quern {

struct EngineRun {
  std::vector<uint32_t> ids;
  FinishReason reason = FinishReason::kError;
  uint64_t seed = 0;
  uint64_t prefill_ns = 0, decode_ns = 0;
  uint32_t decode_steps = 0;
};

Result<EngineRun> run_through_engine(const EngineOptions& options, Request request);

}  // namespace quern
