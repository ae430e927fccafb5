// The fixtures of test/golden/engine: what transformers computes for checkpoints made from a seed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "make_checkpoint_writer.h"

namespace quern::test {

struct FixtureLogits {
  uint32_t position = 0;      // in ids + greedy_ids; this row predicts position + 1
  std::vector<float> values;  // [vocabulary]
};

struct FixturePrompt {
  std::vector<uint32_t> ids;
  std::vector<uint32_t> greedy_ids;  // the tokens that follow
  std::vector<FixtureLogits> logits;
};

struct Fixture {
  std::string family;
  std::string config_json;
  CheckpointOptions checkpoint;
  std::map<std::string, std::string> checksums;  // tensor -> FNV-1a of its bf16 bits, 16 hex digits
  std::vector<FixturePrompt> prompts;
  double bf16_kv_change = 0;  // largest relative change of a logit when K and V are held in bf16
};

const std::vector<std::string>& fixture_families();
Result<Fixture> read_fixture(const std::string& family);
// Writes the fixture's model into a fresh folder and returns it.
Result<std::string> write_fixture_model(const Fixture& fixture, DType dtype, uint64_t shard_bytes = 0);

// Largest |a - b| over the root mean square of b.
double relative_difference(std::span<const float> a, std::span<const float> b);

}  // namespace quern::test
