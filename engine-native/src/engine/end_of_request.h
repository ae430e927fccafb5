// How a request's end reads to the caller: reasons, sentences, and the numbers of its Finished event.
#pragma once

#include <string>

#include "engine/live_request.h"

namespace quern {

// Writes down the end of one choice that the scheduler decided, with the request's status where it is an error.
void note_end(LiveRequest* live, const EndedSequence& ended);

std::string sample_error_sentence(SampleError error, uint32_t output_count);

// The Finished event, without its choices. REQUIRES: every choice ended.
FinishedOut finished_out(const LiveRequest& live, uint64_t now_ns);

}  // namespace quern
