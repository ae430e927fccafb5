// base/: Status and Result.
#include "base/status.h"
#include "test.h"

namespace quern {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return invalid_argument("expected an even number, got " + std::to_string(value));
  return value / 2;
}

Status first_error(int value) {
  Result<int> result = half(value);
  QUERN_RETURN_IF_ERROR(result.status());
  return Status();
}

TEST(base_result_holds_a_value_or_says_why_not) {
  Result<int> good = half(8);
  REQUIRE_OK(good);
  EXPECT_EQ(good.value(), 4);
  EXPECT_ERROR(half(7), "expected an even number, got 7");
  EXPECT_EQ(half(7).status().code(), Code::kInvalidArgument);
}

TEST(base_return_if_error_passes_the_first_error_on) {
  EXPECT_OK(first_error(2));
  EXPECT_ERROR(first_error(3), "got 3");
}

}  // namespace
}  // namespace quern
