// SPDX-License-Identifier: Apache-2.0
// Certificates of keys as callers see them.

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "tests/gate/gate_fixture.h"
#include "tests/pki/authority.h"

namespace keyagent::gate {
namespace {

using test::issue;
using test::Party;
using test::Wanted;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Certificates for keys in the token: their authority is software, the public half is the key's.
class GateCertificateTest : public GateTest {
 protected:
  GateCertificateTest() { web_ = create("web", "auth", "ec-p256"); }

  Party certificate(const wire::Key& key, int from = -1, int until = 365) const {
    const auto* at = reinterpret_cast<const unsigned char*>(key.spki().data());
    Wanted wanted{"leaf", &root_, test::kServer};
    wanted.key = {d2i_PUBKEY(nullptr, &at, static_cast<long>(key.spki().size())), EVP_PKEY_free};
    wanted.from = today_ + from;
    wanted.until = today_ + until;
    return issue(wanted);
  }
  static std::string text(const Party& party) {
    const Bytes der = party.der();
    return {der.begin(), der.end()};
  }
  wire::Response install(const std::string& key, const std::string& file,
                         std::uint32_t uid = kAdmin, const std::string& authorities = {}) {
    wire::Request request;
    request.mutable_certificate_install()->set_key(key);
    request.mutable_certificate_install()->set_file(file);
    request.mutable_certificate_install()->set_authorities(authorities);
    return ask(uid, request);
  }
  wire::Response show(const std::string& key, std::uint32_t uid = kAdmin) {
    wire::Request request;
    request.mutable_certificate_show()->set_key(key);
    return ask(uid, request);
  }
  std::vector<wire::Diagnosis> findings() {
    wire::Request request;
    request.mutable_doctor();
    const auto response = ask(kAdmin, request);
    return {response.doctor().findings().begin(), response.doctor().findings().end()};
  }
  wire::Key status_of(const std::string& kid) {
    wire::Request request;
    request.mutable_status();
    const auto response = ask(kAdmin, request);
    for (const auto& key : response.status().keys()) {
      if (key.kid() == kid) return key;
    }
    return {};
  }

  // Days from the time that the chains of tests/pki are checked to now.
  const int today_ = static_cast<int>((system_clock().now() - test::kNow) / std::chrono::hours(24));
  const Party root_ =
      issue({"root", nullptr, test::kAuthority, test::ec_key(), today_ - 30, today_ + 3650});
  wire::Key web_;
};

TEST_F(GateCertificateTest, T3_IsInstalledOnceShownAndRemoved) {
  EXPECT_THAT(show("web").certificate_show().chain(), IsEmpty());
  const auto epoch = keys_.epoch();
  const std::string file = text(root_) + text(certificate(web_));
  const auto first = install("web", file, kAdmin, text(root_));
  EXPECT_FALSE(first.has_failure()) << first.failure().text();
  EXPECT_TRUE(first.certificate_install().changed());
  EXPECT_EQ(keys_.epoch(), epoch + 1);
  const auto again = install(web_.kid(), file);
  EXPECT_FALSE(again.certificate_install().changed());
  EXPECT_EQ(keys_.epoch(), epoch + 1);
  const auto shown = show("web", kSigner).certificate_show();
  ASSERT_EQ(shown.chain_size(), 2);
  EXPECT_EQ(shown.chain(0).subject(), "CN=leaf");
  EXPECT_EQ(shown.chain(1).der(), text(root_));
  EXPECT_THAT(shown.actor(), HasSubstr("1000"));
  EXPECT_EQ(status_of(web_.kid()).certificate_until(), shown.chain(0).not_after());
  const auto lines = audit_lines();
  EXPECT_THAT(lines, testing::Contains(testing::AllOf(HasSubstr("\"what\":\"certificate.install\""),
                                                      HasSubstr("of CN=root"))));
  wire::Request remove;
  remove.mutable_certificate_remove()->set_key("web");
  EXPECT_TRUE(ask(kAdmin, remove).certificate_remove().changed());
  EXPECT_FALSE(ask(kAdmin, remove).certificate_remove().changed());
  EXPECT_THAT(show("web").certificate_show().chain(), IsEmpty());
}

TEST_F(GateCertificateTest, InstallingIsForAdministratorsAndShowingForThoseWhoSeeTheKey) {
  const std::string file = text(certificate(web_));
  EXPECT_EQ(install("web", file, kSigner).failure().code(), wire::DENIED);
  EXPECT_EQ(show("web", kBackup).failure().code(), wire::DENIED);
  EXPECT_EQ(show("absent", kStranger).failure().code(), wire::DENIED);
  EXPECT_EQ(install("absent", file).failure().code(), wire::KEY_NOT_PRESENT);
  wire::Request remove;
  remove.mutable_certificate_remove()->set_key("web");
  EXPECT_EQ(ask(kSigner, remove).failure().code(), wire::DENIED);
}

TEST_F(GateCertificateTest, T3_NothingChangesWhenACheckRefuses) {
  const auto other = create("other", "auth", "ec-p256");
  create("store", "storage", "aes-256");
  const std::string good = text(certificate(web_));
  ASSERT_TRUE(install("web", good).certificate_install().changed());
  const auto epoch = keys_.epoch();
  const auto refused = install("web", text(certificate(other)));
  EXPECT_EQ(refused.failure().code(), wire::INTEGRITY);
  EXPECT_THAT(refused.failure().text(), HasSubstr(other.kid()));
  EXPECT_THAT(refused.failure().text(), HasSubstr(web_.kid()));
  EXPECT_EQ(install("web", text(certificate(web_, -30, -1))).failure().code(), wire::CONFIGURATION);
  EXPECT_EQ(install("web", "rubbish").failure().code(), wire::USAGE);
  EXPECT_EQ(install("web", good, kAdmin, "rubbish").failure().code(), wire::USAGE);
  const Party stranger =
      issue({"stranger", nullptr, test::kAuthority, test::ec_key(), today_ - 30, today_ + 365});
  EXPECT_EQ(install("web", good, kAdmin, text(stranger)).failure().code(), wire::INTEGRITY);
  EXPECT_EQ(install("store", good).failure().code(), wire::USAGE);
  EXPECT_EQ(keys_.epoch(), epoch);
  EXPECT_EQ(show("web").certificate_show().chain(0).der(), good);
}

TEST_F(GateCertificateTest, T8_DoctorReportsTheRemainingDays) {
  EXPECT_THAT(findings(), IsEmpty());
  ASSERT_TRUE(install("web", text(certificate(web_, -1, 40))).certificate_install().changed());
  EXPECT_THAT(findings(), IsEmpty());
  for (const int left : {29, 13, 6, 1}) {
    ASSERT_TRUE(install("web", text(certificate(web_, -1, left))).certificate_install().changed());
    const auto found = findings();
    ASSERT_EQ(found.size(), 1u) << left;
    EXPECT_EQ(found[0].severity(), "warning");
    EXPECT_THAT(found[0].text(), HasSubstr("within " + std::to_string(left == 1 ? 1 : left + 1)));
    EXPECT_THAT(found[0].cure(), HasSubstr("keyagent key certificate install web"));
    EXPECT_EQ(status_of(web_.kid()).certificate_finding(), found[0].text());
  }
  // One that has ended since it was installed.
  const Bytes ended = certificate(web_, -30, -1).der();
  keys_.install_certificate(Kid(web_.kid()), {ended}, {"test"});
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_EQ(findings()[0].severity(), "error");
}

TEST_F(GateCertificateTest, R10_ARekeyedKeyIsSaidToNeedItsOwn) {
  ASSERT_TRUE(install("web", text(certificate(web_))).certificate_install().changed());
  wire::Request request;
  request.mutable_rekey()->set_name("web");
  EXPECT_FALSE(ask(kAdmin, request).has_failure());
  runner_.run(keys::Span(0));
  const auto fresh = keys_.find("web");
  ASSERT_NE(fresh.kid.text(), web_.kid());
  const auto found = findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kid(), fresh.kid.text());
  EXPECT_THAT(found[0].text(), HasSubstr("generation 2 has no certificate"));
  EXPECT_EQ(install("web", text(certificate(web_))).failure().code(), wire::INTEGRITY)
      << "the old generation's is for another key";
  wire::Key key;
  key.set_spki(fresh.spki.data(), fresh.spki.size());
  EXPECT_TRUE(install("web", text(certificate(key))).certificate_install().changed());
  EXPECT_THAT(findings(), IsEmpty());
}

}  // namespace
}  // namespace keyagent::gate
