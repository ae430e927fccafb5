// CHECK: for what must not happen. Prints file, line, condition and message, then aborts; stays on in release builds.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace quern {

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition, const char* message) {
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed: %s\n", file, line, condition, message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace quern

#define CHECK(condition, message)                                                     \
  do {                                                                                \
    if (!(condition)) ::quern::check_failed(__FILE__, __LINE__, #condition, message); \
  } while (false)
