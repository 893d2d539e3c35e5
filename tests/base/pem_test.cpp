// SPDX-License-Identifier: Apache-2.0
#include "agent/base/pem.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/base/error.h"

namespace keyagent {
namespace {

const std::string kMark = "\xef\xbb\xbf";
const std::string kBlock = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";

std::size_t blocks_of(const std::string& file) {
  EXPECT_EQ(has_pem(as_bytes(file)), !read_pem(as_bytes(file)).empty()) << file;
  return read_pem(as_bytes(file)).size();
}

TEST(Pem, Fault176_JoinedFilesWithByteOrderMarksAreReadWhole) {
  EXPECT_EQ(blocks_of(kMark + kBlock + kMark + kBlock), 2u);
  EXPECT_EQ(blocks_of("\r\n" + kMark + kBlock), 1u);
}

// OpenSSL's reader skips a mark in the first line that it gets, wherever that line began.
TEST(Pem, Fault176_HasPemAndReadPemAgreeOnWhereABlockBegins) {
  EXPECT_EQ(blocks_of("\r" + kMark + kBlock), 0u);
  EXPECT_EQ(blocks_of(" " + kMark + kMark + kBlock), 0u);
  EXPECT_EQ(blocks_of("text\r\n  " + kBlock), 1u);
}

TEST(Pem, Fault176_ACutBlockIsNamed) {
  EXPECT_THROW(read_pem(as_bytes(kBlock.substr(0, 50))), Error);
}

}  // namespace
}  // namespace keyagent
