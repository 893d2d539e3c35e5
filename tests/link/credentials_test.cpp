// SPDX-License-Identifier: Apache-2.0
// Credentials of the instance: given to callers that the policy allows, opened in the token, stored
// sealed.

#include "agent/link/instance_line.h"
#include "tests/link/link_fixture.h"
#include "tests/support/code_of.h"

namespace keyagent::link {
namespace {

TEST_F(LinkTest, R5_CredentialGoesToTheCallerThatThePolicyAllowsAndIsRecorded) {
  instance_.put_credential("db-main", "s3cret");
  instance_.put_credential("mail", "0ther");
  connect();
  EXPECT_EQ(value("db-main"), "s3cret");
  EXPECT_THAT(audit_lines(), Contains(testing::AllOf(HasSubstr("credential.get"),
                                                     HasSubstr("uid 1001"), HasSubstr("db-main"))));
  EXPECT_EQ(get(kDatabase, "mail").failure().code(), wire::DENIED);
}

// Whoever waits for its turn has read the state before a rekey stored the next certificate.
TEST_F(LinkTest, T8_ARequestFindsTheCertificateOfAKeyThatWasSwitchedMeanwhile) {
  connect();
  LinkContext around;
  GateClient gate([this](const auto& who, wire::Request request, auto to) {
    gate_->handle(who, std::move(request), std::move(to));
  });
  OwnKeys keys(gate);
  TlsLibrary library(gate);
  const LinkStore store(hsm_.folder() / "state");
  InstanceLine line(around, keys, library, store);
  LinkState before = *store.get();
  before.certificates.clear();
  const MutexLock turn(line.turn());
  EXPECT_NO_THROW(line.api(before).credentials());
  line.drop();
  before.agent = "another";
  try {
    line.api(before);
    ADD_FAILURE() << "the certificate of another agent";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyNotPresent);
  }
}

TEST_F(LinkTest, R4_CopyThatStaysOnTheDiskIsSealed) {
  instance_.put_credential("db-main", "canary-4711");
  connect();
  ASSERT_EQ(value("db-main"), "canary-4711");
  const Bytes kept = read_file(hsm_.folder() / "state/credentials/db-main.json");
  EXPECT_THAT(std::string(as_text(kept)), Not(HasSubstr("canary")));
  for (const auto& line : audit_lines()) EXPECT_THAT(line, Not(HasSubstr("canary")));
}

TEST_F(LinkTest, CredentialCanBeHadWhileTheInstanceIsAway) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  ASSERT_EQ(value("db-main"), "s3cret");
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  const auto response = get(kDatabase, "db-main");
  EXPECT_EQ(response.credential_get().value(), "s3cret");
  EXPECT_TRUE(response.credential_get().credential().cached());
  EXPECT_EQ(get(kDatabase, "db-other").failure().code(), wire::PEER);
}

// A folder in its place cannot be replaced by a file: as a full disk, but for this copy alone.
TEST_F(LinkTest, Fault078_ACopyThatCannotBeKeptWithholdsNothingFromItsCaller) {
  connect();
  const auto copy = hsm_.folder() / "state/credentials/db-main.json";
  std::filesystem::create_directories(copy / "in-the-way");
  instance_.put_credential("db-main", "s3cret");
  EXPECT_TRUE(eventually([this] { return get(kDatabase, "db-main").has_credential_get(); }));
  EXPECT_EQ(value("db-main"), "s3cret");
  EXPECT_TRUE(std::filesystem::is_directory(copy));
}

// An agent that was revoked while it is cut off.
TEST_F(LinkTest, Fault130_CachedCopyIsRefusedLongAfterTheLastContact) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  ASSERT_EQ(value("db-main"), "s3cret");
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  ASSERT_EQ(value("db-main"), "s3cret");
  EXPECT_FALSE(status().credentials_expired());
  clock_.advance(std::chrono::hours(24 * 7) + 1min);
  const auto refused = get(kDatabase, "db-main");
  EXPECT_EQ(refused.failure().code(), wire::KEY_STATE) << refused.DebugString();
  EXPECT_THAT(refused.failure().text(), HasSubstr("credential-max-age"));
  EXPECT_TRUE(status().credentials_expired());
}

TEST_F(LinkTest, CopiesAreThereBeforeTheFirstCallerAsks) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  EXPECT_TRUE(eventually([this] {
    return std::filesystem::exists(hsm_.folder() / "state/credentials/db-main.json");
  }));
  instance_.put_credential("db-new", "n3w");
  EXPECT_TRUE(eventually(
      [this] { return std::filesystem::exists(hsm_.folder() / "state/credentials/db-new.json"); }));
}

TEST_F(LinkTest, ChangedCredentialIsTheNewOneAtOnce) {
  instance_.put_credential("db-main", "old");
  connect();
  ASSERT_EQ(value("db-main"), "old");
  instance_.put_credential("db-main", "new");
  EXPECT_TRUE(eventually([this] { return value("db-main") == "new"; }));
  EXPECT_EQ(get(kDatabase, "db-main").credential_get().credential().version(), 2u);
}

TEST_F(LinkTest, R3_AgentThatTheInstanceRefusesHasNoCredentialNotEvenAnOldCopy) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  ASSERT_EQ(value("db-main"), "s3cret");
  instance_.suspend("web1");
  ASSERT_TRUE(reaches("refused_by_peer"));
  EXPECT_EQ(get(kDatabase, "db-main").failure().code(), wire::KEY_STATE);
}

TEST_F(LinkTest, WithdrawnCredentialLeavesNoCopyBehind) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  ASSERT_EQ(value("db-main"), "s3cret");
  instance_.withdraw_credential("db-main");
  EXPECT_EQ(get(kDatabase, "db-main").failure().code(), wire::DENIED);
  EXPECT_FALSE(std::filesystem::exists(hsm_.folder() / "state/credentials/db-main.json"));
}

TEST_F(LinkTest, EnvelopeForAnotherKeyOfThisHostIsNotOpened) {
  create("backup", "transport", "ec-p256");
  const auto key = keys_.find("backup");
  instance_.put_credential("db-main", "x");
  instance_.put_envelope("db-main",
                         {key.kid, "backup", key.algorithm, key.purpose, key.envelope, key.spki},
                         "somebody else's");
  connect();
  const auto refused = get(kDatabase, "db-main");
  EXPECT_EQ(refused.failure().code(), wire::INTEGRITY) << refused.failure().text();
  EXPECT_TRUE(refused.credential_get().value().empty());
}

// RELIABILITY 158: what the instance gives, or who can write its store, is what was asked for.
class BoundCredentials : public LinkTest {
 protected:
  void restart() {
    link_->stop();
    open_link();
    link_->start();
    ASSERT_TRUE(reaches("connected"));
  }
  void expect_refused(const std::string& name, const std::string& words) {
    const auto refused = get(kDatabase, name);
    EXPECT_EQ(refused.failure().code(), wire::INTEGRITY) << refused.failure().text();
    EXPECT_THAT(refused.failure().text(), HasSubstr(words));
    EXPECT_TRUE(refused.credential_get().value().empty());
  }
  std::filesystem::path copy_of(const std::string& name) const {
    return hsm_.folder() / "state/credentials" / (name + ".json");
  }
};

TEST_F(BoundCredentials, Fault158_TheEnvelopeOfAnotherCredentialAgentInstanceOrVersionIsRefused) {
  connect();
  instance_.put_credential("db-low", "of db-high");
  instance_.put_binding("db-low", envelope::Binding{"instance-1", "db-high", 1, "web1"});
  expect_refused("db-low", "'db-high'");
  instance_.put_binding("db-low", envelope::Binding{"instance-1", "db-low", 1, "web2"});
  expect_refused("db-low", "'web2'");
  instance_.put_binding("db-low", envelope::Binding{"instance-2", "db-low", 1, "web1"});
  expect_refused("db-low", "'instance-2'");
  instance_.put_binding("db-low", envelope::Binding{"instance-1", "db-low", 2, "web1"});
  expect_refused("db-low", "version 2");
  EXPECT_FALSE(std::filesystem::exists(copy_of("db-low"))) << "it is kept nowhere";
  instance_.put_binding("db-low", envelope::Binding{"instance-1", "db-low", 1, "web1"});
  EXPECT_EQ(value("db-low"), "of db-high") << "control: this is what the guard is for";
}

TEST_F(BoundCredentials, Fault158_AVersionThatIsOlderThanOneThatWasHadIsRefusedAlsoAfterARestart) {
  connect();
  instance_.put_credential("db-main", "old");
  ASSERT_EQ(value("db-main"), "old");
  instance_.put_credential("db-main", "new");
  ASSERT_TRUE(eventually([this] { return value("db-main") == "new"; }));
  instance_.roll_back("db-main", 1, "old");
  expect_refused("db-main", "this agent has seen 2");
  restart();
  expect_refused("db-main", "this agent has seen 2");
  instance_.put_credential("db-main", "newer");
  instance_.put_credential("db-main", "newest");
  EXPECT_TRUE(eventually([this] { return value("db-main") == "newest"; }));
}

TEST_F(BoundCredentials, Fault158_AnEnvelopeWithoutContextIsRefusedByDefault) {
  connect();
  instance_.put_credential("db-main", "s3cret");
  instance_.put_binding("db-main", std::nullopt);
  expect_refused("db-main", "keyagent instance credential reseal");
}

TEST_F(BoundCredentials, Fault158_ItIsAcceptedWhereAllowedAndMarkedUntilABoundOneWasSeen) {
  require_bound_ = false;
  link_->stop();
  open_link();
  connect();
  instance_.put_credential("db-main", "s3cret");
  instance_.put_binding("db-main", std::nullopt);
  const auto taken = get(kDatabase, "db-main");
  EXPECT_EQ(taken.credential_get().value(), "s3cret") << taken.failure().text();
  EXPECT_TRUE(taken.credential_get().credential().unbound());
  const auto findings = link_->diagnose();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_THAT(findings[0].text(), HasSubstr("db-main"));
  instance_.put_binding("db-main", envelope::Binding{"instance-1", "db-main", 1, "web1"});
  const auto bound = get(kDatabase, "db-main");
  EXPECT_EQ(bound.credential_get().value(), "s3cret");
  EXPECT_FALSE(bound.credential_get().credential().unbound());
  instance_.put_binding("db-main", std::nullopt);
  expect_refused("db-main", "carries no context");
}

TEST_F(BoundCredentials, Fault158_AnOlderEnrollmentAcceptsAnEnvelopeWithoutContext) {
  connect();
  instance_.put_credential("db-main", "s3cret");
  instance_.put_binding("db-main", std::nullopt);
  expect_refused("db-main", "carries no context");
  link_->stop();
  const auto file = hsm_.folder() / "state/link.json";
  auto state = parse_link_state(std::string(as_text(read_file(file))));
  EXPECT_TRUE(state.require_bound);
  state.require_bound = false;
  replace_file(file, as_bytes(to_text(state)));
  restart();
  EXPECT_EQ(value("db-main"), "s3cret");
}

TEST_F(BoundCredentials, Fault158_WhatWasSeenCannotBeReadMeansRefused) {
  connect();
  instance_.put_credential("db-main", "s3cret");
  ASSERT_EQ(value("db-main"), "s3cret");
  replace_file(hsm_.folder() / "state/credential-versions.json", as_bytes("{}"));
  restart();
  expect_refused("db-main", "credential-versions.json");
}

TEST_F(LinkTest, NameThatIsAPathIsRefused) {
  connect();
  for (const char* name : {"db-../../x", "db-a/b", "db-a?b", "db-%2e"}) {
    EXPECT_EQ(get(kDatabase, name).failure().code(), wire::USAGE) << name;
  }
}

TEST_F(LinkTest, R12_KeyThatCredentialsNameIsNotDestroyedAndTheCountFollowsTheRekey) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  const auto old = keys_.find("credentials").kid;
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(old) == 1; }));
  wire::Request destroy;
  destroy.mutable_key_destroy()->set_key(old.text());
  destroy.mutable_key_destroy()->set_confirm_kid(old.text());
  EXPECT_THAT(ask(kAdmin, destroy).failure().text(), HasSubstr("1 sealed envelope"));
  pump();
  const auto id = begin_rekey("credentials");
  ASSERT_TRUE(eventually([&] { return keys_.rekey(id).step == keys::RekeyStep::kDraining; }));
  const auto fresh = keys_.find("credentials").kid;
  EXPECT_TRUE(
      eventually([&] { return keys_.sealed_count(old) == 0 && keys_.sealed_count(fresh) == 1; }));
  EXPECT_EQ(value("db-main"), "s3cret");
}

TEST_F(LinkTest, R12_BlindCredentialKeepsTheOldKeyThatAloneOpensIt) {
  connect();
  instance_.put_blind("db-main", "web1", "s3cret");
  const auto old = keys_.find("credentials").kid;
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(old) == 1; }));
  pump();
  const auto id = begin_rekey("credentials");
  ASSERT_TRUE(eventually([&] { return keys_.rekey(id).step == keys::RekeyStep::kDraining; }));
  // Looked for again with each credential that changes.
  instance_.put_credential("db-other", "x");
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(keys_.find("credentials").kid) == 1; }));
  EXPECT_EQ(keys_.sealed_count(old), 1u);
  EXPECT_EQ(value("db-main"), "s3cret");
}

// Its copy is not here yet when the key is switched: the instance no longer lists it for any key.
TEST_F(LinkTest, R12_CountOfTheOldKeyStaysWhileABlindCopyIsStillToBeFetched) {
  connect();
  instance_.hold_credential("db-main");
  instance_.put_blind("db-main", "web1", "s3cret");
  instance_.go_away();
  ASSERT_TRUE(reaches("unreachable"));
  instance_.come_back();
  ASSERT_TRUE(reaches("connected"));
  const auto old = keys_.find("credentials").kid;
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(old) == 1; })) << "it is listed";
  const auto copy = hsm_.folder() / "state/credentials/db-main.json";
  ASSERT_FALSE(std::filesystem::exists(copy));
  pump();
  const auto id = begin_rekey("credentials");
  ASSERT_TRUE(eventually([&] { return keys_.rekey(id).step == keys::RekeyStep::kDraining; }));
  // It is fetched and counted although the one before it is held back.
  instance_.put_credential("db-other", "x");
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(keys_.find("credentials").kid) == 1; }));
  EXPECT_EQ(keys_.sealed_count(old), 1u);
  EXPECT_FALSE(std::filesystem::exists(copy));
  instance_.hold_credential("db-main", false);
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(copy); }));
  EXPECT_EQ(value("db-main"), "s3cret");
  EXPECT_EQ(keys_.sealed_count(old), 1u);
  instance_.put_blind("db-main", "web1", "s3cret");
  EXPECT_TRUE(eventually([&] { return keys_.sealed_count(old) == 0; })) << "sealed to the new key";
  EXPECT_EQ(keys_.sealed_count(keys_.find("credentials").kid), 2u);
}

TEST_F(LinkTest, R12_CredentialThatTheInstanceHasForNoKeyOfOursHoldsNoCount) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  const auto key = keys_.find("credentials").kid;
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(key) == 1; }));
  create("other", "transport", "ec-p256");
  const auto other = keys_.find("other");
  instance_.put_blind_for(
      {other.kid, "other", other.algorithm, other.purpose, other.envelope, other.spki}, "db-blind",
      "of another key");
  instance_.withdraw_credential("db-main");
  instance_.put_credential("db-more", "x");
  instance_.put_credential("db-most", "x");
  ASSERT_TRUE(eventually([&] { return keys_.sealed_count(key) == 2; }));
  instance_.withdraw_credential("db-more");
  instance_.put_credential("db-most", "y");
  EXPECT_TRUE(eventually([&] { return keys_.sealed_count(key) == 1; }));
}

TEST_F(LinkTest, LeavingForgetsTheCopies) {
  instance_.put_credential("db-main", "s3cret");
  connect();
  ASSERT_EQ(value("db-main"), "s3cret");
  wire::Request leave;
  leave.mutable_leave();
  EXPECT_EQ(ask(kAdmin, leave).leave().link().state(), "not_enrolled");
  EXPECT_FALSE(std::filesystem::exists(hsm_.folder() / "state/credentials"));
  EXPECT_EQ(get(kDatabase, "db-main").failure().code(), wire::KEY_STATE);
  EXPECT_TRUE(keys_.census().empty());
}

}  // namespace
}  // namespace keyagent::link
