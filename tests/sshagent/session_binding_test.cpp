// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/session_binding.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/base/error.h"
#include "agent/sshagent/ssh_key.h"
#include "agent/sshagent/ssh_wire.h"
#include "tests/support/software_keys.h"

namespace keyagent::sshagent {
namespace {

class SessionBind : public ::testing::Test {
 protected:
  SecretBytes message(const PublicKeyInfo& host, const std::string& id, bool forwarding) {
    const auto how = *signature_for(host.algorithm, kRsaSha512);
    const Bytes raw =
        keys_.sign(host.kid, how.algorithm, signature_input(how.algorithm, as_bytes(id)));
    return Writer()
        .string(key_blob(host.spki))
        .string(id)
        .string(signature_blob(how, raw))
        .byte(forwarding ? 1 : 0)
        .take();
  }

  test::SoftwareKeys keys_;
  const PublicKeyInfo host_ = keys_.add("host", Purpose::kAuth, KeyAlgorithm::kEd25519);
  const PublicKeyInfo other_ = keys_.add("other", Purpose::kAuth, KeyAlgorithm::kEcP256);
  const PublicKeyInfo rsa_ = keys_.add("rsa", Purpose::kAuth, KeyAlgorithm::kRsa2048);
  SessionBindings bindings_;
};

TEST_F(SessionBind, SessionThatItsHostKeySignedIsRemembered) {
  EXPECT_FALSE(bindings_.forwarded());
  bindings_.bind(message(host_, "hop one", true));
  EXPECT_TRUE(bindings_.forwarded());
  bindings_.bind(message(host_, "hop one", true));
  EXPECT_EQ(bindings_.size(), 1u) << "a repeated binding adds nothing";
  bindings_.bind(message(other_, "hop two", true));
  bindings_.bind(message(rsa_, "hop three", false));
  EXPECT_EQ(bindings_.size(), 3u);
  EXPECT_TRUE(bindings_.forwarded()) << "what was forwarded once stays so";
}

TEST_F(SessionBind, ConnectionBoundForItsOwnLoginIsNotForwardedAndBindsNoMore) {
  bindings_.bind(message(host_, "login", false));
  EXPECT_FALSE(bindings_.forwarded());
  EXPECT_THROW(bindings_.bind(message(other_, "another", false)), Error);
  EXPECT_EQ(bindings_.size(), 1u);
}

TEST_F(SessionBind, SessionOfAnotherHostKeyIsRefused) {
  bindings_.bind(message(host_, "hop one", true));
  EXPECT_THROW(bindings_.bind(message(other_, "hop one", true)), Error);
}

TEST_F(SessionBind, SignatureOfSomethingElseIsRefusedAndForwardingBelieved) {
  const SecretBytes good = message(host_, "session a", true);
  SecretBytes wrong = good;
  const auto at = as_text(wrong).find("session a");
  wrong[at + 8] = 'b';
  EXPECT_THROW(bindings_.bind(wrong), Error);
  EXPECT_EQ(bindings_.size(), 0u);
  EXPECT_TRUE(bindings_.forwarded());
}

TEST_F(SessionBind, MessageThatIsCutMakesTheConnectionForwarded) {
  const SecretBytes good = message(host_, "session", false);
  for (std::size_t size = 0; size < good.size(); ++size) {
    SessionBindings fresh;
    EXPECT_THROW(fresh.bind(ByteView(good).first(size)), Error) << size;
    EXPECT_TRUE(fresh.forwarded()) << size;
  }
  SecretBytes longer = good;
  longer.push_back(0);
  SessionBindings fresh;
  EXPECT_THROW(fresh.bind(longer), Error);
  EXPECT_THROW(fresh.bind(message(host_, "", false)), Error) << "an empty session identifier";
  EXPECT_THROW(fresh.bind(message(host_, std::string(129, 's'), false)), Error);
}

TEST_F(SessionBind, HopsAreBounded) {
  for (int i = 0; i < 16; ++i) bindings_.bind(message(host_, std::to_string(i), true));
  EXPECT_THROW(bindings_.bind(message(host_, "16", true)), Error);
  EXPECT_EQ(bindings_.size(), 16u);
}

TEST_F(SessionBind, HostIsThatOfTheSessionWhichTheDataName) {
  const auto login = [](const std::string& id) {
    return Writer().string(id).string("the rest of a login").take();
  };
  EXPECT_EQ(bindings_.host_of(login("login")), nullptr) << "nothing is bound";
  bindings_.bind(message(host_, "hop", true));
  EXPECT_EQ(bindings_.host_of(login("hop")), nullptr)
      << "the other end logs in there, not this one";
  bindings_.bind(message(other_, "login", false));
  ASSERT_NE(bindings_.host_of(login("login")), nullptr);
  EXPECT_EQ(*bindings_.host_of(login("login")), key_blob(other_.spki));
  EXPECT_EQ(bindings_.host_of(login("hop")), nullptr);
  EXPECT_EQ(bindings_.host_of(login("another")), nullptr) << "bound to one host, used for another";
  EXPECT_EQ(bindings_.host_of(as_bytes("SSHSIG")), nullptr);
  EXPECT_EQ(bindings_.host_of({}), nullptr);
}

}  // namespace
}  // namespace keyagent::sshagent
