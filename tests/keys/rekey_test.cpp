// SPDX-License-Identifier: Apache-2.0
// Rekey on a real token: every purpose, every answer of the peer, every fault of the token.

#include <atomic>
#include <set>
#include <thread>

#include "tests/keys/rekey_fixture.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
namespace shim = test::shim;
constexpr auto kDay = std::chrono::hours(24);

struct Kind {
  const char* name;
  Purpose purpose;
  std::optional<KeyAlgorithm> from, to;
};

class RekeyOfEachKind : public RekeyTest, public ::testing::WithParamInterface<Kind> {};

TEST_P(RekeyOfEachKind, R9_TheNewGenerationIsActiveAndTheOldOneGoesAfterItsDrain) {
  const auto& kind = GetParam();
  const auto old = make("one", kind.purpose, kind.from);
  const auto id = begin("one", kind.to).id;
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  const auto fresh = store_->find("one");
  EXPECT_NE(fresh.kid, old.kid);
  EXPECT_EQ(fresh.generation, 2);
  EXPECT_EQ(fresh.state, KeyState::kActive);
  EXPECT_EQ(fresh.algorithm, kind.to.value_or(old.algorithm));
  EXPECT_EQ(store_->find(old.kid.text()).state, KeyState::kDeactivated);
  EXPECT_EQ(private_keys(), 2u);
  if (kind.purpose == Purpose::kStorage) {
    clock_.advance(1s);
    store_->record_census("vault", {{"vault", old.kid, 0, clock_.now(), "tester"}});
  }
  pass(periods_.of(old).drain + 1h);
  EXPECT_EQ(step(id), RekeyStep::kDestroyed);
  EXPECT_EQ(store_->find(old.kid.text()).state, KeyState::kDestroyed);
  EXPECT_EQ(private_keys(), 1u);
}

INSTANTIATE_TEST_SUITE_P(
    All, RekeyOfEachKind,
    ::testing::Values(Kind{"transport_rsa", Purpose::kTransport, KeyAlgorithm::kRsa2048, {}},
                      Kind{"transport_rsa_to_ec", Purpose::kTransport, KeyAlgorithm::kRsa2048,
                           KeyAlgorithm::kEcP256},
                      Kind{"transport_ec", Purpose::kTransport, KeyAlgorithm::kEcP256, {}},
                      Kind{"sign_ec", Purpose::kSign, KeyAlgorithm::kEcP384, {}},
                      Kind{"sign_ed25519", Purpose::kSign, KeyAlgorithm::kEd25519, {}},
                      Kind{"auth", Purpose::kAuth, {}, {}},
                      Kind{"storage", Purpose::kStorage, {}, {}},
                      Kind{"exchange", Purpose::kExchange, KeyAlgorithm::kRsa2048, {}},
                      Kind{"audit", Purpose::kAudit, {}, {}}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(RekeyTest, R8_ARekeyIsResumedAtEveryStepItWasLeftAt) {
  peer_ = &the_peer_;
  const auto old = make("one", Purpose::kSign);
  open();
  the_peer_.proof = {Confirmation::Answer::kLater, "away"};
  const auto id = begin("one").id;
  open();
  EXPECT_EQ(step(id), RekeyStep::kPlanned);
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kGenerated);
  const auto made = store_->rekey(id).new_kid;
  open();
  the_peer_.proof = {};
  the_peer_.acknowledgement = {Confirmation::Answer::kLater, "away"};
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kSwitched);
  open();
  EXPECT_EQ(store_->find("one").kid, made);
  the_peer_.acknowledgement = {};
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  EXPECT_EQ(private_keys(), 2u);
}

TEST_F(RekeyTest, ThePeerSeesTheNewKeyBeforeAndAfterTheSwitch) {
  peer_ = &the_peer_;
  open();
  make("one", Purpose::kSign);
  const auto done = rekey("one");
  EXPECT_EQ(the_peer_.asked, (std::vector<std::string>{"prove", "switched"}));
  EXPECT_EQ(the_peer_.shown, done.new_kid);
}

TEST_F(RekeyTest, R7_ARefusedKeyIsDestroyedTheOldOneStaysAndItIsAnAlarm) {
  peer_ = &the_peer_;
  open();
  const auto old = make("one", Purpose::kSign);
  the_peer_.proof = {Confirmation::Answer::kRefused, "I do not know you"};
  const auto ended = rekey("one");
  EXPECT_EQ(ended.step, RekeyStep::kAborted);
  EXPECT_THAT(ended.reason, HasSubstr("I do not know you"));
  EXPECT_EQ(store_->find("one").kid, old.kid);
  EXPECT_EQ(store_->find(ended.new_kid.text()).state, KeyState::kDestroyed);
  EXPECT_EQ(private_keys(), 1u);
  EXPECT_TRUE(said("rekey.refused"));
}

// A peer may take days: what the token did with the key meanwhile is checked before the switch.
TEST_F(RekeyTest, NewKeyThatBreaksAfterItsProofNeverBecomesActive) {
  peer_ = &the_peer_;
  open();
  const auto old = make("one", Purpose::kSign, KeyAlgorithm::kEcP256);
  the_peer_.while_proving = [](const KeyRecord&) { shim::set_faults("C_Sign:every=1:flip"); };
  EXPECT_EQ(rekey("one").step, RekeyStep::kAborted);
  EXPECT_EQ(store_->find("one").kid, old.kid);
}

TEST_F(RekeyTest, NewKeyThatIsRevokedBeforeTheSwitchNeverBecomesActive) {
  peer_ = &the_peer_;
  open();
  const auto old = make("one", Purpose::kSign);
  the_peer_.while_proving = [this](const KeyRecord& fresh) {
    store_->change_state(fresh.kid.text(), KeyState::kCompromised, {"seen elsewhere", "alice"});
  };
  const auto ended = rekey("one");
  EXPECT_EQ(ended.step, RekeyStep::kAborted);
  EXPECT_EQ(store_->find("one").kid, old.kid);
  EXPECT_NE(store_->find(ended.new_kid.text()).state, KeyState::kActive);
}

TEST_F(RekeyTest, R8_ManyRequestsAtOnceAreOneRekey) {
  make("one", Purpose::kSign);
  std::atomic<bool> go{false};
  std::vector<std::thread> askers;
  std::vector<std::uint64_t> ids(16);
  for (auto& id : ids) {
    askers.emplace_back([&] {
      while (!go) {
      }
      id = begin("one").id;
    });
  }
  go = true;
  for (auto& asker : askers) asker.join();
  EXPECT_EQ(std::set<std::uint64_t>(ids.begin(), ids.end()).size(), 1u);
  EXPECT_EQ(store_->rekeys().size(), 1u);
}

TEST_F(RekeyTest, APeerThatIsAwayIsAskedAgainWithLongerAndLongerPauses) {
  peer_ = &the_peer_;
  open();
  make("one", Purpose::kSign);
  the_peer_.proof = {Confirmation::Answer::kLater, "no route"};
  begin("one");
  for (int second = 0; second < 3600; ++second) {
    clock_.advance(1s);
    runner_->run(1s);
  }
  EXPECT_GT(the_peer_.asked.size(), 10u);
  EXPECT_LT(the_peer_.asked.size(), 25u);
  EXPECT_THAT(runner_->progress().at(0).waits_for, HasSubstr("no route"));
}

TEST_F(RekeyTest, AbortBeforeTheSwitchLeavesTheOldKeyAndNothingElse) {
  peer_ = &the_peer_;
  open();
  const auto old = make("one", Purpose::kSign);
  the_peer_.proof = {Confirmation::Answer::kLater, "away"};
  const auto id = rekey("one").id;
  EXPECT_EQ(runner_->abort(KeyName("one"), {"changed my mind", "tester"}).step,
            RekeyStep::kAborting);
  runner_->run(Span(0));
  EXPECT_EQ(step(id), RekeyStep::kAborted);
  EXPECT_EQ(store_->find("one").kid, old.kid);
  EXPECT_EQ(private_keys(), 1u);
}

TEST_F(RekeyTest, AbortAfterTheSwitchIsRefused) {
  make("one", Purpose::kSign);
  rekey("one");
  EXPECT_EQ(code_of([&] { runner_->abort(KeyName("one"), {}); }), Code::kUsage);
}

TEST_F(RekeyTest, ASecondRequestJoinsTheRekeyInProgress) {
  make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto first = begin("one");
  EXPECT_EQ(begin("one").id, first.id);
  EXPECT_EQ(code_of([&] { begin("one", KeyAlgorithm::kRsa2048); }), Code::kExists);
  runner_->run(Span(0));
  EXPECT_NE(begin("one").id, first.id);  // it drains; the next may begin
}

TEST_F(RekeyTest, ADestroyedNameAndAnImpossibleAlgorithmAreRefused) {
  make("one", Purpose::kStorage);
  EXPECT_EQ(code_of([&] { begin("one", KeyAlgorithm::kEcP256); }), Code::kUsage);
  EXPECT_EQ(code_of([&] { begin("two"); }), Code::kKeyNotPresent);
}

TEST_F(RekeyTest, Fault015_AFullTokenKeepsTheOldKeyAndIsTriedWithPauses) {
  const auto old = make("one", Purpose::kSign);
  shim::set_faults("C_GenerateKeyPair:from=1:rv=0x31");
  const auto id = begin("one").id;
  shim::reset_counts();
  for (int second = 0; second < 60; ++second) {
    clock_.advance(1s);
    runner_->run(1s);
  }
  EXPECT_EQ(step(id), RekeyStep::kPlanned);
  EXPECT_EQ(store_->find("one").kid, old.kid);
  EXPECT_LT(shim::count("C_GenerateKeyPair"), 10u);
  EXPECT_FALSE(runner_->progress().at(0).waits_for.empty());
  shim::clear();
  clock_.advance(5min);
  runner_->run(5min);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
}

TEST_F(RekeyTest, Fault021_AKeyMadeWithALostAnswerIsNotMadeTwice) {
  make("one", Purpose::kSign);
  shim::set_faults("C_GenerateKeyPair:n=1:after:rv=0x30");
  const auto id = begin("one").id;
  runner_->run(Span(0));
  shim::clear();
  clock_.advance(1min);
  runner_->run(1min);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  EXPECT_EQ(private_keys(), 2u);
}

TEST_F(RekeyTest, Fault021_WhatCouldNotBeUndoneGoesBeforeTheNextAttempt) {
  make("one", Purpose::kSign);
  const auto id = begin("one").id;
  shim::set_faults("C_GenerateKeyPair:n=1:after:rv=0x30; C_DestroyObject:every=1:rv=0x30");
  runner_->run(Span(0));
  EXPECT_EQ(private_keys(), 2u) << "the key that was not reported still exists";
  shim::clear();
  clock_.advance(1min);
  runner_->run(1min);
  EXPECT_EQ(step(id), RekeyStep::kDraining) << runner_->progress().at(0).waits_for;
  EXPECT_EQ(private_keys(), 2u);
}

TEST_F(RekeyTest, NewKeyThatFailsItsSelfTestNeverBecomesActive) {
  const auto old = make("one", Purpose::kSign);
  peer_ = &the_peer_;
  open();
  the_peer_.proof = {Confirmation::Answer::kLater, "away"};
  const auto staged = rekey("one");
  vault_.destroy(store_->find(staged.new_kid.text()).cka_id);
  the_peer_.proof = {};
  clock_.advance(1min);
  runner_->run(1min);
  EXPECT_EQ(step(staged.id), RekeyStep::kAborted);
  EXPECT_EQ(store_->find("one").kid, old.kid);
}

TEST_F(RekeyTest, R12_DestroyIsRefusedInTheDrainAndWhileSealedDataNameTheKey) {
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto id = rekey("one").id;
  EXPECT_EQ(code_of([&] { store_->destroy(old.kid.text(), {"test"}); }), Code::kKeyState);
  store_->record_census("/srv", {{"/srv", old.kid, 3, clock_.now(), "tester"}});
  pass(31 * kDay);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  EXPECT_THAT(runner_->progress().at(0).waits_for, HasSubstr("3 sealed envelopes"));
  try {
    store_->destroy(old.kid.text(), {"test"});
    FAIL() << "destroyed with live data";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyState);
    EXPECT_THAT(error.what(), HasSubstr("3 sealed envelopes"));
  }
  store_->record_census("/srv", {{"/srv", Kid(), 0, clock_.now(), "tester"}});
  pass(1h);
  EXPECT_EQ(step(id), RekeyStep::kDestroyed);
}

TEST_F(RekeyTest, ARevokedKeyMayBeDestroyedInItsDrain) {
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto id = rekey("one").id;
  store_->change_state(old.kid.text(), KeyState::kCompromised, {"stolen", "tester"});
  EXPECT_EQ(store_->destroy(old.kid.text(), {"stolen"}).state, KeyState::kDestroyed);
  pass(31 * kDay);
  EXPECT_EQ(step(id), RekeyStep::kDestroyed);
}

TEST_F(RekeyTest, AKeyThatIsBeingRekeyedIsNotDestroyed) {
  peer_ = &the_peer_;
  open();
  const auto old = make("one", Purpose::kSign);
  the_peer_.proof = {Confirmation::Answer::kLater, "away"};
  rekey("one");
  EXPECT_EQ(code_of([&] { store_->destroy("one", {"test"}); }), Code::kKeyState);
  EXPECT_EQ(store_->find("one").kid, old.kid);
}

TEST_F(RekeyTest, AnOldKeyThatIsStillUsedIsKept) {
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto id = rekey("one").id;
  pass(30 * kDay - 2h);
  store_->ops().agree(old.kid, ByteView(old.spki).last(65));  // its own point does
  pass(3h);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  EXPECT_THAT(runner_->progress().at(0).waits_for, HasSubstr("to be idle"));
  pass(1 * kDay);
  EXPECT_EQ(step(id), RekeyStep::kDestroyed);
}

TEST_F(RekeyTest, AStorageKeyWaitsForACensus) {
  make("vault", Purpose::kStorage);
  const auto id = rekey("vault").id;
  pass(31 * kDay);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  EXPECT_THAT(runner_->progress().at(0).waits_for, HasSubstr("census"));
  // One who may not count this key has looked somewhere and found nothing.
  store_->record_census("/elsewhere", {{"/elsewhere", Kid(), 0, clock_.now(), "tester"}});
  pass(1h);
  EXPECT_EQ(step(id), RekeyStep::kDraining);
}

TEST_F(RekeyTest, ARevokedKeyIsReplacedAndStaysRevoked) {
  const auto old = make("one", Purpose::kSign);
  store_->change_state("one", KeyState::kCompromised, {"stolen", "tester"});
  rekey("one");
  EXPECT_EQ(store_->find("one").state, KeyState::kActive);
  EXPECT_EQ(store_->find(old.kid.text()).state, KeyState::kCompromised);
}

TEST_F(RekeyTest, R12_TheHistoryNamesEveryChangeItsReasonAndItsActor) {
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  store_->change_state("one", KeyState::kSuspended, {"holiday", "alice"});
  store_->change_state("one", KeyState::kActive, {"back", "alice"});
  rekey("one");
  pass(31 * kDay);
  std::vector<std::string> lines;
  for (const auto& change : store_->history(old.kid))
    lines.push_back(std::string(name_of(change.to)) + " " + change.actor + " " + change.reason);
  EXPECT_EQ(lines,
            (std::vector<std::string>{"active internal:agent created", "suspended alice holiday",
                                      "active alice back", "deactivated tester rekey: test",
                                      "destroyed tester rekey: its drain period is over"}));
}

TEST_F(RekeyTest, R16_ASuspendedKeyDoesNothingAndComesBackWithItsKid) {
  const auto key = make("one", Purpose::kSign);
  periods_.by_name["one"] = [](auto) { return Cryptoperiod{0ms, 0ms, 30 * kDay, true}; };
  pass(31 * kDay);
  EXPECT_EQ(store_->find("one").state, KeyState::kSuspended);
  EXPECT_TRUE(said("key.suspend"));
  shim::reset_counts();
  EXPECT_EQ(
      code_of([&] { store_->ops().sign(key.kid, SignatureAlgorithm::kEs256, random_bytes(32)); }),
      Code::kKeyState);
  EXPECT_EQ(shim::count("C_SignInit"), 0u);
  EXPECT_EQ(store_->change_state("one", KeyState::kActive, {"needed", "alice"}).kid, key.kid);
  store_->ops().sign(key.kid, SignatureAlgorithm::kEs256, random_bytes(32));
}

TEST_F(RekeyTest, R10_PastItsCryptoperiodAKeyIsRekeyedOnce) {
  periods_.jitter_percent = 0;
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  pass(84 * kDay);
  EXPECT_TRUE(said("rekey.comes"));
  pass(10 * kDay);
  EXPECT_EQ(store_->rekeys().size(), 1u);
  EXPECT_NE(store_->find("one").kid, old.kid);
  pass(20 * kDay);
  EXPECT_EQ(store_->rekeys().size(), 1u);
}

TEST_F(RekeyTest, R10_AnOverdueSignKeyIsOnlySaid) {
  const auto key = make("one", Purpose::kSign);
  pass(370 * kDay);
  EXPECT_TRUE(said("rekey.due"));
  EXPECT_TRUE(store_->rekeys().empty());
  EXPECT_EQ(store_->find("one").kid, key.kid);
}

TEST_F(RekeyTest, Fault131_AJumpOfTheClockExpiresAndDestroysNothing) {
  const auto old = make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  make("two", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto id = rekey("one").id;
  pass(1h);
  for (const auto days : {400, -4000, 400}) {
    clock_.set(clock_.now() + days * kDay);
    clock_.advance(1s);
    scheduler_->look();
    EXPECT_EQ(store_->rekeys().size(), 1u) << days;
    EXPECT_EQ(step(id), RekeyStep::kDraining) << days;
  }
  EXPECT_EQ(store_->find(old.kid.text()).state, KeyState::kDeactivated);
  EXPECT_TRUE(said("clock"));
  EXPECT_FALSE(scheduler_->clock_fault().empty());
}

TEST_F(RekeyTest, Fault131_TimeSpentSwitchedOffDoesNotCountAsDrain) {
  make("one", Purpose::kTransport, KeyAlgorithm::kEcP256);
  const auto id = rekey("one").id;
  pass(29 * kDay);
  clock_.set(clock_.now() + 20 * kDay);
  open();
  scheduler_->look();
  EXPECT_EQ(step(id), RekeyStep::kDraining);
  pass(2 * kDay);
  EXPECT_EQ(step(id), RekeyStep::kDestroyed);
}

}  // namespace
}  // namespace keyagent::keys
