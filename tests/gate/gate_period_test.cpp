// SPDX-License-Identifier: Apache-2.0
// A key past its originator period, as the faces of the gate see it.

#include <gtest/gtest.h>

#include "agent/envelope/envelope.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using ::testing::HasSubstr;

class GatePeriodTest : public GateTest {
 protected:
  // The clock is believed to be so far ahead; the periods are the defaults.
  void expire() {
    keys_.set_periods(keys::Periods{});
    keys_.believe(system_clock().now() + std::chrono::hours(24 * 400));
  }
  wire::Response as_link(wire::Request request) {
    policy::Principal principal;
    principal.voucher = policy::Principal::Voucher::kInternal;
    principal.name = "link";
    auto asked = std::make_shared<Asked>();
    gate().handle(principal, std::move(request), asked);
    return asked->wait();
  }
  // What TLS 1.3 has signed: RFC 8446 §4.4.3.
  static wire::Request handshake(const std::string& key) {
    wire::Request request;
    request.mutable_sign()->set_key(key);
    request.mutable_sign()->set_message(std::string(64, ' ') + "TLS 1.3, client CertificateVerify" +
                                        '\0' + std::string(32, 'h'));
    return request;
  }
  static wire::Request seal_request(const std::string& key) {
    wire::Request request;
    request.mutable_seal()->set_key(key);
    request.mutable_seal()->set_plaintext("the password");
    return request;
  }
};

TEST_F(GatePeriodTest, Fault165_NothingNewIsSignedOrSealedAndWhatIsSealedOpens) {
  create("releases", "sign", "ec-p256");
  create("vault", "storage");
  const auto envelope = ask(kAdmin, seal_request("vault")).seal().envelope();
  expire();
  const auto refused = ask(kAdmin, sign_request("releases"));
  EXPECT_EQ(refused.failure().code(), wire::KEY_STATE);
  EXPECT_THAT(refused.failure().text(), HasSubstr("keyagent rekey releases"));
  EXPECT_EQ(ask(kAdmin, seal_request("vault")).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(ask(kAdmin, open_request(envelope)).open().plaintext(), "the password");
}

TEST_F(GatePeriodTest, Fault165_ResealGivesNothingUnderAnExpiredKey) {
  create("vault", "storage");
  const auto envelope = ask(kAdmin, seal_request("vault")).seal().envelope();
  runner_.begin({KeyName("vault"), {}, {}, keys::Span(0)}, {"test"});
  runner_.run(keys::Span(0));
  expire();
  wire::Request request;
  request.mutable_reseal()->set_envelope(envelope);
  EXPECT_EQ(ask(kAdmin, request).failure().code(), wire::KEY_STATE);
}

TEST_F(GatePeriodTest, Fault165_AnExpiredLinkKeySignsHandshakesOnlyDuringItsRekey) {
  create("identity", "auth", "ec-p256");
  expire();
  EXPECT_EQ(as_link(handshake("identity")).failure().code(), wire::KEY_STATE);
  runner_.begin({KeyName("identity"), {}, {}, keys::Span(0)}, {"test"});
  EXPECT_FALSE(as_link(handshake("identity")).has_failure())
      << as_link(handshake("identity")).failure().text();
  EXPECT_EQ(ask(kAdmin, handshake("identity")).failure().code(), wire::KEY_STATE)
      << "for the link alone";
}

TEST_F(GatePeriodTest, Fault165_StatusAndDoctorNameTheKeyAndTheFix) {
  create("releases", "sign", "ec-p256");
  expire();
  wire::Request status;
  status.mutable_status();
  const auto reply = ask(kAdmin, status).status();
  ASSERT_EQ(reply.keys_size(), 1);
  EXPECT_TRUE(reply.keys(0).expired());
  EXPECT_FALSE(reply.keys(0).refused_from().empty());
  wire::Request request;
  request.mutable_doctor();
  const auto findings = ask(kAdmin, request).doctor();
  ASSERT_EQ(findings.findings_size(), 1);
  EXPECT_EQ(findings.findings(0).severity(), "error");
  EXPECT_EQ(findings.findings(0).cure(), "keyagent rekey releases");
  EXPECT_EQ(findings.exit_code(), 3u);
}

}  // namespace
}  // namespace keyagent::gate
