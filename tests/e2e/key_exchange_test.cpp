// SPDX-License-Identifier: Apache-2.0
// A data key from one host to another as two administrators do it, with real agents on two tokens.

#include <gmock/gmock.h>

#include "agent/base/error.h"
#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class KeyExchangeTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.shimmed = true;
    target_.write("policy.yml",
                  target_.policy +
                      "  - name: customers-may-come\n    allow: [import]\n    keys: "
                      "[data.customers, data.payments, exchange]\n    who: {anyone: true}\n",
                  0644);
    for (Host* host : {&source_, &target_}) {
      host->start();
      host->json("key create exchange-identity --purpose identity");
    }
    target_.json("key create exchange --purpose exchange --algorithm rsa-2048");
    key_ = source_.json("key create data.customers --purpose storage --exchangeable");
    target_identity_ = target_.json("key show exchange-identity").at("kid");
    ASSERT_EQ(target_.keyagent("key offer -o offer.json").status, 0);
    source_.write("offer.json", target_.read("offer.json"));
    ASSERT_EQ(source_.keyagent("key public exchange-identity > source.pem").status, 0);
    target_.write("source.pem", source_.read("source.pem"));
  }
  // The policy of the source, which names the target or not.
  void allow(const std::string& peers) {
    source_.write("policy.yml",
                  source_.policy +
                      "  - name: customers-may-go\n    allow: [export]\n    keys: "
                      "[data.customers]\n    peers: [" +
                      peers + "]\n    who: {anyone: true}\n",
                  0644);
    ASSERT_EQ(source_.keyagent("reload").status, 0);
  }
  CommandResult export_it() {
    return source_.keyagent(
        "key export --to offer.json --request req-1 --specification customers -o package");
  }
  CommandResult import_it(const std::string& words = {}) {
    target_.write("package", source_.read("package"));
    return target_.keyagent("key import package --from source.pem --request req-1 " +
                            (words.empty() ? "--specification customers" : words));
  }
  std::string kid() const { return key_.at("kid"); }

  Host source_, target_;
  Json key_;
  std::string target_identity_;
};

TEST_F(KeyExchangeTest, X2_X6_ARecordOfTheSourceOpensAtTheTargetOnceThePolicyNamesIt) {
  source_.write("text", "a record");
  ASSERT_EQ(source_.keyagent("seal text --key data.customers -o sealed").status, 0);
  target_.write("sealed", source_.read("sealed"));
  EXPECT_THAT(target_.keyagent("open sealed").output, HasSubstr("KEY_NOT_PRESENT kid=" + kid()));
  const auto denied = export_it();
  EXPECT_EQ(denied.status, 3) << "default deny";
  // The printed command runs as it stands, whatever the identity begins with.
  const auto printed = denied.output.find("keyagent why export --peer=" + target_identity_);
  ASSERT_NE(printed, std::string::npos) << denied.output;
  const std::string why =
      denied.output.substr(printed + 9, denied.output.find('\n', printed) - printed - 9);
  EXPECT_EQ(source_.keyagent(why).status, 3) << why;
  EXPECT_THAT(source_.keyagent(why).output, HasSubstr("denied: "));
  EXPECT_EQ(source_.keyagent("why export --peer=-" + target_identity_.substr(1) + " data.customers")
                .status,
            3);
  allow(target_identity_);
  EXPECT_EQ(source_.keyagent(why).status, 0) << why;
  ASSERT_EQ(export_it().status, 0);
  const auto imported = import_it();
  EXPECT_EQ(imported.status, 0) << imported.output;
  EXPECT_THAT(imported.output, HasSubstr("imported " + kid()));
  EXPECT_THAT(import_it().output, HasSubstr("already exists"));
  EXPECT_EQ(target_.keyagent("open sealed").output, "a record");
  const auto shown = target_.keyagent("key show " + kid() + " --prove");
  EXPECT_EQ(shown.status, 0) << shown.output;
  EXPECT_THAT(shown.output, HasSubstr("imported from"));
  EXPECT_THAT(shown.output, HasSubstr("cannot leave the token"));
  EXPECT_THAT(source_.keyagent("key show data.customers --prove").output,
              HasSubstr("leaves the token only wrapped"));
}

TEST_F(KeyExchangeTest, X2_APackageForSomethingElseOrChangedIsExit6) {
  allow(target_identity_);
  ASSERT_EQ(export_it().status, 0);
  EXPECT_EQ(import_it("--specification payments").status, 6);
  auto package = source_.read("package");
  package[package.size() / 2] = package[package.size() / 2] == 'A' ? 'B' : 'A';
  source_.write("package", package);
  EXPECT_EQ(import_it().status, 6);
  ASSERT_EQ(export_it().status, 0);
  target_.shell("cp source.pem kept.pem");
  ASSERT_EQ(target_.keyagent("key public exchange-identity > source.pem").status, 0);
  EXPECT_EQ(import_it().status, 6) << "signed by another than the pinned source";
  target_.shell("cp kept.pem source.pem");
  EXPECT_EQ(import_it().status, 0);
}

TEST_F(KeyExchangeTest, X15_AKeyThatOpensslWrappedForATicketSealsHere) {
  target_.shell("openssl rand -out key 32");
  ASSERT_EQ(target_.keyagent("key ticket data.payments -o ticket.pem").status, 0);
  const std::string wrap =
      "openssl pkeyutl -encrypt -pubin -inkey ticket.pem -in key -out wrapped ";
  target_.shell(wrap + "-pkeyopt rsa_padding_mode:pkcs1");
  const auto wrong = target_.keyagent("key import wrapped --from-outside data.payments");
  EXPECT_EQ(wrong.status, 6);
  EXPECT_THAT(wrong.output, HasSubstr("RSAES-OAEP"));
  target_.shell(wrap + "-pkeyopt rsa_padding_mode:oaep");
  const auto brought = target_.json("key import wrapped --from-outside data.payments");
  EXPECT_EQ(brought.at("state"), "active");
  EXPECT_THAT(brought.at("origin"), HasSubstr("brought from outside"));
  target_.write("text", "a record");
  ASSERT_EQ(target_.keyagent("seal text --key data.payments -o sealed").status, 0);
  EXPECT_EQ(target_.keyagent("open sealed").output, "a record");
  EXPECT_EQ(target_.keyagent("key import wrapped --from-outside data.payments").status, 3);
  EXPECT_EQ(target_.keyagent("key import wrapped").status, 2);
  EXPECT_EQ(target_.keyagent("key revoke data.payments --yes").status, 0) << "as revocable as any";
  EXPECT_EQ(target_.keyagent("open sealed").status, 3);
}

// In the middle of it, and after the token has the key: the ledger has it or has it not.
TEST_F(KeyExchangeTest, X10_AnAgentThatDiesWhileItImportsHasTheKeyOnceAfterTheNextDelivery) {
  allow(target_identity_);
  ASSERT_EQ(export_it().status, 0);
  for (const char* fault :
       {"C_UnwrapKey:n=1:kill", "C_UnwrapKey:n=2:after:kill", "C_CopyObject:n=1:after:kill"}) {
    SCOPED_TRACE(fault);
    target_.set_faults(fault);
    EXPECT_EQ(import_it().status, 5) << "it died";
    target_.set_faults("");
    target_.stop();
    target_.start();
    EXPECT_EQ(target_.keyagent("key show " + kid()).status, 3) << "nothing half";
    EXPECT_THAT(target_.json("doctor").dump(), testing::Not(HasSubstr("not this agent's")));
  }
  EXPECT_THAT(import_it().output, HasSubstr("imported " + kid()));
  target_.stop();
  target_.start();
  EXPECT_THAT(import_it().output, HasSubstr("already exists"));
  EXPECT_TRUE(target_.json("key show " + kid()).at("usable"));
}

}  // namespace
}  // namespace keyagent::test
