// make_checkpoint OUT_DIR: writes a model folder with seeded random weights. See make_checkpoint_writer.h.
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/file.h"
#include "base/limits.h"
#include "make_checkpoint_writer.h"

namespace {

constexpr const char* kUsage =
    "usage: make_checkpoint OUT_DIR (--shape tiny|qwen2.5-0.5b|qwen2.5-1.5b|qwen3-0.6b | --config FILE)\n"
    "                       [--seed N] [--dtype bf16|f16|f32] [--shard-mb N] [--gain KIND=X]...\n"
    "Writes config.json and model.safetensors (or shards) whose values follow from the seed.\n"
    "KIND: embed q k v o gate up down lm_head.\n";

struct Arguments {
  std::string folder, shape, config_path;
  quern::CheckpointOptions options;
};

// Returns an error sentence, or empty.
std::string take_option(const std::string& key, const std::string& value, Arguments& arguments) {
  if (key == "--shape") {
    arguments.shape = value;
  } else if (key == "--config") {
    arguments.config_path = value;
  } else if (key == "--seed") {
    arguments.options.seed = std::strtoull(value.c_str(), nullptr, 0);
  } else if (key == "--shard-mb") {
    arguments.options.shard_bytes = std::strtoull(value.c_str(), nullptr, 10) << 20;
  } else if (key == "--gain") {
    const size_t equals = value.find('=');
    if (equals == std::string::npos) return "--gain: expected KIND=X, got '" + value + "'";
    arguments.options.gains[value.substr(0, equals)] = std::atof(value.c_str() + equals + 1);
  } else if (key == "--dtype") {
    if (value != "bf16" && value != "f16" && value != "f32")
      return "--dtype: expected bf16, f16 or f32, got '" + value + "'";
    arguments.options.dtype = value == "f32"   ? quern::DType::kF32
                              : value == "f16" ? quern::DType::kF16
                                               : quern::DType::kBF16;
  } else {
    return "unknown option '" + key + "'";
  }
  return "";
}

std::string parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (!argument.starts_with("--")) {
      if (!arguments.folder.empty()) return "expected one folder, got '" + argument + "' as well";
      arguments.folder = argument;
      continue;
    }
    if (i + 1 >= argc) return argument + ": expected a value";
    if (std::string error = take_option(argument, argv[++i], arguments); !error.empty()) return error;
  }
  if (arguments.folder.empty()) return "expected a folder to write to";
  if (arguments.shape.empty() == arguments.config_path.empty()) return "expected one of --shape and --config";
  return "";
}

quern::Status run(const Arguments& arguments) {
  std::string config = quern::config_of_shape(arguments.shape);
  if (!arguments.config_path.empty()) {
    quern::Result<std::string> text = quern::read_text_file(arguments.config_path, quern::limits::kConfigBytesMax);
    QUERN_RETURN_IF_ERROR(text.status());
    config = *text;
  } else if (config.empty()) {
    return quern::invalid_argument("--shape: unknown shape '" + arguments.shape + "'");
  }
  if (::mkdir(arguments.folder.c_str(), 0777) != 0 && errno != EEXIST)
    return quern::failed_precondition(arguments.folder + ": cannot create: " + std::strerror(errno));
  return quern::write_checkpoint(arguments.folder, config, arguments.options);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const std::string error = parse(argc, argv, arguments); !error.empty()) {
    std::fprintf(stderr, "make_checkpoint: %s\n%s", error.c_str(), kUsage);
    return 2;
  }
  if (const quern::Status status = run(arguments); !status.ok()) {
    std::fprintf(stderr, "make_checkpoint: %s\n", status.message().c_str());
    return 1;
  }
  return 0;
}
