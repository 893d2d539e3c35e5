// SPDX-License-Identifier: Apache-2.0
// X14: a key is wrapped with authentication or not at all; nothing in a configuration changes that.

#include <gmock/gmock.h>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class Wrapping : public testing::TestWithParam<const char*> {};

TEST_P(Wrapping, X14_WithoutAuthenticationIsRefusedInAConfigurationWithExit2) {
  Host host;
  host.start();
  ASSERT_TRUE(host.serving()) << host.story();
  EXPECT_EQ(host.stop(), 0);
  // The line comes into the profile that the agent reads next.
  host.before_spawn = [&] {
    auto text = host.profile();
    const std::string field(GetParam(), std::string(GetParam()).find(':') + 1);
    const auto at = text.find("\n" + field);
    if (at != text.npos) text.erase(at + 1, text.find('\n', at + 1) - at);
    host.AgentProcess::write("profile.yml", text + GetParam() + "\n", 0644);
  };
  EXPECT_EQ(host.run_to_end(), 2) << host.story();
  const std::string field(GetParam(), std::string(GetParam()).find(':'));
  EXPECT_THAT(read_text(host.log()), HasSubstr(field));
  const auto checked = host.keyagent("config check " + (host.folder() / "keyagentd.yml").string());
  EXPECT_EQ(checked.status, 2) << checked.output;
  EXPECT_THAT(checked.output, HasSubstr(field));
}

// CKM_AES_CBC_PAD, CKM_AES_CBC, CKM_AES_ECB, CKM_DES3_CBC_PAD, and names that a vendor's notes use.
INSTANTIATE_TEST_SUITE_P(Lines, Wrapping,
                         testing::Values("aes-kwp-mechanism: 0x1085", "aes-kwp-mechanism: 0x1082",
                                         "aes-kwp-mechanism: 0x1081", "aes-kwp-mechanism: 0x136",
                                         "aes-cbc: true", "aes-key-wrap: aes-cbc"));

TEST(WrappingControl, X14_TheMechanismsOfRfc5649AreTaken) {
  Host host;
  host.before_spawn = [&] {
    auto text = host.profile();
    const auto at = text.find("\naes-kwp-mechanism:");
    if (at != text.npos) text.erase(at + 1, text.find('\n', at + 1) - at);
    host.AgentProcess::write("profile.yml", text + "aes-kwp-mechanism: 0x210A\n", 0644);
  };
  host.start();
  EXPECT_TRUE(host.serving()) << host.story();
}

}  // namespace
}  // namespace keyagent::test
