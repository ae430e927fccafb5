// Bounds on what the outside may hand to the engine, each with its reason. Sizes in bytes unless named otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern::limits {

// config.json and generation_config.json: real ones are 1-3 KiB; layer lists of large models reach some 10 KiB.
inline constexpr size_t kConfigBytesMax = 1 << 20;
// tokenizer.json of a 150k vocabulary is 7-12 MB; of a 256k one 33 MB.
inline constexpr size_t kTokenizerBytesMax = 128 << 20;
// The format's own bound on a safetensors header.
inline constexpr size_t kSafetensorsHeaderBytesMax = 100'000'000;
// model.safetensors.index.json: 100 bytes per tensor, 200k tensors in the largest mixture models.
inline constexpr size_t kIndexBytesMax = 64 << 20;
// A 480B mixture model comes in 241 files.
inline constexpr size_t kShardsMax = 1024;
inline constexpr size_t kTensorNameBytesMax = 512;

inline constexpr uint32_t kJsonDepthMax = 32;
inline constexpr uint32_t kJsonValuesMax = 8'000'000;

// Shapes beyond these are typing errors, not models; the products below stay within 64 bits because of them.
inline constexpr uint32_t kLayersMax = 1024;
inline constexpr uint32_t kHiddenSizeMax = 1 << 17;
inline constexpr uint32_t kFfnSizeMax = 1 << 20;
inline constexpr uint32_t kHeadsMax = 1024;
inline constexpr uint32_t kHeadDimMax = 1024;
inline constexpr uint32_t kVocabularyMax = 1 << 22;
inline constexpr uint32_t kContextLengthMax = 1 << 24;
inline constexpr size_t kEosTokensMax = 64;

}  // namespace quern::limits
