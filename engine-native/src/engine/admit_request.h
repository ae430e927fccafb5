// From a caller's Request to a LiveRequest, or the refusal that names the field.
#pragma once

#include <memory>
#include <vector>

#include "base/status.h"
#include "cache/prefix_hasher.h"
#include "engine/engine.h"
#include "engine/live_request.h"

namespace quern {

// What a request is checked against.
struct RequestBounds {
  uint32_t context_length = 0;
  uint32_t num_ids = 0;  // ids below may appear and be sampled
  uint32_t block_size = 16;
  bool prefix_cache = true;
  std::vector<uint32_t> eos_token_ids;
};

// Checks every field (kInvalidArgument: "request.sampling.top_p: expected (0, 1], got 1.5") and reserves all memory of
// the request's life. Times and tenant slot are filled in by the engine.
Result<std::unique_ptr<LiveRequest>> admit_request(Request request, const RequestBounds& bounds,
                                                   const PrefixHasher& hasher);

}  // namespace quern
