// SPDX-License-Identifier: Apache-2.0
#include "agent/base/yaml_reader.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "tests/support/temp_folder.h"

namespace keyagent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

YamlReader read(std::string_view text) {
  return YamlReader::from_text(text, "f.yml");
}

template <typename Action>
std::string fault_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kConfiguration);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(YamlReader, ReadsEachKindOfValue) {
  const auto reader = read(
      "name: agent\ncount: 7\nmode: 0660\non: true\nwait: 250ms\nlist: [a, b]\none: x\n"
      "inner: {deep: 1}\nrules:\n  - {n: 1}\n  - {n: 2}\n");
  EXPECT_EQ(reader.text("name"), "agent");
  EXPECT_EQ(reader.text("absent", "otherwise"), "otherwise");
  EXPECT_EQ(reader.integer("count", 0, 0, 10), 7);
  EXPECT_EQ(reader.integer("mode", 0, 0, 0777), 0660);
  EXPECT_TRUE(reader.boolean("on", false));
  EXPECT_EQ(reader.duration("wait", {}), std::chrono::milliseconds(250));
  EXPECT_THAT(reader.texts("list"), ElementsAre("a", "b"));
  EXPECT_THAT(reader.texts("one"), ElementsAre("x"));
  EXPECT_EQ(reader.child("inner").integer("deep", 0, 0, 9), 1);
  const auto rules = reader.children("rules");
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(rules[0].integer("n", 0, 0, 9), 1);
  EXPECT_EQ(rules[1].integer("n", 0, 0, 9), 2);
  EXPECT_EQ(rules[1].where(), "f.yml:11");
  EXPECT_FALSE(reader.child("nowhere").has("x"));
  EXPECT_NO_THROW(reader.finish());
}

TEST(YamlReader, Fault122_UnknownNameIsRefusedWithLineAndTheNearestKnownOne) {
  const auto reader = read("state-folder: /x\nsokcet: {}\n");
  (void)reader.text("state-folder");
  (void)reader.child("socket");
  const auto text = fault_of([&] { reader.finish(); });
  EXPECT_THAT(text, HasSubstr("f.yml:2"));
  EXPECT_THAT(text, HasSubstr("did you mean 'socket'"));
}

TEST(YamlReader, Fault122_UnknownNameInsideAChildIsRefused) {
  const auto reader = read("socket:\n  path: /x\n  moed: 1\nrules:\n  - {nmae: x}\n");
  const auto socket = reader.child("socket");
  (void)socket.text("path");
  (void)socket.text("mode", "");
  EXPECT_THAT(fault_of([&] { socket.finish(); }), HasSubstr("f.yml:3"));
  EXPECT_THAT(fault_of([&] { reader.finish(); }), HasSubstr("f.yml"));
}

TEST(YamlReader, Fault122_WhatReadsDifferentlyThanItLooksIsRefused) {
  const std::pair<const char*, const char*> kTexts[] = {
      {"a: 1\na: 2\n", "f.yml:2"},
      {"a: {b: 1, b: 2}\n", "twice"},
      {"a: &x 1\n", "anchors"},
      {"a: &x {b: 1}\nc: *x\n", "f.yml:1"},
      {"a: !!str 1\n", "tags"},
      {"a: !ruby/object 1\n", "tags"},
      {"a: 1\n---\nb: 2\n", "one document"},
      {"- a\n", "mapping"},
      {"just text\n", "mapping"},
      {"a: [\n", "not YAML"},
      {"? [a]\n: 1\n", "word"},
      {"a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", "deep"}};
  for (const auto& [text, expected] : kTexts) {
    EXPECT_THAT(fault_of([&, text = text] { read(text); }), HasSubstr(expected)) << text;
  }
}

// Seven lines that stand for ten million nodes.
TEST(YamlReader, Fault122_NestedAliasesCostNothing) {
  std::string text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 8; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 1; j < 10; ++j) text += "," + before;
    text += "]\n";
  }
  EXPECT_THAT(fault_of([&] { read(text); }), HasSubstr("f.yml:1: anchors"));
}

TEST(YamlReader, Fault122_ATextOfMoreThanAMebibyteIsNotParsed) {
  const std::string comment = "# " + std::string(1024 * 1024 - 10, 'x') + "\n";
  EXPECT_EQ(read(comment + "a: 1\n").text("a"), "1");
  EXPECT_THAT(fault_of([&] { read(comment + "abcdefgh: 1\n"); }), HasSubstr("f.yml: longer than"));
}

TEST(YamlReader, Fault122_ValuesOfTheWrongKindNameTheirLine) {
  const auto reader = read(
      "text: {}\nnumber: 7x\nlarge: 99999999999999999999\nflag: maybe\nwait: 5\nlong: 999999999d\n"
      "list: {a: 1}\nchild: x\nrules: {}\nnegative: -1s\nhole:\n");
  EXPECT_THAT(fault_of([&] { (void)reader.text("text"); }), HasSubstr("f.yml:1"));
  EXPECT_THAT(fault_of([&] { reader.integer("number", 0, 0, 9); }), HasSubstr("f.yml:2"));
  EXPECT_THAT(fault_of([&] { reader.integer("large", 0, 0, 9); }), HasSubstr("from 0 to 9"));
  EXPECT_THAT(fault_of([&] { reader.boolean("flag", false); }), HasSubstr("true or false"));
  EXPECT_THAT(fault_of([&] { reader.duration("wait", {}); }), HasSubstr("f.yml:5"));
  EXPECT_THAT(fault_of([&] { reader.duration("long", {}); }), HasSubstr("f.yml:6"));
  EXPECT_THAT(fault_of([&] { reader.texts("list"); }), HasSubstr("f.yml:7"));
  EXPECT_THAT(fault_of([&] { reader.child("child"); }), HasSubstr("f.yml:8"));
  EXPECT_THAT(fault_of([&] { reader.children("rules"); }), HasSubstr("f.yml:9"));
  EXPECT_THAT(fault_of([&] { reader.duration("negative", {}); }), HasSubstr("f.yml:10"));
  EXPECT_THAT(fault_of([&] { (void)reader.text("hole"); }), HasSubstr("missing"));
  EXPECT_THAT(fault_of([&] { (void)reader.text("absent"); }), HasSubstr("'absent' is missing"));
}

TEST(YamlReader, Fault122_FileThatOthersMayWriteIsRefused) {
  const test::TempFolder folder;
  const auto path = folder.path() / "c.yml";
  replace_file(path, as_bytes("a: 1\n"), 0644);
  EXPECT_EQ(YamlReader::from_file(path).text("a"), "1");
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  EXPECT_THAT(fault_of([&] { YamlReader::from_file(path); }), HasSubstr("chmod go-w"));
}

TEST(YamlReader, EmptyFileIsAnEmptyMapping) {
  for (const char* text : {"", "# only a comment\n", "---\n"}) {
    EXPECT_TRUE(read(text).names().empty()) << text;
    EXPECT_NO_THROW(read(text).finish());
  }
}

}  // namespace
}  // namespace keyagent
