// The packed form of a step's events: the other half of services/engine/native.ts. Words are uint32; floats travel as
// bits, 64-bit numbers as low word then high word. Records are concatenated when JavaScript lags behind.
//
//   record   length in words (itself included), running, waiting, tokens, prompts, finished; then that many of each; then
//            run, preempted
//   token    id, choice, token id, logprob entries L; L x entry
//   prompt   id, positions P, entries L; P x count; L x entry
//   finished id, status code, message bytes M, seed lo hi, prompt, cached and completion tokens, prefill chunks, decode
//            steps, preemptions, received lo hi, queue lo hi, prefill lo hi, decode lo hi, choices C;
//            C x (choice, reason, has stop id, stop id); M bytes of UTF-8, padded to words
//   run      0, or 1 and: begin lo hi, forward lo hi, prefill tokens, decode tokens, held blocks, slices S;
//            S x (id, tokens, is decode)
//   preempted P; P x (index of its finished, after lo hi, lasting lo hi, displaced)
//   entry    token id, logprob bits, rank
#pragma once

#include <cstdint>
#include <vector>

#include "engine/engine.h"

namespace quern {

// Appends one record.
void pack_step(const StepOut& step, std::vector<uint32_t>* words);

}  // namespace quern
