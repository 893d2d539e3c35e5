// SPDX-License-Identifier: Apache-2.0
// Sessions that come about: requests of our client and of programs of others.

#include <fstream>
#include <thread>

#include "tests/support/command.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

using keyagent::test::try_command;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class Session : public Tls {
 protected:
  // A certificate and key of `ca_` in files, for programs that have no token.
  std::string files() {
    const auto key = keyagent::test::make_software_key();
    write("key.pem", key.pem);
    write("cert.pem", keyagent::test::certificate_pem(ca_.issue(key.spki, {})));
    write("ca.pem", keyagent::test::certificate_pem(ca_.root()));
    return folder_.path().string();
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
  }
  std::string curl(const std::string& more, const std::string& path) {
    return try_command("cd " + files() + " && curl -sS --max-time 20 --cacert ca.pem --cert " +
                       "cert.pem --key key.pem " + more + " '" + url() + path + "' 2>&1")
        .output;
  }
  keyagent::test::TempFolder folder_;
};

TEST_F(Session, T5_BothSidesKnowEachOther) {
  serve();
  auto one = client();
  EXPECT_EQ(one.call("GET", "/a/b?x=1&y=%C3%A4", "").body,
            "GET /a/b x=1 y=ä TLSv1.3 " + kid("client") + "\n");
  const Peer& peer = one.peer();
  EXPECT_TRUE(peer.certified);
  EXPECT_EQ(peer.kid, kid("server"));
  EXPECT_EQ(peer.spki, spki("server"));
  EXPECT_EQ(peer.subject, "CN=test");
  EXPECT_THAT(peer.names, testing::ElementsAre("IP:127.0.0.1", "DNS:localhost"));
  EXPECT_EQ(peer.tls_version, "TLSv1.3");
  EXPECT_EQ(peer.serial.size(), 16u);
  EXPECT_LT(peer.not_before, system_clock().now());
  EXPECT_GT(peer.not_after, system_clock().now());
  EXPECT_EQ(peer.address, "127.0.0.1:" + std::to_string(server_->port()));
}

// "harvest now, decrypt later": the hybrid wherever libssl has it.
TEST_F(Session, TheHybridGroupIsUsedWhereLibsslHasIt) {
  serve();
  auto one = client();
  one.call("GET", "/", "");
  EVP_KEYMGMT* hybrid = EVP_KEYMGMT_fetch(nullptr, "X25519MLKEM768", nullptr);
  EXPECT_THAT(one.peer().group, testing::StrCaseEq(hybrid ? "X25519MLKEM768" : "x25519"));
  EVP_KEYMGMT_free(hybrid);
}

TEST_F(Session, APeerWithoutTheHybridIsServedWithX25519) {
  serve();
  EXPECT_THAT(curl("--curves X25519", "/a"), StartsWith("GET /a"));
  EXPECT_THAT(curl("--curves P-256", "/a"), StartsWith("GET /a"));
}

TEST_F(Session, KeptAliveServesManyRequestsWithOneHandshake) {
  serve();
  auto one = client();
  const int before = backend_->signatures;
  for (int i = 0; i < 20; ++i)
    EXPECT_THAT(one.call("POST", "/p", std::string(5000, 'x')).body, StartsWith("POST /p"));
  EXPECT_EQ(backend_->signatures - before, 2) << "the server's and the client's";
}

TEST_F(Session, AnErrorOfTheHandlerReachesTheCaller) {
  serve();
  auto one = client();
  try {
    one.call("GET", "/error", "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDenied);
    EXPECT_STREQ(error.what(), "not for \"you\"");
    EXPECT_EQ(error.kid(), "kid-4711");
  }
  EXPECT_EQ(one.call("GET", "/", "").status, 200) << "the connection stays open";
}

TEST_F(Session, RsaKeysServeAndAuthenticateInBothVersions) {
  serve(identity("rsa"), trust(), options());
  auto settings = client_options();
  settings.identity = identity("rsa");
  EXPECT_THAT(Client(library_, settings).call("GET", "/", "").body, HasSubstr(kid("rsa")));
  EXPECT_THAT(curl("--tls-max 1.2", "/"), HasSubstr("TLSv1.2"));
}

TEST_F(Session, CurlIsServedWithTls12AndTls13) {
  serve();
  EXPECT_THAT(curl("--tlsv1.3", "/x?a=b"), StartsWith("GET /x a=b TLSv1.3"));
  EXPECT_THAT(curl("--tls-max 1.2", "/x"), StartsWith("GET /x TLSv1.2"));
  EXPECT_THAT(curl("--tls-max 1.2 --data hello", "/x"),
              AllOf(StartsWith("POST /x"), HasSubstr("hello")));
  EXPECT_THAT(curl("-I", "/x"), AllOf(HasSubstr("200 OK"), HasSubstr("text/plain")));
  EXPECT_THAT(curl("", "/error"),
              HasSubstr(R"({"error":{"code":"DENIED","text":"not for \"you\"")"));
}

TEST_F(Session, EightThreadsOfClientsAreServed) {
  serve();
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        auto one = client();
        for (int request = 0; request < 10; ++request)
          good += one.call("GET", "/", "").status == 200 ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 400);
}

}  // namespace
}  // namespace keyagent::tls::test
