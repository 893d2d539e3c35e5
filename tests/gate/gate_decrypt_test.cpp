// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <set>

#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kDecryptPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, reseal, status, audit, admin]
    who: {user: "1000"}
  - name: mail-program
    allow: [decrypt, agree]
    who: {user: "1001"}
  - name: opens-only
    allow: [open, public]
    who: {user: "1002"}
)";

class GateDecryptTest : public GateTest {
 protected:
  static constexpr std::uint32_t kMail = 1001, kOpener = 1002;

  GateDecryptTest() { policy_ = policy::parse_policy(kDecryptPolicy, "policy.yml"); }

  using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Operation = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;

  static Pkey public_half(const wire::Key& key) {
    const auto* at = reinterpret_cast<const unsigned char*>(key.spki().data());
    return {d2i_PUBKEY(nullptr, &at, static_cast<long>(key.spki().size())), EVP_PKEY_free};
  }
  static std::string encrypt(const wire::Key& key, const std::string& text, const EVP_MD* hash) {
    const Pkey rsa = public_half(key);
    const Operation operation(EVP_PKEY_CTX_new(rsa.get(), nullptr), EVP_PKEY_CTX_free);
    std::string out(512, '\0');
    std::size_t size = out.size();
    EXPECT_EQ(EVP_PKEY_encrypt_init(operation.get()), 1);
    EVP_PKEY_CTX_set_rsa_padding(operation.get(), RSA_PKCS1_OAEP_PADDING);
    EVP_PKEY_CTX_set_rsa_oaep_md(operation.get(), hash);
    EXPECT_EQ(EVP_PKEY_encrypt(operation.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                               reinterpret_cast<const unsigned char*>(text.data()), text.size()),
              1);
    out.resize(size);
    return out;
  }
  static wire::Request decrypt_request(const std::string& key, const std::string& ciphertext,
                                       const std::string& hash = "SHA-256") {
    wire::Request request;
    request.mutable_decrypt()->set_key(key);
    request.mutable_decrypt()->set_hash(hash);
    request.mutable_decrypt()->set_ciphertext(ciphertext);
    return request;
  }
  static wire::Request agree_request(const std::string& key, const std::string& point) {
    wire::Request request;
    request.mutable_agree()->set_key(key);
    request.mutable_agree()->set_point(point);
    return request;
  }
  static Pkey software_peer(const char* curve) {
    return {EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve), EVP_PKEY_free};
  }
  static std::string point_of(EVP_PKEY* key) {
    unsigned char* bytes = nullptr;
    const std::size_t size = EVP_PKEY_get1_encoded_public_key(key, &bytes);
    std::string point(reinterpret_cast<char*>(bytes), size);
    OPENSSL_free(bytes);
    return point;
  }
  static std::string agreed_in_software(EVP_PKEY* own, const wire::Key& with) {
    const Pkey peer = public_half(with);
    const Operation operation(EVP_PKEY_CTX_new(own, nullptr), EVP_PKEY_CTX_free);
    std::string out(66, '\0');
    std::size_t size = out.size();
    EXPECT_EQ(EVP_PKEY_derive_init(operation.get()), 1);
    EXPECT_EQ(EVP_PKEY_derive_set_peer(operation.get(), peer.get()), 1);
    EXPECT_EQ(EVP_PKEY_derive(operation.get(), reinterpret_cast<unsigned char*>(out.data()), &size),
              1);
    out.resize(size);
    return out;
  }
};

TEST_F(GateDecryptTest, OaepOfEveryLengthAndBothHashesIsDecrypted) {
  const auto key = create("mail", "transport", "rsa-2048");
  for (const std::size_t size : {0UL, 1UL, 32UL, 189UL, 190UL}) {
    const std::string text(size, 'm');
    const auto reply =
        ask(kMail, decrypt_request("mail", encrypt(key, text, EVP_sha256()), "SHA-256"));
    EXPECT_FALSE(reply.has_failure()) << size << reply.failure().text();
    EXPECT_EQ(reply.decrypt().plaintext(), text);
    EXPECT_EQ(reply.decrypt().kid(), key.kid());
  }
  for (const std::size_t size : {1UL, 214UL}) {
    const std::string text(size, 's');
    EXPECT_EQ(ask(kMail, decrypt_request("mail", encrypt(key, text, EVP_sha1()), "SHA-1"))
                  .decrypt()
                  .plaintext(),
              text);
  }
  const auto lines = audit_lines();
  EXPECT_THAT(lines.back(), HasSubstr("\"what\":\"decrypt\""));
  EXPECT_THAT(lines.back(), HasSubstr("RSA-OAEP"));
  for (const auto& line : lines) EXPECT_THAT(line, Not(HasSubstr("mmm")));
}

TEST_F(GateDecryptTest, AgreementWithASoftwarePeerIsTheSameOnBothSides) {
  for (const std::string curve : {"p256", "p384"}) {
    const auto key = create("ec-" + curve, "transport", "ec-" + curve);
    const Pkey peer = software_peer(curve == "p256" ? "P-256" : "P-384");
    const auto reply = ask(kMail, agree_request(key.kid(), point_of(peer.get())));
    EXPECT_FALSE(reply.has_failure()) << reply.failure().text();
    EXPECT_EQ(reply.agree().secret(), agreed_in_software(peer.get(), key));
  }
}

// A caller that may open envelopes learns their content, not what a key decrypts.
TEST_F(GateDecryptTest, Fault101_OpenDoesNotImplyDecryptNorAgree) {
  const auto rsa = create("mail", "transport", "rsa-2048");
  create("ec", "transport", "ec-p256");
  const auto sealed = encrypt(rsa, "x", EVP_sha256());
  const auto point = point_of(software_peer("P-256").get());
  test::shim::reset_counts();
  for (const std::uint32_t uid : {kAdmin, kOpener, kStranger}) {
    EXPECT_EQ(ask(uid, decrypt_request("mail", sealed)).failure().code(), wire::DENIED) << uid;
    EXPECT_EQ(ask(uid, agree_request("ec", point)).failure().code(), wire::DENIED) << uid;
  }
  EXPECT_EQ(test::shim::count("C_DecryptInit"), 0u);
  EXPECT_EQ(test::shim::count("C_DeriveKey"), 0u);
  wire::Request why;
  why.mutable_why()->set_action("decrypt");
  why.mutable_why()->set_key("mail");
  EXPECT_FALSE(ask(kOpener, why).why().allowed());
  EXPECT_EQ(ask(kOpener, why).why().rule(), "default");
  EXPECT_EQ(ask(kMail, why).why().rule(), "mail-program");
}

TEST_F(GateDecryptTest, Fault098_OnlyTransportKeysDecryptAndAgree) {
  const auto rsa = create("releases", "sign", "rsa-2048");
  create("web", "auth", "rsa-2048");
  create("webec", "auth", "ec-p256");
  create("store", "storage");
  create("ec", "transport", "ec-p256");
  create("mail", "transport", "rsa-2048");
  const auto sealed = encrypt(rsa, "x", EVP_sha256());
  const auto point = point_of(software_peer("P-256").get());
  test::shim::reset_counts();
  for (const std::string key : {"releases", "web", "store"})
    EXPECT_EQ(ask(kMail, decrypt_request(key, sealed)).failure().code(), wire::DENIED) << key;
  for (const std::string key : {"webec", "store"})
    EXPECT_EQ(ask(kMail, agree_request(key, point)).failure().code(), wire::DENIED) << key;
  EXPECT_EQ(ask(kMail, decrypt_request("ec", sealed)).failure().code(), wire::USAGE);
  EXPECT_EQ(ask(kMail, agree_request("mail", point)).failure().code(), wire::USAGE);
  EXPECT_EQ(ask(kMail, decrypt_request("mail", sealed, "SHA-512")).failure().code(), wire::USAGE);
  EXPECT_EQ(test::shim::count("C_DecryptInit"), 0u);
  EXPECT_EQ(test::shim::count("C_DeriveKey"), 0u);
}

TEST_F(GateDecryptTest, Fault103_FailuresOfDecryptAreOneAnswerOnTheBeat) {
  options_.failure_quantum = 40ms;
  const auto key = create("mail", "transport", "rsa-2048");
  const auto good = encrypt(key, "x", EVP_sha256());
  auto flipped = good;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  const std::string cases[] = {flipped,
                               encrypt(key, "x", EVP_sha1()),
                               std::string(256, '\xff'),
                               std::string(256, '\0'),
                               good.substr(1),
                               ""};
  std::set<std::string> answers;
  for (const auto& each : cases) {
    for (const char* hash : {"SHA-256", "SHA-1"}) {
      if (each == cases[1] && std::string(hash) == "SHA-1") continue;
      const auto before = std::chrono::steady_clock::now();
      const auto asked = ask_later(kMail, decrypt_request("mail", each, hash));
      answers.insert(asked->wait().failure().SerializeAsString());
      ASSERT_TRUE(asked->when().has_value());
      EXPECT_GE(*asked->when(), before + 40ms);
    }
  }
  EXPECT_EQ(answers.size(), 1u);
  wire::Failure failure;
  ASSERT_TRUE(failure.ParseFromString(*answers.begin()));
  EXPECT_EQ(failure.code(), wire::INPUT);
}

TEST_F(GateDecryptTest, APointThatIsNotOnTheCurveNeverReachesTheToken) {
  create("ec", "transport", "ec-p256");
  auto point = point_of(software_peer("P-256").get());
  const auto other = point_of(software_peer("P-384").get());
  point.back() = static_cast<char>(point.back() ^ 1);
  test::shim::reset_counts();
  for (const auto& each :
       {point, other, std::string(65, '\4'), std::string(1, '\0'), std::string()})
    EXPECT_EQ(ask(kMail, agree_request("ec", each)).failure().code(), wire::INPUT);
  EXPECT_EQ(test::shim::count("C_DeriveKey"), 0u);
}

TEST_F(GateDecryptTest, Fault107_FailedDecryptionsSpendTheBudgetOfTheKey) {
  options_.failures_per_key_per_day = 3;
  options_.failure_quantum = 1us;
  const auto key = create("mail", "transport", "rsa-2048");
  const auto good = encrypt(key, "x", EVP_sha256());
  auto bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask(kMail, decrypt_request("mail", bad)).failure().code(), wire::INPUT);
  EXPECT_EQ(ask(kMail, decrypt_request("mail", good)).failure().code(), wire::KEY_STATE);
  gate().forgive(3);
  EXPECT_EQ(ask(kMail, decrypt_request("mail", good)).decrypt().plaintext(), "x");
}

TEST_F(GateDecryptTest, Fault107_FailedAgreementsSpendTheBudgetOfTheKey) {
  options_.failures_per_key_per_day = 3;
  options_.failure_quantum = 1us;
  create("ec", "transport", "ec-p256");
  const auto good = point_of(software_peer("P-256").get());
  auto bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask(kMail, agree_request("ec", bad)).failure().code(), wire::INPUT);
  test::shim::reset_counts();
  EXPECT_EQ(ask(kMail, agree_request("ec", good)).failure().code(), wire::KEY_STATE);
  EXPECT_EQ(test::shim::count("C_DeriveKey"), 0u);
  gate().forgive(3);
  EXPECT_FALSE(ask(kMail, agree_request("ec", good)).agree().secret().empty());
}

TEST_F(GateDecryptTest, Fault108_BadCiphertextsNeverReloadTheModule) {
  options_.failures_per_key_per_day = 1000000;
  options_.failure_quantum = 1us;
  const auto key = create("mail", "transport", "rsa-2048");
  auto bad = encrypt(key, "x", EVP_sha1());
  bad.back() = static_cast<char>(bad.back() ^ 1);
  test::shim::reset_counts();
  const auto epoch = vault_.token().status().epoch;
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(
        ask(kMail, decrypt_request("mail", bad, i % 2 == 0 ? "SHA-1" : "SHA-256")).failure().code(),
        wire::INPUT)
        << i;
  }
  EXPECT_EQ(vault_.token().status().epoch, epoch);
  EXPECT_EQ(test::shim::count("C_Initialize"), 0u);
  EXPECT_EQ(test::shim::count("C_Login"), 0u);
}

TEST_F(GateDecryptTest, R3_KeysDecryptInTheStatesInWhichTheyOpen) {
  const auto key = create("mail", "transport", "rsa-2048");
  const auto sealed = encrypt(key, "x", EVP_sha256());
  keys_.change_state("mail", KeyState::kSuspended, {"test"});
  EXPECT_EQ(ask(kMail, decrypt_request("mail", sealed)).failure().code(), wire::KEY_STATE);
  keys_.change_state("mail", KeyState::kActive, {"test"});
  EXPECT_EQ(ask(kMail, decrypt_request(key.kid(), sealed)).decrypt().plaintext(), "x");
  keys_.destroy("mail", {"test"});
  EXPECT_EQ(ask(kMail, decrypt_request(key.kid(), sealed)).failure().code(), wire::KEY_STATE);
}

}  // namespace
}  // namespace keyagent::gate
