// The native tests' own small framework: TEST registers, EXPECT* count and go on, one line per failure with values.
//
//   TEST(pool_returns_blocks) { EXPECT_EQ(pool.free_count(), 4u); }
//
// Command line: --filter TEXT (substring of a name, or comma-separated several), --seed N (for randomised tests;
// printed at start), --stop 1 (after the first failed test), --list, and any other --key value, read by option("key").
// The last line is `N passed, N failed`.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.h"

namespace quern::test {

// Under a sanitizer everything takes ten times as long: there a test whose cases differ in their numbers alone, and not in the code
// that they go through, may leave some out. All of them run in the release build.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Registers a test under its name; called before main by TEST.
int add(const char* name, void (*body)());
// Reports one failed expectation of the running test.
void fail(const char* file, int line, const std::string& what);
// Failed expectations of the running test so far.
uint64_t failures();
// Marks the running test as skipped, with the reason. The body should return.
void skip(const std::string& reason);

// The seed of this run: --seed, or a fixed default.
uint64_t seed();
// The value of --key, or `fallback`.
std::string option(std::string_view key, std::string_view fallback = "");
// A fresh empty folder, removed at exit.
std::string temporary_folder();
// Calls of operator new since start. Meaningless where counts_allocations() is false (sanitizer builds).
uint64_t allocations();
bool counts_allocations();

template <typename T>
std::string show(const T& value) {
  if constexpr (std::is_same_v<T, Status>) {
    return value.ok() ? std::string("ok") : std::to_string(static_cast<int>(value.code())) + " " + value.message();
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<long long>(value));
  } else if constexpr (requires(std::ostringstream& out) { out << +value; }) {
    std::ostringstream out;
    out.precision(9);
    out << +value;
    return out.str();
  } else if constexpr (requires(std::ostringstream& out) { out << value; }) {
    std::ostringstream out;
    out << value;
    return out.str();
  } else if constexpr (requires { value.begin(), value.end(), value.size(); }) {
    std::string text = "[";
    for (const auto& item : value) {
      if (text.size() > 1) text += ", ";
      if (text.size() > 400) return text + "...]";
      text += show(item);
    }
    return text + "]";
  } else {
    return "?";
  }
}

template <typename A, typename B, typename Compare>
void expect_compare(const char* file, int line, const char* text, const A& left, const B& right, Compare compare) {
  if (!compare(left, right))
    fail(file, line, std::string(text) + "\n    left:  " + show(left) + "\n    right: " + show(right));
}

inline const Status& status_of(const Status& status) { return status; }
template <typename T>
const Status& status_of(const Result<T>& result) {
  return result.status();
}

}  // namespace quern::test

#define TEST(name)                                                                                               \
  static void quern_test_##name();                                                                               \
  [[maybe_unused]] static const int quern_test_registered_##name = ::quern::test::add(#name, quern_test_##name); \
  static void quern_test_##name()

#define EXPECT(condition)                                                                \
  do {                                                                                   \
    if (!(condition)) ::quern::test::fail(__FILE__, __LINE__, "EXPECT(" #condition ")"); \
  } while (false)
// EXPECT with a message that is built only on failure: EXPECT_MSG(a == b, std::to_string(a)).
#define EXPECT_MSG(condition, message)                                                                              \
  do {                                                                                                              \
    if (!(condition)) ::quern::test::fail(__FILE__, __LINE__, std::string("EXPECT(" #condition "): ") + (message)); \
  } while (false)
#define EXPECT_EQ(a, b)                                                                    \
  ::quern::test::expect_compare(__FILE__, __LINE__, "EXPECT_EQ(" #a ", " #b ")", (a), (b), \
                                [](const auto& l, const auto& r) { return l == r; })
#define EXPECT_NE(a, b)                                                                    \
  ::quern::test::expect_compare(__FILE__, __LINE__, "EXPECT_NE(" #a ", " #b ")", (a), (b), \
                                [](const auto& l, const auto& r) { return !(l == r); })
#define EXPECT_LT(a, b)                                                                    \
  ::quern::test::expect_compare(__FILE__, __LINE__, "EXPECT_LT(" #a ", " #b ")", (a), (b), \
                                [](const auto& l, const auto& r) { return l < r; })
#define EXPECT_LE(a, b)                                                                    \
  ::quern::test::expect_compare(__FILE__, __LINE__, "EXPECT_LE(" #a ", " #b ")", (a), (b), \
                                [](const auto& l, const auto& r) { return l <= r; })
#define EXPECT_NEAR(a, b, tolerance)                                                                         \
  ::quern::test::expect_compare(__FILE__, __LINE__, "EXPECT_NEAR(" #a ", " #b ", " #tolerance ")", (a), (b), \
                                [&](const auto& l, const auto& r) { return std::abs(l - r) <= (tolerance); })
// For Status and Result alike.
#define EXPECT_OK(expression)                                                                            \
  do {                                                                                                   \
    const auto& quern_value_ = (expression);                                                             \
    if (!::quern::test::status_of(quern_value_).ok())                                                    \
      ::quern::test::fail(                                                                               \
          __FILE__, __LINE__,                                                                            \
          "EXPECT_OK(" #expression "): " + ::quern::test::show(::quern::test::status_of(quern_value_))); \
  } while (false)
// The error's message must contain `text`.
#define EXPECT_ERROR(expression, text)                                                                   \
  do {                                                                                                   \
    const auto& quern_value_ = (expression);                                                             \
    const ::quern::Status& quern_status_ = ::quern::test::status_of(quern_value_);                       \
    if (quern_status_.ok() || quern_status_.message().find(text) == std::string::npos)                   \
      ::quern::test::fail(__FILE__, __LINE__,                                                            \
                          std::string("EXPECT_ERROR(" #expression ") wanted \"") + (text) + "\", got " + \
                              ::quern::test::show(quern_status_));                                       \
  } while (false)
// Ends the test where going on makes no sense.
#define REQUIRE(condition)                                                \
  do {                                                                    \
    if (!(condition)) {                                                   \
      ::quern::test::fail(__FILE__, __LINE__, "REQUIRE(" #condition ")"); \
      return;                                                             \
    }                                                                     \
  } while (false)
#define REQUIRE_OK(expression)                                                                            \
  do {                                                                                                    \
    const auto& quern_value_ = (expression);                                                              \
    if (!::quern::test::status_of(quern_value_).ok()) {                                                   \
      ::quern::test::fail(                                                                                \
          __FILE__, __LINE__,                                                                             \
          "REQUIRE_OK(" #expression "): " + ::quern::test::show(::quern::test::status_of(quern_value_))); \
      return;                                                                                             \
    }                                                                                                     \
  } while (false)
#define SKIP(reason)             \
  do {                           \
    ::quern::test::skip(reason); \
    return;                      \
  } while (false)
