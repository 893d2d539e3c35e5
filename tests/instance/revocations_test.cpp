// SPDX-License-Identifier: Apache-2.0
// More revocations than fit into one request to the agent of the CA's key.

#include <openssl/x509.h>
#include <sqlite3.h>

#include <memory>

#include "agent/pki/revocation_list.h"
#include "tests/instance/simulated_agent.h"
#include "tests/instance/whole_system.h"

namespace keyagent::test {

class RevocationsTest : public WholeSystem {
 protected:
  static constexpr int kMany = 20'000;

  // Certificates of earlier agents, not expired. REQUIRES: the instance has ended.
  void revoke_many() const {
    const auto path = instance_.work.path() / "store/instance.db";
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                         system_clock().now().time_since_epoch())
                         .count();
    const std::string sql =
        "INSERT INTO certificates (serial, agent, kid, not_before, not_after, revoked, reason, "
        "der) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
        std::to_string(kMany) + ") SELECT printf('4a%030x', i), 'old', '', " +
        std::to_string(now - 86400'000) + ", " + std::to_string(now + 30 * 86400'000LL) + ", " +
        std::to_string(now - 1000) + ", 'keyCompromise', '' FROM n";
    char* why = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &why), SQLITE_OK) << why;
    sqlite3_close(db);
  }
  // How many entries the list has, which verifies.
  int listed(const SimulatedAgent& agent) const {
    tls::ClientOptions options;
    options.url = instance_.api_url();
    options.trust.anchor_spki_sha256 = instance_.fingerprint;
    const auto answer = tls::Client(agent.library, options).call("GET", "/v1/crl", "");
    const Bytes der = pki::read_crl(answer.body, agent.chain.back());
    const unsigned char* at = der.data();
    const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> crl(
        d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())), X509_CRL_free);
    return sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl.get()));
  }
  std::string token() { return instance_.json("alice", "token").at("token"); }
};

TEST_F(RevocationsTest, T9_TwentyThousandRevocationsAreListedAndOthersAreServed) {
  bring_up();
  enrol();
  SimulatedAgent web1(instance_, "web1"), stolen(instance_, "stolen");
  for (auto* each : {&web1, &stolen}) ASSERT_EQ(each->enrol(token()).at("state"), "trusted");
  ASSERT_EQ(instance_.end(SIGTERM), 0);
  revoke_many();
  const auto begun = std::chrono::steady_clock::now();
  instance_.start();
  EXPECT_EQ(listed(web1), kMany);
  const auto first = std::chrono::steady_clock::now();
  ASSERT_EQ(instance_.keyagent("alice", "revoke stolen").status, 0);
  EXPECT_EQ(listed(web1), kMany + 1);
  const auto again = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(listed(web1), kMany + 1);
  const auto cached = std::chrono::steady_clock::now();
  const auto seconds = [](auto from, auto to) {
    return std::to_string(std::chrono::duration<double>(to - from).count());
  };
  RecordProperty("start_and_first_list_s", seconds(begun, first));
  RecordProperty("revocation_and_list_s", seconds(first, again));
  RecordProperty("twenty_cached_lists_s", seconds(again, cached));
  EXPECT_THROW(stolen.call("GET", "/v1/credentials"), Error);
  web1.connect();
  SimulatedAgent late(instance_, "late");
  EXPECT_EQ(late.enrol(token()).at("state"), "trusted");
  // The real agent keeps the list and stays linked with it.
  ASSERT_TRUE(link_becomes("connected"));
  EXPECT_TRUE(wait_until(
      [this] { return std::filesystem::file_size(host_.state() / "link.json") > 500'000; }, kLong));
  ASSERT_EQ(host_.stop(), 0);
  host_.start();
  EXPECT_TRUE(link_becomes("connected"));
}

}  // namespace keyagent::test
