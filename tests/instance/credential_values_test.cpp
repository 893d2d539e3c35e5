// SPDX-License-Identifier: Apache-2.0
// Values of credentials are records: under a data key that is replaced, given away and counted as
// those of other specifications.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/store/credentials.h"
#include "agent/store/engine/database.h"
#include "agent/store/sealed_copies.h"
#include "tests/instance/data_instance.h"
#include "tests/instance/simulated_agent.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

constexpr const char* kSpecification = store::kCredentialData;

class CredentialValues : public testing::Test {
 protected:
  CredentialValues() : data_({}, {{"ops", "operator"}, {"boss", "admin"}}) {}

  void put(const std::string& name, const std::string& token) {
    data_.write("value.json", Json{{"token", token}}.dump());
    const auto done = data_.run(
        "ops", "credential put " + name + " --type api-token --from value.json --agent web1");
    ASSERT_EQ(done.status, 0) << done.output;
  }
  std::unique_ptr<SimulatedAgent> agent(const std::string& id) {
    auto made = std::make_unique<SimulatedAgent>(data_.process, id);
    made->enrol(data_.process.json("crypto", "token").at("token"));
    return made;
  }
  Json credential(const std::string& name) {
    return data_.process.json("app", "credential list " + name).at("credentials").at(0);
  }
  std::string active() {
    return data_.process.json("app", std::string("specification show ") + kSpecification)
        .at("specifications")
        .at(0)
        .at("active");
  }

  DataInstance data_;
};

TEST_F(CredentialValues, X1_FollowTheRekeyOfTheirKeyWhichMayGoThen) {
  const auto web1 = agent("web1"), web2 = agent("web2");
  put("mail", "s3cr3t");
  const auto old = active();
  EXPECT_EQ(credential("mail").at("kid"), old);
  EXPECT_EQ(data_.reported(old), 1);
  const std::string named(kSpecification);
  ASSERT_EQ(data_.run("crypto", "specification rekey " + named + " --wait --timeout 60").status, 0);
  ASSERT_NE(active(), old);
  EXPECT_EQ(web1->fetch("mail").at("token"), "s3cr3t");
  const auto done = data_.run("crypto", "reencrypt start " + named + " --wait --timeout 60");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_EQ(credential("mail").at("kid"), active());
  EXPECT_EQ(data_.reported(old), 0);
  // Opened again, for someone new.
  ASSERT_EQ(data_.run("ops", "credential assign mail --agent web1 --agent web2").status, 0);
  EXPECT_EQ(web2->fetch("mail").at("token"), "s3cr3t");
}

TEST_F(CredentialValues, R6_WhoseKeyIsElsewhereKeepTheCopiesThatThereAre) {
  const auto web1 = agent("web1");
  put("mail", "s3cr3t");
  put("news", "0ther");
  const auto old = web1->transport.kid.text();
  ASSERT_EQ(data_.store->sealed_copies().all("web1", old).size(), 2u);
  // As a clone has it: under a key that this token never had.
  const auto elsewhere =
      web1->backend->add("elsewhere", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto envelope = envelope::seal_jwe(elsewhere, envelope::ContentEncryption::kA256Gcm, {});
  store::Database database(store::Options{data_.process.store_url});
  database.write([&](store::Sql& sql) {
    return sql.run("UPDATE records SET kid = :kid, envelope = :envelope WHERE id = 'mail'",
                   {{"kid", elsewhere.kid.text()}, {"envelope", std::string(as_text(envelope))}});
  });
  web1->rotate();
  EXPECT_EQ(web1->fetch("news").at("token"), "0ther");
  EXPECT_EQ(code_of([&] { web1->fetch("mail"); }), Code::kKeyNotPresent);
  const auto copies = data_.store->sealed_copies().all("web1", old);
  EXPECT_TRUE(std::any_of(copies.begin(), copies.end(),
                          [](const auto& copy) { return copy.credential == "mail"; }));
}

TEST_F(CredentialValues, R4_AreNeverReadOrWrittenByPeopleAsRecords) {
  put("mail", "s3cr3t");
  data_.write("value", "x");
  const std::string record = std::string(kSpecification) + " mail";
  for (const auto& words : {"record get " + record, "record put " + record + " --from value",
                            "record remove " + record}) {
    const auto refused = data_.run("boss", words);
    EXPECT_EQ(refused.status, 3) << words << refused.output;
    EXPECT_THAT(refused.output, HasSubstr("keyagent instance credential"));
  }
  EXPECT_EQ(data_.process.json("boss", std::string("record list ") + kSpecification)
                .at("records")
                .at(0)
                .at("readable"),
            true);
}

TEST_F(CredentialValues, X2_WhoMayPutThemIsSaidByTheSpecification) {
  data_.write("access.json", R"([{"rule":"boss","effect":"allow","uses":["encrypt"],
                                  "users":["boss"]}])");
  ASSERT_EQ(data_
                .run("crypto",
                     std::string("specification access ") + kSpecification + " --from access.json")
                .status,
            0);
  data_.write("value.json", R"({"token":"x"})");
  const auto put = "credential put mail --type api-token --from value.json";
  EXPECT_EQ(data_.run("ops", put).status, 3);
  EXPECT_EQ(data_.run("boss", put).status, 0);
}

TEST_F(CredentialValues, X1_OfAnEarlierProgramAreMovedAtTheStart) {
  const auto web1 = agent("web1");
  put("mail", "later");
  // What it had: the value sealed by its own key, in the credential's row.
  wire::Request create, seal;
  create.mutable_key_create()->set_name("instance-storage");
  create.mutable_key_create()->set_purpose("storage");
  seal.mutable_seal()->set_key("instance-storage");
  seal.mutable_seal()->set_plaintext(R"({"token":"earlier"})");
  auto client = data_.process.agent.client();
  client.call(create);
  const auto envelope = client.call(seal).seal().envelope();
  data_.process.stop();
  store::Database database(store::Options{data_.process.store_url});
  database.write([&](store::Sql& sql) {
    sql.run("DELETE FROM records");
    sql.run("DELETE FROM sealed_copies");
    return sql.run("UPDATE credentials SET envelope = :envelope",
                   {{"envelope", Bytes(envelope.begin(), envelope.end())}});
  });
  data_.process.start();
  EXPECT_EQ(credential("mail").at("kid"), active());
  EXPECT_EQ(credential("mail").at("version"), 1);
  EXPECT_TRUE(data_.store->credentials().find("mail")->envelope.empty());
  EXPECT_EQ(web1->fetch("mail").at("token"), "earlier");
}

}  // namespace
}  // namespace keyagent::test
