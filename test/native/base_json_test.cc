// base/json: the grammar, the bounds, and what handles answer.
#include "base/json.h"
#include "test.h"

namespace quern {
namespace {

bool accepts(std::string_view text) { return parse_json(text).ok(); }

TEST(base_json_reads_every_kind) {
  auto document = parse_json(R"( {"a": 1, "b": [true, false, null], "c": "x", "d": -2.5e3, "e": {}} )");
  REQUIRE_OK(document);
  const JsonValue root = (*document)->root();
  EXPECT_EQ(root.size(), 5u);
  EXPECT_EQ(root.find("a")->as_u64().value_or(0), 1u);
  EXPECT_EQ(root.find("a")->as_double().value_or(0), 1.0);
  EXPECT_EQ(root.find("b")->size(), 3u);
  EXPECT(root.find("b")->first()->as_bool() == true);
  EXPECT(root.find("b")->first()->next()->next()->is_null());
  EXPECT(!root.find("b")->first()->next()->next()->next());
  EXPECT(root.find("c")->as_string() == "x");
  EXPECT_EQ(root.find("d")->as_double().value_or(0), -2500.0);
  EXPECT(!root.find("d")->as_u64());
  EXPECT(root.find("e")->is_object());
  EXPECT(!root.find("f"));
  EXPECT(!root.find("a")->find("a"));
}

TEST(base_json_strings_are_decoded) {
  auto document = parse_json(R"({"k\u00e9y": "\"\\\/\b\f\n\r\t\u0041\u20ac\ud83d\ude00 é"})");
  REQUIRE_OK(document);
  const auto value = (*document)->root().find("k\xC3\xA9y");
  REQUIRE(value.has_value());
  EXPECT_EQ(std::string(*value->as_string()), std::string("\"\\/\b\f\n\r\tA\xE2\x82\xAC\xF0\x9F\x98\x80 \xC3\xA9"));
}

TEST(base_json_integers_are_exact_or_nothing) {
  auto document = parse_json("[18446744073709551615, 18446744073709551616, -1, 1.0, 1e3, 0]");
  REQUIRE_OK(document);
  auto item = (*document)->root().first();
  EXPECT(item->as_u64() == UINT64_MAX);
  for (int i = 0; i < 4; ++i) {
    item = item->next();
    EXPECT(!item->as_u64());
  }
  EXPECT(item->next()->as_u64() == 0u);
}

TEST(base_json_refuses_what_the_grammar_does_not_allow) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,1]",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{'a':1}",
                           "01",
                           "+1",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "-",
                           "--1",
                           "nul",
                           "True",
                           "NaN",
                           "Infinity",
                           "\"",
                           "\"\\\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\n\"",
                           "1 2",
                           "[1] x",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\udc00\"",
                           "/* */1",
                           "[1 2]",
                           "{\"a\" 1}"})
    EXPECT_MSG(!accepts(text), text);
  EXPECT(!accepts(std::string_view("\"\0\"", 3)));
  EXPECT(!accepts(std::string_view("1\0", 2)));
  EXPECT_ERROR(parse_json(R"({"a": 1, "\u0061": 2})"), "twice");
  EXPECT_ERROR(parse_json("[1, x]"), "byte 4");
}

TEST(base_json_refuses_bad_utf8) {
  for (const char* text : {"\"\x80\"", "\"\xC0\xAF\"", "\"\xC3\"", "\"\xE0\x80\x80\"", "\"\xED\xA0\x80\"",
                           "\"\xF0\x80\x80\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xF8\x88\x80\x80\x80\"", "\"\xFF\""})
    EXPECT(!accepts(text));
  EXPECT(accepts("\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\""));
}

TEST(base_json_keeps_its_bounds) {
  JsonLimits limits;
  limits.bytes_max = 8;
  EXPECT_ERROR(parse_json("[1,2,3,4,5]", limits), "at most 8 bytes");
  limits = JsonLimits();
  limits.depth_max = 3;
  EXPECT_OK(parse_json("[[1]]", limits));
  EXPECT_ERROR(parse_json("[[[1]]]", limits), "too deep");
  limits = JsonLimits();
  limits.values_max = 4;
  EXPECT_OK(parse_json("[1,2,3]", limits));
  EXPECT_ERROR(parse_json("[1,2,3,4]", limits), "too many");
  EXPECT_ERROR(parse_json(std::string(100000, '[')), "too deep");
}

TEST(base_json_excerpts_are_short) {
  auto document = parse_json("[\"" + std::string(500, 'x') + "\", 12, {}, [1, 2]]");
  REQUIRE_OK(document);
  auto item = (*document)->root().first();
  EXPECT_LT(item->excerpt().size(), 80u);
  EXPECT_EQ(item->next()->excerpt(), std::string("12"));
  EXPECT_EQ(item->next()->next()->excerpt(), std::string("an object"));
  EXPECT_EQ(item->next()->next()->next()->excerpt(), std::string("an array of 2"));
}

}  // namespace
}  // namespace quern
