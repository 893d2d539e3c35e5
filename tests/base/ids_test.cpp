// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ids.h"

#include <gtest/gtest.h>

#include "agent/base/clock.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent {
namespace {

TEST(Kid, TakesThumbprintsAndSecretIdsOnly) {
  const std::string thumbprint = to_base64url(sha256(as_bytes("a key")));
  EXPECT_EQ(Kid(thumbprint).text(), thumbprint);
  EXPECT_TRUE(Kid::parse(std::string(32, 'a')));
  for (const std::string& text :
       {std::string(), std::string(32, 'A'), std::string(42, 'a'), std::string(43, '='),
        std::string(31, '0'), std::string(43, '.')}) {
    EXPECT_FALSE(Kid::parse(text)) << text;
    EXPECT_THROW((void)Kid(text), Error) << text;
  }
}

// Two texts for one thumbprint would be two kids for one key.
TEST(Kid, ThumbprintWithStrayBitsIsRefused) {
  std::string thumbprint = to_base64url(Bytes(32, 0));
  thumbprint.back() = 'B';
  EXPECT_FALSE(Kid::parse(thumbprint));
}

TEST(KeyName, RefusesWhatWouldNotBeOneWordOrReadsAsAKid) {
  for (const char* good : {"a", "backup-1", "0.key_name", "audit"})
    EXPECT_TRUE(KeyName::parse(good));
  for (const std::string& bad :
       {std::string(), std::string("Backup"), std::string("-x"), std::string("a b"),
        std::string("a/b"), std::string("a\n"), std::string(64, 'a'), std::string(32, 'a'),
        std::string("a\0b", 3), std::string("*")}) {
    EXPECT_FALSE(KeyName::parse(bad)) << bad;
    EXPECT_THROW((void)KeyName(bad), Error) << bad;
  }
  EXPECT_TRUE(KeyName::parse(std::string(63, 'a')));
}

TEST(CkaId, RandomIdsDifferAndReadBack) {
  const CkaId id = CkaId::random();
  EXPECT_NE(id, CkaId::random());
  EXPECT_EQ(id.hex().size(), 32U);
  EXPECT_EQ(CkaId::from_hex(id.hex()), id);
  EXPECT_THROW(CkaId::from_hex("00"), Error);
  EXPECT_THROW(CkaId::from_hex(std::string(32, 'g')), Error);
}

TEST(Clock, Rfc3339ReadsBackToTheMillisecond) {
  const WallTime time{std::chrono::milliseconds(1795300800123)};
  EXPECT_EQ(rfc3339(time), "2026-11-21T22:40:00.123Z");
  EXPECT_EQ(parse_rfc3339(rfc3339(time)), time);
  for (const char* bad :
       {"", "2026-11-22", "2026-02-30T00:00:00.000Z", "2026-11-22T24:00:00.000Z",
        "2026-11-22T08:00:00.123+", "2026-11-22t08:00:00.123Z", "2026-11-2 T08:00:00.123Z"}) {
    EXPECT_THROW(parse_rfc3339(bad), Error) << bad;
  }
}

}  // namespace
}  // namespace keyagent
