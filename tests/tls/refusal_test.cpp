// SPDX-License-Identifier: Apache-2.0
// T5: each reason to refuse the peer has its own code at the side that refuses, and no session is
// established. T6: the refused side learns the reason.

#include <fstream>

#include "tests/support/command.h"
#include "tests/support/lossy_proxy.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

using keyagent::test::try_command;
using testing::AllOf;
using testing::HasSubstr;
using Wish = TestCa::Wish;

Wish with(void (*change)(Wish&)) {
  Wish wish;
  change(wish);
  return wish;
}
const Wish kExpired = with([](Wish& wish) { wish.not_after = wish.not_before + 30min; });
const Wish kEarly = with([](Wish& wish) { wish.not_before += 3h; });
const Wish kServerOnly = with([](Wish& wish) { wish.eku = "serverAuth"; });
const Wish kClientOnly = with([](Wish& wish) { wish.eku = "clientAuth"; });
const Wish kNoPurpose = with([](Wish& wish) { wish.eku = ""; });
const Wish kElsewhere = with([](Wish& wish) { wish.san = "DNS:elsewhere.example"; });
const Wish kSubjectOnly = with([](Wish& wish) {
  wish.subject = "localhost";
  wish.san = "";
});

class Refused : public Tls {
 protected:
  // What the client says of a server with `identity`, and whether the server heard of it.
  Refusal by_client(const Identity& identity, const ClientOptions* settings = nullptr) {
    serve(identity, trust(), options());
    auto mine = settings != nullptr ? *settings : ClientOptions{};
    mine.url = url();
    if (settings == nullptr) mine.trust = trust();
    mine.identity = Tls::identity("client");
    const auto refusal = refusal_of([&] { Client(library_, mine).call("GET", "/", ""); });
    if (refusal.code != Code::kOk) {
      const auto heard = server_refusal();
      EXPECT_EQ(heard.code, Code::kRefusedByPeer) << heard.text;
      EXPECT_THAT(heard.text, HasSubstr("alert"));
      EXPECT_THAT(heard.address, HasSubstr("127.0.0.1:"));
    }
    EXPECT_EQ(served_, 0);
    return refusal;
  }
  Refusal by_client(const Wish& wish) { return by_client(identity("server", ca_, wish)); }
  // What the server says of a client with `identity`.
  Refusal by_server(std::optional<Identity> identity, Trust trust) {
    serve(Tls::identity("server"), trust, options());
    auto mine = client_options();
    mine.identity = std::move(identity);
    for (const bool link : {false, true}) {
      const auto told = refusal_of([&] {
        if (link) LinkClient(library_, mine, "/link");
        if (!link) Client(library_, mine).call("GET", "/", "");
      });
      EXPECT_EQ(told.code, Code::kRefusedByPeer) << told.text;
      EXPECT_THAT(told.text, HasSubstr("the server refused the connection: TLS alert"));
      if (link) continue;
      EXPECT_NE(server_refusal().code, Code::kOk);
    }
    EXPECT_EQ(served_, 0);
    return server_refusal();
  }
  Refusal by_server(const Wish& wish) { return by_server(identity("client", ca_, wish), trust()); }
  Handlers handlers() override {
    Handlers calls = Tls::handlers();
    calls.request = [this](const HttpRequest&) {
      ++served_;
      return HttpResponse{};
    };
    return calls;
  }
  std::atomic<int> served_{0};
};

TEST_F(Refused, T5_AServerIsRefusedByItsClientWithTheCodeOfTheReason) {
  EXPECT_EQ(by_client(identity("server", other_ca_, {})).code, Code::kPeerUntrusted);
  const auto expired = by_client(kExpired);
  EXPECT_EQ(expired.code, Code::kPeerExpired);
  EXPECT_THAT(expired.text, AllOf(HasSubstr("the server's certificate CN=test"),
                                  HasSubstr(rfc3339(system_clock().now()).substr(0, 13))));
  const auto early = by_client(kEarly);
  EXPECT_EQ(early.code, Code::kPeerNotYetValid);
  EXPECT_THAT(early.text,
              AllOf(HasSubstr("clock skew"), HasSubstr(rfc3339(kEarly.not_before).substr(0, 16)),
                    HasSubstr(rfc3339(system_clock().now()).substr(0, 13))));
  EXPECT_EQ(by_client(kClientOnly).code, Code::kPeerPurpose);
  EXPECT_EQ(by_client(kNoPurpose).code, Code::kPeerPurpose);
  const auto elsewhere = by_client(kElsewhere);
  EXPECT_EQ(elsewhere.code, Code::kPeerName);
  EXPECT_THAT(elsewhere.text, HasSubstr("does not name 127.0.0.1"));
}

TEST_F(Refused, T5_AHostIsNamedByTheSanAndNotByTheSubject) {
  for (const bool named : {true, false}) {
    serve(named ? identity("server") : identity("server", ca_, kSubjectOnly), trust(), options());
    auto mine = client_options();
    mine.url = url("localhost");
    EXPECT_EQ(refusal_of([&] { Client(library_, mine).call("GET", "/", ""); }).code,
              named ? Code::kOk : Code::kPeerName);
  }
}

TEST_F(Refused, T5_AServerWithAnotherKeyThanThePinnedOneIsRefused) {
  ClientOptions settings;
  settings.trust = trust();
  settings.expected_kid = kid("rsa");
  const auto refusal = by_client(identity("server"), &settings);
  EXPECT_EQ(refusal.code, Code::kPeerKey);
  EXPECT_THAT(refusal.text, AllOf(HasSubstr(kid("rsa")), HasSubstr(kid("server"))));
  settings.expected_kid = kid("server");
  served_ = 0;
  serve();
  settings.url = url();
  settings.identity = identity("client");
  EXPECT_EQ(Client(library_, settings).call("GET", "/", "").status, 200);
}

TEST_F(Refused, T5_ARootWithAnotherKeyThanThePinnedOneIsRefused) {
  ClientOptions settings;
  settings.trust.anchor_spki_sha256 = other_ca_.spki_sha256();
  const auto refusal = by_client(identity("server"), &settings);
  EXPECT_EQ(refusal.code, Code::kPeerKey);
  EXPECT_THAT(refusal.text,
              AllOf(HasSubstr(ca_.spki_sha256()), HasSubstr(other_ca_.spki_sha256())));
  // The pinned root is sent, but has not issued the certificate.
  const auto foreign =
      by_client({"server", {ca_.issue(spki("server"), {}), other_ca_.root()}}, &settings);
  EXPECT_EQ(foreign.code, Code::kPeerUntrusted) << foreign.text;
  settings.trust.anchor_spki_sha256 = ca_.spki_sha256();
  EXPECT_EQ(by_client(identity("server", ca_, kElsewhere), &settings).code, Code::kPeerName);
  serve();
  settings.url = url();
  settings.identity = identity("client");
  EXPECT_EQ(Client(library_, settings).call("GET", "/", "").status, 200);
}

TEST_F(Refused, T5_ARevokedServerIsRefused) {
  const auto mine = identity("server");
  ClientOptions settings;
  settings.trust = trust();
  settings.trust.crls = {ca_.revoke({mine.chain[0]})};
  EXPECT_EQ(by_client(mine, &settings).code, Code::kPeerRevoked);
  settings.trust.crls = {ca_.revoke({mine.chain[0]}, std::chrono::system_clock::now() - 1h)};
  EXPECT_EQ(by_client(mine, &settings).code, Code::kPeerRevoked) << "an old list still counts";
}

TEST_F(Refused, Fault130_AnExpiredOrForeignOrEmptyListRefusesNoServer) {
  serve();
  auto mine = client_options();
  for (const auto& list : {ca_.revoke({}, std::chrono::system_clock::now() - 1h),
                           other_ca_.revoke({}), ca_.revoke({})}) {
    mine.trust.crls = {list};
    EXPECT_EQ(refusal_of([&] { Client(library_, mine).call("GET", "/", ""); }).text, "");
  }
}

TEST_F(Refused, T6_AClientIsRefusedByItsServerWithTheCodeOfTheReasonAndLearnsIt) {
  EXPECT_EQ(by_server(identity("client", other_ca_, {}), trust()).code, Code::kPeerUntrusted);
  const auto expired = by_server(kExpired);
  EXPECT_EQ(expired.code, Code::kPeerExpired);
  EXPECT_THAT(expired.text, HasSubstr("the client's certificate"));
  EXPECT_EQ(by_server(kEarly).code, Code::kPeerNotYetValid);
  EXPECT_EQ(by_server(kServerOnly).code, Code::kPeerPurpose);
  EXPECT_EQ(by_server(kNoPurpose).code, Code::kPeerPurpose);
  EXPECT_EQ(by_server(std::nullopt, trust()).code, Code::kPeerNoCertificate);
  const auto mine = identity("client");
  Trust lists = trust();
  lists.crls = {ca_.revoke({mine.chain[0]})};
  EXPECT_EQ(by_server(mine, lists).code, Code::kPeerRevoked);
}

TEST_F(Refused, T5_WithoutACertificateOnlyWhereThatIsAllowed) {
  auto settings = options();
  settings.client_certificate = ClientCertificate::kOptional;
  serve(identity("server"), trust(), settings);
  auto mine = client_options();
  mine.identity.reset();
  EXPECT_EQ(Client(library_, mine).call("GET", "/", "").status, 200);
  mine.identity = identity("client", other_ca_, {});
  EXPECT_EQ(refusal_of([&] { Client(library_, mine).call("GET", "/", ""); }).code,
            Code::kRefusedByPeer)
      << "a certificate that is presented is checked";
  EXPECT_EQ(server_refusal().code, Code::kPeerUntrusted);
}

TEST_F(Refused, T5_WithoutAnAnchorNoServerIsTrusted) {
  ClientOptions settings;
  EXPECT_EQ(by_client(identity("server"), &settings).code, Code::kPeerUntrusted);
}

TEST_F(Refused, T5_Tls11AndStaticRsaAreRefused) {
  serve(identity("rsa"), trust(), options());
  for (const std::string how :
       {"-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES256-GCM-SHA384:AES128-SHA"}) {
    const auto result =
        try_command("openssl s_client -connect 127.0.0.1:" + std::to_string(server_->port()) + " " +
                    how + " </dev/null 2>&1");
    EXPECT_THAT(result.output, HasSubstr("alert")) << how;
    EXPECT_EQ(server_refusal().code, Code::kPeer);
  }
}

TEST_F(Refused, T5_AnOpensslClientWithAWrongCertificateIsRefusedInTls12) {
  serve();
  const keyagent::test::TempFolder folder;
  const auto key = keyagent::test::make_software_key();
  std::ofstream(folder.path() / "both.pem")
      << key.pem << keyagent::test::certificate_pem(ca_.issue(key.spki, kServerOnly));
  const auto result =
      try_command("openssl s_client -tls1_2 -cert " + (folder.path() / "both.pem").string() +
                  " -connect 127.0.0.1:" + std::to_string(server_->port()) + " </dev/null 2>&1");
  EXPECT_THAT(result.output, HasSubstr("unsupported certificate"));
  EXPECT_EQ(server_refusal().code, Code::kPeerPurpose);
}

// Who shows a certificate has to sign with its key.
TEST_F(Refused, T5_ASignatureThatIsNotOfTheCertificatesKeyIsRefused) {
  serve();
  backend_->forged = kid("client");
  EXPECT_EQ(refusal_of([&] { client().call("GET", "/", ""); }).code, Code::kRefusedByPeer);
  EXPECT_EQ(server_refusal().code, Code::kPeer);
  backend_->forged = kid("server");
  const auto refusal = refusal_of([&] { client().call("GET", "/", ""); });
  EXPECT_EQ(refusal.code, Code::kPeer);
  EXPECT_EQ(server_refusal().code, Code::kRefusedByPeer);
  backend_->forged = "";
  EXPECT_EQ(served_, 0);
  EXPECT_EQ(client().call("GET", "/", "").status, 200);
}

TEST_F(Refused, T5_WhatWasChangedOnTheWayIsNeverServedOrBelieved) {
  serve();
  keyagent::test::LossyProxy proxy({server_->port()});
  auto mine = client_options();
  mine.url = "https://127.0.0.1:" + std::to_string(proxy.port());
  mine.timeout = 1s;  // a changed length lets both wait
  for (const bool to_server : {true, false}) {
    for (std::size_t at = 0; at < 1000; at += 53) {  // a handshake is longer, either way
      proxy.change(to_server, at);
      EXPECT_NE(refusal_of([&] { Client(library_, mine).call("GET", "/", ""); }).code, Code::kOk)
          << at;
    }
  }
  EXPECT_EQ(served_, 0);
  proxy.heal();
  EXPECT_EQ(client().call("GET", "/", "").status, 200);
}

TEST_F(Refused, ALocalKeyThatMayNotSignIsReportedHereAndNotAsAFaultOfThePeer) {
  serve();
  auto one = client();
  backend_->denied = true;
  EXPECT_NE(refusal_of([&] { one.call("GET", "/", ""); }).code, Code::kOk);
  const auto told = server_refusal();
  EXPECT_EQ(told.code, Code::kDenied);
  EXPECT_THAT(told.text, HasSubstr("denied to the test"));
}

TEST_F(Refused, AnIdentityThatDoesNotFitIsAConfigurationFault) {
  const auto refusal = refusal_of([&] {
    serve({"server", {ca_.issue(spki("client"), {})}}, trust(), options());
  });
  EXPECT_EQ(refusal.code, Code::kConfiguration);
  EXPECT_THAT(refusal.text, HasSubstr("another key"));
  EXPECT_EQ(refusal_of([&] {
              serve({"server", {}}, trust(), options());
            }).code,
            Code::kConfiguration);
  EXPECT_EQ(refusal_of([&] {
              serve(Identity{"absent", identity("server").chain}, trust(), options());
            }).code,
            Code::kKeyNotPresent);
  auto settings = options();
  settings.address = "192.0.2.77";
  EXPECT_EQ(refusal_of([&] { serve(identity("server"), trust(), settings); }).code,
            Code::kConfiguration);
}

}  // namespace
}  // namespace keyagent::tls::test
