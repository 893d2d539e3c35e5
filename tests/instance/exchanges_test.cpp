// SPDX-License-Identifier: Apache-2.0
// Requests for keys between two instances, each on its own store, with signed messages and a
// clock that the test moves.

#include <gmock/gmock.h>

#include "tests/instance/exchange_end.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ExchangesTest : public testing::Test {
 protected:
  ExchangesTest() {
    source_.knows(target_);
    target_.knows(source_);
    source_.door.add("cards", 3);
    source_.door.add("pins");
  }

  std::string ask(const Json& more = Json::object()) {
    Json request{{"peer", "source"}, {"specifications", {"cards"}}};
    for (const auto& [name, value] : more.items()) request[name] = value;
    return target_.exchanges.request(request, "tess").at("id");
  }
  // Both ends do what is due, for so long.
  void pass(std::chrono::milliseconds time = 10s) {
    const std::chrono::milliseconds step = time > 5min ? 10s : 500ms;
    for (auto left = time; left > 0ms; left -= step) {
      source_.exchanges.work();
      target_.exchanges.work();
      clock_.advance(step);
    }
  }
  void approve(const std::string& id) { source_.exchanges.approve(id, Json::object(), "sam"); }
  std::string run(const Json& more = Json::object()) {
    const auto id = ask(more);
    pass(1s);
    approve(id);
    pass(70s);
    return id;
  }
  std::string states(const std::string& id) { return source_.state(id) + " " + target_.state(id); }
  Json show(const std::string& id) { return target_.exchanges.show(id); }

  test::FakeClock clock_;
  MemoryLine line_;
  ExchangeEnd source_{"source", line_, clock_}, target_{"target", line_, clock_};
};

TEST_F(ExchangesTest, X1_BothEndsShowTheSameResultsCountsAndTranscript) {
  const auto id = run();
  EXPECT_EQ(states(id), "complete complete");
  const Json there = source_.exchanges.show(id), here = show(id);
  for (const auto* both : {&there, &here}) {
    EXPECT_EQ(both->at("imported"), 3);
    EXPECT_EQ(both->at("total"), 3);
    EXPECT_EQ(both->at("keys").size(), 3u);
    for (const auto& key : both->at("keys")) EXPECT_EQ(key.at("outcome"), "imported");
    EXPECT_EQ(both->at("source"), source_.identity());
    EXPECT_EQ(both->at("target"), target_.identity());
  }
  EXPECT_EQ(there.at("transcript"), here.at("transcript"));
  EXPECT_EQ(there.at("transcript").get<std::string>().size(), 43u);
  // Each end has what the other signed.
  EXPECT_EQ(there.at("peer_statement"), here.at("own_statement"));
  EXPECT_EQ(here.at("peer_statement"), there.at("own_statement"));
  EXPECT_EQ(verified_json(source_.door.identity().spki, here.at("peer_statement")).at("transcript"),
            here.at("transcript"));
  EXPECT_EQ(target_.door.imports, 3);
}

TEST_F(ExchangesTest, X6_NothingIsExportedBeforeAPersonApproves) {
  const auto id = ask();
  pass(1h);
  EXPECT_EQ(states(id), "pending pending");
  EXPECT_EQ(source_.door.exports, 0);
  EXPECT_EQ(source_.exchanges.show(id).at("requested_by"), "tess");
}

TEST_F(ExchangesTest, X7_ApprovalIsOneAndNamesWhoGaveIt) {
  for (int i = 0; i < 36; ++i) source_.door.add("spec-" + std::to_string(i));
  Json names = Json::array({"gone"});
  for (int i = 0; i < 36; ++i) names.push_back("spec-" + std::to_string(i));
  const auto id = ask({{"specifications", names}});
  pass(1s);
  approve(id);
  EXPECT_EQ(source_.exchanges.approve(id, Json::object(), "another").at("approved_by"), "user sam");
  EXPECT_EQ(source_.events("exchange.approve", "done"), 1);
  pass(20s);
  EXPECT_EQ(states(id), "complete complete");
  approve(id);  // as before
  EXPECT_EQ(source_.state(id), "complete");
  EXPECT_EQ(show(id).at("approved_by"), "user sam");
  EXPECT_EQ(show(id).at("imported"), 36);
  EXPECT_EQ(show(id).at("keys").size(), 37u);
  EXPECT_EQ(show(id).at("keys").at(0).at("outcome"), "not_found");
  EXPECT_EQ(code_of([&] { target_.exchanges.approve(id, Json::object(), "tess"); }), Code::kDenied);
}

TEST_F(ExchangesTest, X7_ManyKeysComeInSeveralAnswers) {
  source_.door.add("many", 150);
  const auto id = run({{"specifications", Json::array()}, {"all", true}});
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(show(id).at("imported"), 154);
}

TEST_F(ExchangesTest, X8_ARejectedRequestNamesTheReasonAndStaysRejected) {
  const auto id = ask();
  pass(1s);
  source_.exchanges.reject(id, "not before May", "sam");
  pass(70s);
  EXPECT_EQ(states(id), "rejected rejected");
  EXPECT_EQ(show(id).at("text"), "not before May");
  EXPECT_THAT(show(id).at("next_step").get<std::string>(), HasSubstr("ask the source"));
  EXPECT_EQ(code_of([&] { approve(id); }), Code::kKeyState);
  EXPECT_EQ(code_of([&] { target_.exchanges.retry(id, "tess"); }), Code::kKeyState);
  EXPECT_EQ(source_.door.exports, 0);
}

TEST_F(ExchangesTest, X8_ACancelledRequestIsCancelledAtBothEndsAlsoWhenTheLineComesBackLater) {
  const auto id = ask();
  pass(1s);
  line_.lose_questions = 4;
  target_.exchanges.cancel(id, "no longer needed", "tess");
  pass(2s);
  EXPECT_EQ(states(id), "pending cancelled");
  pass(1min);
  EXPECT_EQ(states(id), "cancelled cancelled");
  EXPECT_EQ(code_of([&] { approve(id); }), Code::kKeyState);
}

TEST_F(ExchangesTest, X8_AnUndecidedRequestExpiresAtBothEnds) {
  const auto id = ask({{"hours", 1}});
  pass(59min);
  EXPECT_EQ(states(id), "pending pending");
  pass(2min);
  EXPECT_EQ(states(id), "expired expired");
}

TEST_F(ExchangesTest, X10_ThreeTokenFaultsAreOneAlarmAndTheFourthTryCompletes) {
  const auto id = ask();
  pass(1s);
  source_.door.export_faults = {Code::kTokenFault, Code::kTokenFault, Code::kTokenFault};
  target_.door.import_faults = {Code::kTokenFault, Code::kTokenAbsent, Code::kTokenStuck};
  approve(id);
  pass(59s);
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(source_.events("exchange.fault", "alarm"), 1);
  EXPECT_EQ(target_.events("exchange.fault", "alarm"), 1);
  EXPECT_EQ(target_.door.imports, 3);
}

TEST_F(ExchangesTest, X10_WhateverIsLostOnTheLineIsSaidAgainAndDoneOnce) {
  for (int lost = 0; lost < 12; ++lost) {
    const auto id = ask({{"specifications", {"pins"}}});
    pass(1s);
    if (lost % 2 == 0) line_.lose_answers = lost / 2;
    if (lost % 2 == 1) line_.lose_questions = lost / 2;
    approve(id);
    pass(3min);
    EXPECT_EQ(states(id), "complete complete") << lost;
    EXPECT_EQ(show(id).at("transcript"), source_.exchanges.show(id).at("transcript"));
  }
  EXPECT_EQ(target_.door.imports, 1);
}

TEST_F(ExchangesTest, X10_ARefusalIsNotTriedAgainUntilAUserRequestsIt) {
  for (const auto& key : source_.door.data) source_.door.refused.insert(key.kid);
  const auto id = run();
  EXPECT_EQ(states(id), "failed failed");
  EXPECT_EQ(show(id).at("code"), "DENIED");
  EXPECT_THAT(show(id).at("next_step").get<std::string>(), HasSubstr("policy"));
  const Json told = source_.exchanges.show(id);
  for (const auto& key : told.at("keys")) {
    EXPECT_EQ(key.at("outcome"), "refused");
    EXPECT_EQ(key.at("code"), "DENIED");
  }
  EXPECT_EQ(show(id).at("keys"), told.at("keys"));
  const int exports = source_.door.exports;
  pass(2h);
  EXPECT_EQ(source_.door.exports, exports);
  source_.door.refused.clear();
  // At the source it would export keys for a target that has given up.
  try {
    source_.exchanges.retry(id, "sam");
    FAIL() << "the source retries alone";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyState);
    EXPECT_THAT(error.what(), HasSubstr("at the target: keyagent instance exchange retry ID"));
  }
  EXPECT_EQ(states(id), "failed failed");
  target_.exchanges.retry(id, "tess");
  pass(70s);
  EXPECT_EQ(states(id), "complete complete");  // the approval stands
  EXPECT_EQ(show(id).at("transcript"), source_.exchanges.show(id).at("transcript"));
}

TEST_F(ExchangesTest, X10_EveryKeyHasItsOwnResult) {
  source_.door.refused.insert(source_.door.data.at(1).kid);
  target_.door.data.push_back(source_.door.data.at(2));
  const auto id = ask({{"specifications", {"cards", "gone"}}});
  pass(1s);
  approve(id);
  target_.door.import_faults = {Code::kIntegrity};
  pass(70s);
  EXPECT_EQ(states(id), "complete complete");
  std::multiset<std::string> outcomes;
  const Json told = source_.exchanges.show(id);
  for (const auto& key : told.at("keys"))
    outcomes.insert(key.at("outcome").get<std::string>() + " " + key.at("code").get<std::string>());
  EXPECT_TRUE(outcomes.contains("refused DENIED"));
  EXPECT_TRUE(outcomes.contains("failed INTEGRITY"));
  EXPECT_TRUE(outcomes.contains("not_found "));
  EXPECT_EQ(outcomes.size(), 4u);
  EXPECT_EQ(show(id).at("total"), 3);
  EXPECT_EQ(show(id).at("imported"), 1);
}

TEST_F(ExchangesTest, X8_WhenNoKeyCouldBeImportedItHasFailedAtBothEnds) {
  target_.door.import_faults = {Code::kIntegrity, Code::kIntegrity, Code::kIntegrity};
  const auto id = run();
  EXPECT_EQ(states(id), "failed failed");
  EXPECT_EQ(source_.exchanges.show(id).at("code"), "INTEGRITY");
  EXPECT_EQ(source_.exchanges.show(id).at("imported"), 0);
}

TEST_F(ExchangesTest, X8_ResultsThatComeAfterTheSourceGaveUpAreStillTheTruth) {
  const auto id = ask();
  pass(1s);
  approve(id);
  source_.exchanges.work();
  clock_.advance(3s);
  target_.exchanges.work();  // learns of the approval
  target_.exchanges.work();  // fetches
  ASSERT_EQ(states(id), "exported exported");
  source_.exchanges.cancel(id, "a mistake", "sam");
  pass(30s);
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(source_.exchanges.show(id).at("imported"), 3);
}

TEST_F(ExchangesTest, X5_CloneTypesAreApprovedByThePolicyOfTheSourceForThisTargetAlone) {
  source_.exchanges.peers().set_automatic(
      "target", {{"frequencies", {"one-time-clone"}}, {"specifications", {"cards"}}}, "sam");
  const auto id = ask({{"frequency", "one-time-clone"}});
  pass(30s);
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(show(id).at("approved_by"), "policy of sam");
  // It was good once, and never for anything else.
  const auto again = ask({{"frequency", "one-time-clone"}});
  const auto adhoc = ask();
  pass(70s);
  EXPECT_EQ(states(again), "pending pending");
  EXPECT_EQ(states(adhoc), "pending pending");
}

TEST_F(ExchangesTest, X7_AnApprovalMayStandForAllThatComeOfItsKind) {
  const auto adhoc = ask();
  const auto id = ask({{"frequency", "recurring-clone"}});
  pass(1s);
  EXPECT_EQ(code_of([&] {
              source_.exchanges.approve(adhoc, {{"always", true}}, "sam");
            }),
            Code::kUsage);
  EXPECT_EQ(source_.state(adhoc), "pending");
  source_.exchanges.approve(id, {{"always", true}}, "sam");
  pass(70s);
  EXPECT_EQ(states(id), "complete complete");
  const auto next = ask({{"frequency", "recurring-clone"}});
  pass(30s);
  EXPECT_EQ(states(next), "complete complete");
  EXPECT_EQ(states(adhoc), "pending pending");
}

TEST_F(ExchangesTest, X7_AnApprovalOfAKindIsAddedToWhatIsApprovedAlready) {
  source_.exchanges.peers().set_automatic(
      "target", {{"frequencies", {"one-time-clone"}}, {"specifications", {"pins"}}}, "kim");
  const auto id = ask({{"frequency", "recurring-clone"}});
  pass(1s);
  const Json approved = source_.exchanges.approve(id, {{"always", true}}, "sam");
  EXPECT_EQ(approved.at("automatic").at("specifications"), Json::array({"pins"}));
  EXPECT_EQ(approved.at("automatic").at("also").at(0).at("specifications"), Json::array({"cards"}));
  pass(70s);
  const auto pins = ask({{"frequency", "one-time-clone"}, {"specifications", {"pins"}}}),
             cards = ask({{"frequency", "recurring-clone"}}),
             neither = ask({{"frequency", "recurring-clone"}, {"specifications", {"pins"}}});
  pass(70s);
  EXPECT_EQ(states(pins), "complete complete");
  EXPECT_EQ(show(pins).at("approved_by"), "policy of kim");
  EXPECT_EQ(states(cards), "complete complete");
  EXPECT_EQ(show(cards).at("approved_by"), "policy of sam");
  EXPECT_EQ(states(neither), "pending pending") << "neither rule allows it";
  // What is set by its own command replaces all of it.
  source_.exchanges.peers().set_automatic("target", {{"frequencies", Json::array()}}, "sam");
  EXPECT_EQ(source_.exchanges.peers().list().at("peers").at(0).at("automatic"), nullptr);
}

TEST_F(ExchangesTest, X6_APolicyCoversItsSpecificationsUntilItsEnd) {
  source_.exchanges.peers().set_automatic("target",
                                          {{"frequencies", {"recurring-clone"}},
                                           {"specifications", {"cards"}},
                                           {"until", rfc3339(clock_.now() + 10min)}},
                                          "sam");
  const auto other = ask({{"frequency", "recurring-clone"}, {"specifications", {"cards", "pins"}}});
  const auto all =
      ask({{"frequency", "recurring-clone"}, {"specifications", Json::array()}, {"all", true}});
  const auto covered = ask({{"frequency", "recurring-clone"}});
  pass(30s);
  EXPECT_EQ(states(other), "pending pending");
  EXPECT_EQ(states(all), "pending pending");
  EXPECT_EQ(states(covered), "complete complete");
  pass(10min);
  const auto late = ask({{"frequency", "recurring-clone"}});
  pass(30s);
  EXPECT_EQ(states(late), "pending pending");
  EXPECT_EQ(
      code_of([&] {
        source_.exchanges.peers().set_automatic("target", {{"frequencies", {"adhoc"}}}, "sam");
      }),
      Code::kUsage);
}

TEST_F(ExchangesTest, X6_ACopyOfTheStoreWithAnotherIdentityInheritsNothing) {
  source_.exchanges.peers().set_automatic("target", {{"frequencies", {"recurring-clone"}}}, "sam");
  const auto pending = ask();
  pass(1s);
  // The clone has the rows, and its own keys.
  const auto copy = target_.folder.path() / "copy.db";
  source_.store.backup(copy.string());
  store::Store store({"sqlite://" + copy.string()});
  Recorder recorder(store, clock_);
  MemoryDoor door;
  MemoryLine line;
  Exchanges clone(door, line, store, recorder, clock_, source_.around);
  EXPECT_EQ(clone.list({}, {}).at("exchanges").size(), 0u);
  EXPECT_EQ(code_of([&] { clone.approve(pending, Json::object(), "sam"); }), Code::kUsage);
  EXPECT_EQ(clone.work(), 0u);
  EXPECT_EQ(clone.peers().list().at("peers").at(0).at("automatic"), nullptr);
  store::Exchange exchange;
  exchange.own = door.identity().kid.text();
  exchange.frequency = "recurring-clone";
  exchange.specifications = {"cards"};
  EXPECT_EQ(clone.peers().approver(clone.peers().find("target"), exchange), "");
  exchange.own = source_.identity();
  EXPECT_EQ(source_.exchanges.peers().approver(source_.exchanges.peers().find("target"), exchange),
            "policy of sam");
}

TEST_F(ExchangesTest, X5_ARecurringRequestComesAgainAtItsDateUntilItIsStopped) {
  source_.exchanges.peers().set_automatic("target", {{"frequencies", {"recurring-clone"}}}, "sam");
  const auto id = ask({{"frequency", "recurring-clone"}, {"period_hours", 1}});
  pass(59min);
  const auto count = [&] { return target_.exchanges.list({}, {}).at("exchanges").size(); };
  EXPECT_EQ(count(), 1u);
  source_.door.add("cards");
  pass(2min);
  EXPECT_EQ(count(), 2u);
  const Json second = target_.exchanges.list({}, {}).at("exchanges").at(0);
  EXPECT_EQ(second.at("state"), "complete");
  EXPECT_EQ(second.at("series"), id);
  EXPECT_EQ(second.at("imported"), 4);
  EXPECT_EQ(target_.door.imports, 4);  // those that were there are there
  target_.exchanges.stop(second.at("id"), "tess");
  pass(3h);
  EXPECT_EQ(count(), 2u);
  EXPECT_EQ(code_of([&] { target_.exchanges.stop(second.at("id"), "tess"); }), Code::kKeyState);
}

TEST_F(ExchangesTest, X5_DataAreReencryptedAfterTheImportWhenRequested) {
  std::vector<std::string> rekeyed;
  int faults = 1;
  target_.around.imported = [&](const std::string& specification) {
    if (faults-- > 0) throw Error(Code::kTokenFault, "later");
    rekeyed.push_back(specification);
  };
  run();
  EXPECT_TRUE(rekeyed.empty());
  const auto id = run({{"rekey", true}});
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(rekeyed, std::vector<std::string>{"cards"});
}

TEST_F(ExchangesTest, X4_ATokenThatCannotImportKeysIsReportedBeforeAnythingIsSent) {
  target_.door.missing = "CKM_AES_KEY_GEN";
  line_.last.clear();
  EXPECT_EQ(code_of([&] { ask(); }), Code::kUnsupported);
  EXPECT_EQ(line_.last, "");
  EXPECT_EQ(target_.exchanges.list({}, {}).at("exchanges").size(), 0u);
  const Json found =
      target_.exchanges.check({{"peer", "source"}, {"specifications", {"cards", "gone"}}});
  EXPECT_EQ(found.at("passed"), false);
  std::vector<std::string> codes;
  for (const auto& each : found.at("checks")) codes.push_back(each.at("code"));
  EXPECT_EQ(codes,
            (std::vector<std::string>{"", "UNSUPPORTED", "", "", "", "", "", "KEY_NOT_PRESENT"}));
  target_.door.missing.clear();
  EXPECT_EQ(
      target_.exchanges.check({{"peer", "source"}, {"specifications", {"cards"}}}).at("passed"),
      true);
  source_.door.missing = "CKM_AES_KEY_WRAP_KWP";
  const Json refused = target_.exchanges.check({{"peer", "source"}, {"specifications", {"cards"}}});
  EXPECT_EQ(refused.at("checks").at(3).at("code"), "UNSUPPORTED");
  EXPECT_THAT(refused.at("checks").at(3).at("text").get<std::string>(),
              HasSubstr("CKM_AES_KEY_WRAP_KWP"));
}

TEST_F(ExchangesTest, X4_TheCheckAsksThePolicyOfBothAgentsAndTheStateOfTheKeys) {
  const auto failed = [&] {
    std::string text;
    const Json checks =
        target_.exchanges.check({{"peer", "source"}, {"specifications", {"cards"}}}).at("checks");
    for (const auto& each : checks) {
      if (each.at("passed") == false)
        text += each.at("code").get<std::string>() + " " + each.at("what").get<std::string>() +
                ": " + each.at("text").get<std::string>() + "\n";
    }
    return text;
  };
  EXPECT_EQ(failed(), "");
  source_.door.denied = {"export " + source_.door.data.at(0).kid + " " + target_.identity()};
  EXPECT_THAT(failed(), HasSubstr("DENIED the source's agent exports keys of cards"));
  EXPECT_THAT(failed(),
              HasSubstr("keyagent why export --peer=" + target_.identity() + " data.cards"));
  source_.door.denied.clear();
  target_.door.denied = {"import data.cards " + source_.identity()};
  EXPECT_THAT(failed(), HasSubstr("DENIED this instance's agent imports keys of cards"));
  target_.door.denied.clear();
  for (auto& key : source_.door.data) key.ready = false;
  EXPECT_THAT(failed(), HasSubstr("KEY_STATE the source has keys of cards"));
}

TEST_F(ExchangesTest, X6_WhatTheSpecificationsPolicyForbidsIsRefusedThere) {
  source_.around.may_exchange = [](const std::string& specification, const std::string& who) {
    EXPECT_EQ(who, "sam");
    if (specification == "pins") throw Error(Code::kDenied, "not for " + who);
  };
  const auto id = run({{"specifications", {"cards", "pins"}}});
  EXPECT_EQ(states(id), "complete complete");
  EXPECT_EQ(show(id).at("imported"), 3);
  EXPECT_EQ(show(id).at("total"), 4);
}

}  // namespace
}  // namespace keyagent::instance
