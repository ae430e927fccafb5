// One backend under test beside the reference: everything is loaded into, written to and run on both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "parity_driver.h"
#include "test.h"

namespace quern::test {

// The same thing on both sides.
template <typename Id>
struct Both {
  Id subject{}, reference{};
};

// A host tensor that owns its bytes. They start at an odd address: files give no alignment.
class OwnedTensor {
 public:
  // Normally distributed values of this spread around `mean`, in the given type.
  OwnedTensor(std::mt19937_64& random, uint64_t rows, uint64_t cols, DType dtype, float spread, float mean = 0);
  OwnedTensor(OwnedTensor&&) = default;
  HostTensor view() const;

 private:
  uint64_t rows_, cols_;
  DType dtype_;
  std::vector<std::byte> bytes_;
};

std::vector<float> random_values(std::mt19937_64& random, size_t count, float spread = 1);

class Twin {
 public:
  // REQUIRES: the backend can be made; checked with an EXPECT, good() says.
  Twin(const std::string& backend_name, const std::string& dtype);
  bool good() const { return subject_ != nullptr; }

  // A shape and limits that are enough for the ops without attention.
  void reserve_plain(uint32_t max_num_tokens, uint32_t max_logit_rows);
  void reserve(const AttentionShape& shape, const RunnerLimits& limits);

  Both<LinearId> linear(const LinearSource& source);
  Both<VectorId> vector(const HostTensor& source);
  Both<EmbeddingId> embedding(const HostTensor& source);
  Both<EmbeddingId> tie(Both<LinearId> head);
  Both<BufferId> buffer(uint32_t cols, bool logit_rows_only = false);

  void write(Both<BufferId> x, uint32_t rows, std::span<const float> values);
  // Runs an op on both. `op` gets the backend and `true` for the subject.
  void run(const std::function<void(Backend&, bool subject)>& op);
  void begin_step(const Batch& batch);
  std::vector<float> read(BufferId subject_buffer, uint32_t rows, uint32_t cols);

  // Every row of the first `cols` of `width` columns: largest difference at most tolerance * rms of the reference's
  // row.
  void expect_same(Both<BufferId> x, uint32_t rows, uint32_t width, uint32_t cols, double tolerance,
                   const std::string& where);

  Backend& subject() { return *subject_; }
  const RunnerLimits& limits() const { return limits_; }

 private:
  std::unique_ptr<Backend> subject_, reference_;
  RunnerLimits limits_;
};

// The id of one side.
template <typename Id>
Id side(const Both<Id>& both, bool subject) {
  return subject ? both.subject : both.reference;
}

// A batch of one-token sequences of which every row wants logits: enough for ops that look at rows only.
class PlainBatch {
 public:
  explicit PlainBatch(uint32_t num_tokens, std::vector<uint32_t> logit_rows = {});
  Batch batch() const;
  std::vector<uint32_t> token_ids;

 private:
  std::vector<uint32_t> zeros_, slots_, blocks_, logit_rows_;
  std::vector<SequenceSlice> slices_;
};

// Lets ModelDriver lay out batches (block tables, slots, positions) and hands each to a function.
class BatchProbe final : public ModelRunner {
 public:
  explicit BatchProbe(std::function<void(const Batch&)> body) : body_(std::move(body)) {}
  uint32_t vocabulary_size() const override { return 1; }
  Status forward(const Batch& batch, std::span<float>, const std::atomic<bool>*) override {
    body_(batch);
    return Status();
  }

 private:
  std::function<void(const Batch&)> body_;
};

}  // namespace quern::test
