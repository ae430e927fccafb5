// Time as the engine sees it; tests give their own.
#pragma once

#include <chrono>
#include <cstdint>

namespace quern {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual uint64_t now_ns() = 0;   // monotonic
  virtual uint64_t unix_ns() = 0;  // wall clock, for anchors only
};

class SystemClock final : public Clock {
 public:
  uint64_t now_ns() override { return count(std::chrono::steady_clock::now()); }
  uint64_t unix_ns() override { return count(std::chrono::system_clock::now()); }

 private:
  template <typename Point>
  static uint64_t count(Point point) {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(point.time_since_epoch()).count());
  }
};

}  // namespace quern
