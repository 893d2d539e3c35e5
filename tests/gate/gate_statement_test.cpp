// SPDX-License-Identifier: Apache-2.0
// Keys that sign statements: what they sign, and that they sign nothing else for any caller.

#include <openssl/x509.h>

#include "agent/base/encoding.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/statement.h"
#include "agent/pki/issuer.h"
#include "agent/pki/revocation_list.h"
#include "agent/wire/frame.h"
#include "tests/gate/gate_fixture.h"
#include "tests/support/software_keys.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Json = nlohmann::json;

constexpr const char* kRules = R"(
rules:
  - name: admin
    allow: [create, public, status, sign, admin, rekey]
    who: {user: "1000"}
  - name: instance
    allow: [sign, public]
    keys: ["*"]
    who: {user: "1001"}
)";

class GateStatementTest : public GateTest {
 protected:
  // A process of the instance's user, which may sign with all of them.
  static constexpr std::uint32_t kInstance = 1001;

  GateStatementTest() {
    policy_ = policy::parse_policy(kRules, "policy.yml");
    gate_ = std::make_unique<Gate>(options_, services(no_link_), timer_.timer());
    ca_ = create("instance-ca", "ca");
    confirm_ = create("instance-confirm", "confirm");
    identity_ = create("exchange-identity", "identity");
    tls_ = create("instance-tls", "auth");
  }
  IssuingRules issuing() override { return rules_; }
  wire::Response ask(std::uint32_t uid, wire::Request request) {
    if (!gate_) gate_ = std::make_unique<Gate>(options_, services(no_link_), timer_.timer());
    return GateTest::ask(uid, std::move(request));
  }
  static std::int64_t in(std::chrono::seconds time) {
    const auto at = system_clock().now() + time;
    return std::chrono::duration_cast<std::chrono::seconds>(at.time_since_epoch()).count();
  }
  static wire::Request statement(const std::string& key) {
    wire::Request request;
    request.mutable_sign_statement()->set_key(key);
    return request;
  }
  wire::Request text(const std::string& key, const std::string& type, const Json& payload) {
    auto request = statement(key);
    request.mutable_sign_statement()->mutable_text()->set_type(type);
    request.mutable_sign_statement()->mutable_text()->set_payload(payload.dump());
    return request;
  }
  static wire::Request ca_request(const std::string& key = "instance-ca") {
    auto request = statement(key);
    auto& ca = *request.mutable_sign_statement()->mutable_ca_certificate();
    ca.set_subject("/O=keyagent/CN=instance berlin");
    ca.set_not_before(in(-300s));
    ca.set_not_after(in(std::chrono::hours(24 * 3650)));
    return request;
  }
  std::string authority(const std::string& key = "instance-ca") {
    const auto response = ask(kInstance, ca_request(key));
    EXPECT_FALSE(response.has_failure()) << response.failure().text();
    return response.sign_statement().der();
  }
  wire::Request client(const std::string& id = "web1") {
    auto request = statement("instance-ca");
    auto& wanted = *request.mutable_sign_statement()->mutable_certificate();
    wanted.set_authority(authority());
    wanted.set_spki(std::string(as_text(software_.spki)));
    wanted.set_use("client");
    wanted.add_names(id);
    wanted.set_not_before(in(-300s));
    wanted.set_not_after(in(std::chrono::hours(24 * 60)));
    return request;
  }
  wire::Request server(const std::string& spki) {
    auto request = client("keys.example.org");
    request.mutable_sign_statement()->mutable_certificate()->set_use("server");
    request.mutable_sign_statement()->mutable_certificate()->set_spki(spki);
    return request;
  }
  wire::Request list() {
    auto request = statement("instance-ca");
    auto& wanted = *request.mutable_sign_statement()->mutable_revocation_list();
    wanted.set_authority(authority());
    wanted.set_number(7);
    wanted.set_this_update(in(-300s));
    wanted.set_next_update(in(24h));
    auto& entry = *wanted.add_revoked();
    entry.set_serial("\x41\x02\x03");
    entry.set_at(in(-3600s));
    entry.set_reason("keyCompromise");
    return request;
  }
  Json epoch() const {
    return {{"instance", "berlin"}, {"epoch", 5}, {"at", rfc3339(system_clock().now())}};
  }
  Json message() const {
    const auto now = system_clock().now();
    return {{"format", 1},
            {"kind", "keyagent-exchange-message"},
            {"type", "request"},
            {"from", identity_.kid()},
            {"to", std::string(43, 'A')},
            {"nonce", std::string(22, 'n')},
            {"issued", rfc3339(now)},
            {"expires", rfc3339(now + 2min)},
            {"epoch", ""},
            {"known", ""},
            {"body", Json::object()}};
  }
  wire::Response refused(const wire::Request& request) {
    const auto response = ask(kInstance, request);
    EXPECT_EQ(response.failure().code(), wire::DENIED) << response.ShortDebugString();
    return response;
  }
  // The last record but for the marks of audit_lines().
  std::string last_audit() {
    auto lines = audit_lines();
    while (lines.back().find("\"mark\"") != std::string::npos) lines.pop_back();
    return lines.back();
  }

  IssuingRules rules_;
  test::SoftwareKeys software_keys_;
  const PublicKeyInfo software_ = software_keys_.add("mine", Purpose::kAuth, KeyAlgorithm::kEcP256);
  wire::Key ca_, confirm_, identity_, tls_;
};

TEST_F(GateStatementTest, Fault144_KeysForStatementsSignNothingThatACallerChooses) {
  for (const auto& key : {ca_, confirm_, identity_}) {
    wire::Request digest = sign_request(key.name()), message = sign_request(key.kid());
    message.mutable_sign()->clear_input();
    message.mutable_sign()->set_message("{\"agent\":\"web1\"}");
    for (const auto& request : {digest, message}) {
      EXPECT_THAT(refused(request).failure().text(), HasSubstr("is for " + key.purpose()));
      EXPECT_THAT(last_audit(), HasSubstr("refused: sign"));
      EXPECT_THAT(last_audit(), HasSubstr(key.kid()));
    }
  }
}

TEST_F(GateStatementTest, Fault144_ACaKeyMakesWhatTheRulesAllow) {
  const auto der = authority();
  EXPECT_TRUE(pki::is_own_authority(as_bytes(der), as_bytes(ca_.spki())));
  const auto issued = ask(kInstance, client());
  ASSERT_FALSE(issued.has_failure()) << issued.failure().text();
  const auto facts = pki::certificate_facts(as_bytes(issued.sign_statement().der()));
  EXPECT_EQ(facts.names, std::vector<std::string>{"DNS:web1"});
  EXPECT_EQ(facts.uses, std::vector<std::string>{"clientAuth"});
  EXPECT_EQ(facts.spki, software_.spki);
  EXPECT_FALSE(pki::is_own_authority(as_bytes(issued.sign_statement().der()), software_.spki));
  EXPECT_THAT(last_audit(), HasSubstr("certificate, client DNS:web1, serial " + facts.serial));
  rules_.servers = {"keys.example.org"};
  const auto serving = ask(kInstance, server(tls_.spki()));
  ASSERT_FALSE(serving.has_failure()) << serving.failure().text();
  const auto listed = ask(kInstance, list());
  ASSERT_FALSE(listed.has_failure()) << listed.failure().text();
  const auto pem = pki::crl_pem(as_bytes(listed.sign_statement().der()));
  EXPECT_FALSE(pki::read_crl(pem, as_bytes(der)).empty());
}

TEST_F(GateStatementTest, Fault144_ACertificateBeyondTheRulesIsRefused) {
  using Change = std::function<void(wire::EndCertificate&)>;
  rules_.clients = {"web*"};
  rules_.servers = {"keys.example.org", "192.0.2.1"};
  const std::string leaf = ask(kInstance, client()).sign_statement().der();
  create("other-ca", "ca");
  const std::string other = authority("other-ca");
  const std::pair<const char*, Change> bad[] = {
      {"an authority", [](auto& c) { c.set_use("ca"); }},
      {"no use", [](auto& c) { c.clear_use(); }},
      {"two agents", [](auto& c) { c.add_names("web2"); }},
      {"no name", [](auto& c) { c.clear_names(); }},
      {"another name", [](auto& c) { c.set_names(0, "db1"); }},
      {"an invalid name", [](auto& c) { c.set_names(0, "web1,DNS:db1"); }},
      {"a subject in a name", [](auto& c) { c.set_names(0, "web1/CN=admin"); }},
      {"ten years", [](auto& c) { c.set_not_after(in(std::chrono::hours(24 * 3650))); }},
      {"from next year on", [](auto& c) { c.set_not_before(in(std::chrono::hours(24 * 365))); }},
      {"backdated", [](auto& c) { c.set_not_before(in(-std::chrono::hours(24 * 365))); }},
      {"no end", [](auto& c) { c.set_not_after(INT64_MAX); }},
      {"ended", [](auto& c) { c.set_not_after(in(-400s)); }},
      {"the authority's own key", [&](auto& c) { c.set_spki(ca_.spki()); }},
      {"a leaf as issuer", [&](auto& c) { c.set_authority(leaf); }},
      {"another key's issuer", [&](auto& c) { c.set_authority(other); }},
      {"no issuer", [](auto& c) { c.clear_authority(); }}};
  for (const auto& [what, change] : bad) {
    auto request = client();
    change(*request.mutable_sign_statement()->mutable_certificate());
    SCOPED_TRACE(what);
    refused(request);
    EXPECT_THAT(last_audit(), HasSubstr("refused: sign.statement"));
  }
  // For a key of a file, and under a name that is not listed.
  EXPECT_THAT(refused(server(std::string(as_text(software_.spki)))).failure().text(),
              HasSubstr("auth key of this agent's own token"));
  auto request = server(tls_.spki());
  request.mutable_sign_statement()->mutable_certificate()->add_names("bank.example.org");
  EXPECT_THAT(refused(request).failure().text(), HasSubstr("issuing.servers"));
  // Where no list bounds them, names of servers still have their form.
  rules_.servers.clear();
  for (const char* name : {"bank.example.org,DNS:evil", "a b", "*", "x/CN=y", ""}) {
    auto named = server(tls_.spki());
    named.mutable_sign_statement()->mutable_certificate()->add_names(name);
    EXPECT_THAT(refused(named).failure().text(), HasSubstr("neither a host name nor an address"))
        << name;
  }
}

TEST_F(GateStatementTest, Fault144_AuthoritiesAndListsBeyondTheRulesAreRefused) {
  auto subject = ca_request();
  subject.mutable_sign_statement()->mutable_ca_certificate()->set_subject("/CN=Some Root");
  refused(subject);
  auto longest = ca_request();
  longest.mutable_sign_statement()->mutable_ca_certificate()->set_not_after(
      in(std::chrono::hours(24 * 366 * 30)));
  refused(longest);
  for (const char* key : {"instance-confirm", "exchange-identity"}) {
    refused(ca_request(key));
    auto by_other = list();
    by_other.mutable_sign_statement()->set_key(key);
    refused(by_other);
    auto leaf = client();
    leaf.mutable_sign_statement()->set_key(key);
    refused(leaf);
  }
  create("other-ca", "ca");
  auto wrong = list();
  wrong.mutable_sign_statement()->mutable_revocation_list()->set_authority(authority("other-ca"));
  EXPECT_THAT(refused(wrong).failure().text(), HasSubstr("the issuer is not a CA certificate"));
  auto year = list();
  year.mutable_sign_statement()->mutable_revocation_list()->set_next_update(
      in(std::chrono::hours(24 * 365)));
  refused(year);
  auto serial = list();
  serial.mutable_sign_statement()->mutable_revocation_list()->mutable_revoked(0)->clear_serial();
  refused(serial);
  auto coming = list();
  coming.mutable_sign_statement()->mutable_revocation_list()->mutable_revoked(0)->set_at(
      in(std::chrono::hours(24)));
  EXPECT_THAT(refused(coming).failure().text(), HasSubstr("in the future"));
  for (const bool more : {true, false}) {
    auto reason = list();
    auto& wanted = *reason.mutable_sign_statement()->mutable_revocation_list();
    wanted.set_more(more);
    wanted.mutable_revoked(0)->set_reason("dislike");
    EXPECT_THAT(refused(reason).failure().text(),
                HasSubstr("is not a supported revocation reason; use unspecified"));
  }
  refused(statement("instance-ca"));  // nothing at all
}

TEST_F(GateStatementTest, Fault144_ARevocationListInPartsIsSignedWholeOrNotAtAll) {
  constexpr std::uint64_t kAtOnce = 4000, kAll = 20'000;
  const auto part = [&](std::uint64_t from, std::uint64_t to, std::uint64_t number) {
    auto request = list();
    auto& wanted = *request.mutable_sign_statement()->mutable_revocation_list();
    wanted.set_number(number);
    const auto entry = wanted.revoked(0);
    wanted.clear_revoked();
    for (auto i = from; i < to; ++i) {
      auto& added = *wanted.add_revoked();
      added = entry;
      added.set_serial("serial " + std::to_string(1'000'000'000 + i));
    }
    wanted.set_more(to < kAll);
    if (to == kAll) wanted.set_total(kAll);
    EXPECT_LT(request.ByteSizeLong(), wire::kMaxFrame);
    return request;
  };
  for (std::uint64_t at = 0; at + kAtOnce < kAll; at += kAtOnce) {
    const auto kept = ask(kInstance, part(at, at + kAtOnce, 8));
    ASSERT_FALSE(kept.has_failure()) << kept.failure().text();
    EXPECT_TRUE(kept.sign_statement().der().empty());
  }
  const auto last = part(kAll - kAtOnce, kAll, 8);
  // Another caller, number or key has nothing of it.
  EXPECT_THAT(refused(part(kAll - kAtOnce, kAll, 9)).failure().text(), HasSubstr("send it again"));
  EXPECT_THAT(refused(last).failure().text(), HasSubstr("send it again"))
      << "what was begun ended with the other";
  for (std::uint64_t at = 0; at + kAtOnce < kAll; at += kAtOnce)
    ask(kInstance, part(at, at + kAtOnce, 8));
  EXPECT_TRUE(ask(1000, last).has_failure()) << "the part of another user";
  const auto whole = ask(kInstance, last);
  ASSERT_FALSE(whole.has_failure()) << whole.failure().text();
  const auto& der = whole.sign_statement().der();
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> crl(
      d2i_X509_CRL(nullptr, &bytes, static_cast<long>(der.size())), X509_CRL_free);
  ASSERT_NE(crl, nullptr);
  EXPECT_EQ(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl.get())), static_cast<int>(kAll));
  EXPECT_THAT(last_audit(), HasSubstr("revocation list of 20000"));
}

TEST_F(GateStatementTest, Fault144_OfRevocationListsOfTwoKeysACallerHasOneDraft) {
  create("other-ca", "ca");
  auto first = list();
  first.mutable_sign_statement()->mutable_revocation_list()->set_more(true);
  auto other = first;
  other.mutable_sign_statement()->set_key("other-ca");
  other.mutable_sign_statement()->mutable_revocation_list()->set_authority(authority("other-ca"));
  auto last = list();
  last.mutable_sign_statement()->mutable_revocation_list()->set_total(2);
  EXPECT_FALSE(ask(kInstance, first).has_failure());
  EXPECT_FALSE(ask(kInstance, last).has_failure());
  EXPECT_FALSE(ask(kInstance, first).has_failure());
  EXPECT_FALSE(ask(kInstance, other).has_failure());
  EXPECT_THAT(refused(last).failure().text(), HasSubstr("send it again"));
}

TEST_F(GateStatementTest, Fault144_ATextIsSignedInItsKnownFormByAKeyOfItsPurpose) {
  const std::string epoch_type(envelope::type_of(envelope::Statement::kEpoch)),
      message_type(envelope::type_of(envelope::Statement::kExchangeMessage));
  const Json said = epoch();
  const auto good = ask(kInstance, text("instance-confirm", epoch_type, said));
  ASSERT_FALSE(good.has_failure()) << good.failure().text();
  const auto key = envelope::key_of_spki(as_bytes(confirm_.spki()), Purpose::kConfirm);
  const auto& jws = good.sign_statement().jws();
  EXPECT_EQ(as_text(envelope::verify_statement(key, jws, envelope::Statement::kEpoch)),
            said.dump());
  EXPECT_THROW(envelope::verify_statement(key, jws, envelope::Statement::kRotation), Error);
  EXPECT_THAT(last_audit(), HasSubstr(epoch_type));
  EXPECT_FALSE(ask(kInstance, text("exchange-identity", message_type, message())).has_failure());

  refused(text("instance-confirm", epoch_type, {{"anything", "else"}}));
  refused(text("instance-confirm", "JWT", epoch()));
  refused(text("instance-confirm", "", epoch()));
  // An offer is the agent's to make.
  for (const char* type : {"keyagent-exchange-key+jws", "keyagent-exchange+jws"})
    refused(text("exchange-identity", type, {{"exchange_kid", std::string(43, 'A')}}));
  refused(text("exchange-identity", epoch_type, epoch()));
  refused(text("instance-confirm", message_type, message()));
  refused(text("instance-ca", epoch_type, epoch()));
  refused(text("instance-tls", epoch_type, epoch()));
  auto other = message();
  other["from"] = std::string(43, 'B');
  refused(text("exchange-identity", message_type, other));
}

// A key of the operator's naming, from before there were purposes for keys that sign statements.
TEST_F(GateStatementTest, Fault144_DoctorNamesASignKeyThatSignsStatementsUntilItIsRetyped) {
  const auto kid = create("our-confirm", "sign").kid();
  const std::string type(envelope::type_of(envelope::Statement::kEpoch));
  wire::Request doctor;
  doctor.mutable_doctor();
  const auto finding = [&]() -> std::string {
    const auto response = ask(kAdmin, doctor);
    for (const auto& each : response.doctor().findings()) {
      if (each.kid() == kid) return each.cure();
    }
    return {};
  };
  EXPECT_EQ(finding(), "") << "it is an ordinary sign key until it signs a statement";
  EXPECT_FALSE(ask(kInstance, text("our-confirm", type, epoch())).has_failure());
  EXPECT_EQ(finding(), "keyagent key retype our-confirm --purpose confirm");
  gate_.reset();
  EXPECT_NE(finding(), "") << "after a restart too";

  wire::Request retype;
  retype.mutable_key_retype()->set_key("our-confirm");
  retype.mutable_key_retype()->set_purpose("confirm");
  EXPECT_EQ(ask(kInstance, retype).failure().code(), wire::DENIED) << "an owner's to say";
  const auto done = ask(kAdmin, retype);
  ASSERT_FALSE(done.has_failure()) << done.failure().text();
  EXPECT_TRUE(done.key_retype().changed());
  EXPECT_EQ(done.key_retype().key().purpose(), "confirm");
  EXPECT_EQ(done.key_retype().key().kid(), kid);
  EXPECT_THAT(last_audit(), HasSubstr("from sign to confirm"));
  EXPECT_EQ(finding(), "");
  EXPECT_FALSE(ask(kAdmin, retype).key_retype().changed());
  refused(sign_request("our-confirm"));
  EXPECT_FALSE(ask(kInstance, text("our-confirm", type, epoch())).has_failure());
  for (const char* purpose : {"sign", "auth", "ca", "nothing"}) {
    retype.mutable_key_retype()->set_purpose(purpose);
    EXPECT_TRUE(ask(kAdmin, retype).has_failure()) << purpose;
  }
  retype.mutable_key_retype()->set_key("instance-tls");
  retype.mutable_key_retype()->set_purpose("ca");
  EXPECT_EQ(ask(kAdmin, retype).failure().code(), wire::KEY_STATE);
}

}  // namespace
}  // namespace keyagent::gate
