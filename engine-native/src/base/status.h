// Status and Result: errors as values. Core code neither throws nor uses RTTI.
//
// Thread safety: plain values. Messages say what was expected, what came and what to do; they may reach a client.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "base/check.h"

namespace quern {

// The gRPC names and numbers, so that the service layer needs no second table.
enum class Code : int {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok_status() { return Status(); }
  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status invalid_argument(std::string message) { return Status(Code::kInvalidArgument, std::move(message)); }
inline Status failed_precondition(std::string message) { return Status(Code::kFailedPrecondition, std::move(message)); }
inline Status not_found(std::string message) { return Status(Code::kNotFound, std::move(message)); }
inline Status unimplemented(std::string message) { return Status(Code::kUnimplemented, std::move(message)); }
inline Status resource_exhausted(std::string message) { return Status(Code::kResourceExhausted, std::move(message)); }
inline Status data_loss(std::string message) { return Status(Code::kDataLoss, std::move(message)); }
inline Status internal_error(std::string message) { return Status(Code::kInternal, std::move(message)); }

// A value or the status that explains its absence.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit on purpose
    CHECK(!status_.ok(), "a Result without a value needs an error status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok().
  T& value() & {
    CHECK(ok(), status_.message().c_str());
    return *value_;
  }
  const T& value() const& {
    CHECK(ok(), status_.message().c_str());
    return *value_;
  }
  T&& value() && {
    CHECK(ok(), status_.message().c_str());
    return std::move(*value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace quern

#define QUERN_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (::quern::Status quern_status_ = (expr); !quern_status_.ok()) return quern_status_; \
  } while (false)
