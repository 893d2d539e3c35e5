// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/ssh_wire.h"

#include <gtest/gtest.h>

#include "agent/base/error.h"

namespace keyagent::sshagent {
namespace {

Bytes positive(Bytes field) {
  Reader reader(field);
  const ByteView number = reader.positive();
  reader.finish();
  return {number.begin(), number.end()};
}

SecretBytes mpint(const Bytes& number) {
  return Writer().mpint(number).take();
}

TEST(SshWire, WhatIsWrittenIsReadAgain) {
  const SecretBytes message = Writer().byte(14).uint32(0x01020304).string("text").take();
  EXPECT_EQ(message, (SecretBytes{14, 1, 2, 3, 4, 0, 0, 0, 4, 't', 'e', 'x', 't'}));
  Reader reader(message);
  EXPECT_EQ(reader.byte(), 14);
  EXPECT_EQ(reader.uint32(), 0x01020304U);
  EXPECT_FALSE(reader.at_end());
  EXPECT_EQ(reader.name(), "text");
  EXPECT_NO_THROW(reader.finish());
}

// The examples of RFC 4251 section 5, and what they leave out.
TEST(SshWire, MpintsAreMinimalAndPositive) {
  EXPECT_EQ(mpint({}), (SecretBytes{0, 0, 0, 0}));
  EXPECT_EQ(mpint({0, 0}), (SecretBytes{0, 0, 0, 0}));
  EXPECT_EQ(mpint({0x80}), (SecretBytes{0, 0, 0, 2, 0, 0x80}));
  EXPECT_EQ(mpint({0, 0, 0x7f}), (SecretBytes{0, 0, 0, 1, 0x7f}));
  EXPECT_EQ(positive({0, 0, 0, 2, 0, 0x80}), Bytes{0x80});
  EXPECT_EQ(positive({0, 0, 0, 1, 0x7f}), Bytes{0x7f});
  for (const Bytes& wrong :
       {Bytes{0, 0, 0, 0}, Bytes{0, 0, 0, 1, 0}, Bytes{0, 0, 0, 1, 0x80},
        Bytes{0, 0, 0, 2, 0, 0x7f}, Bytes{0, 0, 0, 3, 0, 0, 0x80}, Bytes{0, 0, 0, 2, 0x7f}})
    EXPECT_THROW(positive(wrong), Error);
}

TEST(SshWire, FieldThatIsCutShortIsRefusedAtEveryByte) {
  const SecretBytes message = Writer().uint32(7).string("abc").byte(1).take();
  for (std::size_t size = 0; size < message.size(); ++size) {
    // Its own copy, so that a sanitizer sees a read beyond the end.
    const Bytes cut(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(size));
    Reader reader(cut);
    EXPECT_THROW(
        {
          reader.uint32();
          reader.string();
          reader.boolean();
        },
        Error)
        << size;
  }
}

TEST(SshWire, LengthBeyondTheMessageIsRefused) {
  for (const Bytes& wrong : {Bytes{0xff, 0xff, 0xff, 0xff}, Bytes{0, 0, 0, 2, 'a'}})
    EXPECT_THROW(Reader(wrong).string(), Error);
}

TEST(SshWire, WhatFollowsTheLastFieldIsRefused) {
  const Bytes message{1, 2};
  Reader reader(message);
  EXPECT_TRUE(reader.boolean());
  EXPECT_THROW(reader.finish(), Error);
  EXPECT_THROW(reader.boolean(), Error) << "2 is not a boolean";
}

TEST(SshWire, NameIsShortAndPrintable) {
  for (const std::string& wrong :
       {std::string(), std::string("a b"), std::string("a\0b", 3), std::string("\x7f"),
        std::string("\xc3\xa4"), std::string(65, 'a')})
    EXPECT_THROW(Reader(Writer().string(wrong).take()).name(), Error) << wrong;
}

}  // namespace
}  // namespace keyagent::sshagent
