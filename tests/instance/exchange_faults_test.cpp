// SPDX-License-Identifier: Apache-2.0
// X7 and X10 with two real instances and their tokens: many keys in one approval, and a token that
// fails while keys come in.

#include <gmock/gmock.h>

#include "tests/instance/exchange_pair.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class ExchangeFaults : public ExchangePair {
 protected:
  static void SetUpTestSuite() {
    start();
    introduce();
    target_->add_user("root", "admin");
    source_->add_user("root", "admin");
    for (auto* each : {source_, target_}) ASSERT_EQ(each->log_in("root").status, 0);
    target_->agent.stop();
    target_->agent.shimmed = true;
    target_->agent.start();
  }
  static void TearDownTestSuite() { end(); }

  static int events_of(const InstanceProcess& at, const std::string& action,
                       const std::string& subject, const std::string& outcome) {
    const Json all = at.json("root", "events --count 1000").at("events");
    return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const Json& each) {
      return each.at("action") == action && each.at("outcome") == outcome &&
             (subject.empty() || each.at("subject") == subject);
    }));
  }
  static CommandResult wait(const std::string& id) {
    return target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 100");
  }
};

TEST_F(ExchangeFaults, X4_WhatIsMissingIsNamedBeforeAnythingIsSent) {
  make_key("here");
  make_key("stays", "");
  const auto checked = [&](const std::string& words) {
    const auto result = target_->keyagent("crypto", "--json exchange check source " + words);
    return Json::parse(result.output, nullptr, false).at("checks");
  };
  const Json good = checked("here");
  ASSERT_GE(good.size(), 4u);
  for (const auto& each : good) EXPECT_EQ(each.at("passed"), true) << each;
  EXPECT_EQ(target_->keyagent("crypto", "exchange check source here").status, 0);
  const Json bad = checked("here stays nowhere");
  EXPECT_EQ(std::count_if(bad.begin(), bad.end(),
                          [](const Json& each) { return each.at("passed") == false; }),
            2)
      << bad.dump(2);
  EXPECT_THAT(bad.dump(), testing::AllOf(HasSubstr("stays"), HasSubstr("nowhere")));
  // What the source's agent decides: its policy no longer names this target.
  source_->agent.write("policy.yml", source_->agent.policy, 0644);
  source_->reload();
  const auto refused = target_->keyagent("crypto", "exchange check source here");
  EXPECT_EQ(refused.status, 3);
  EXPECT_THAT(refused.output, HasSubstr("FAIL  the source's agent exports keys of here"));
  std::smatch cure;
  const std::regex command("keyagent (why export --peer=\\S+ data.here)");
  ASSERT_TRUE(std::regex_search(refused.output, cure, command)) << refused.output;
  EXPECT_THAT(try_command("KEYAGENT_SOCKET=" + source_->agent.socket().string() + " " KEYAGENT " " +
                          cure[1].str() + " 2>&1")
                  .output,
              HasSubstr("denied: "));
  source_->allow_exchange_with(identity(*target_));
  EXPECT_EQ(target_->keyagent("crypto", "exchange check source here").status, 0);
  // The role, before its instance asks anybody.
  EXPECT_EQ(target_->keyagent("ops", "exchange check source here").status, 3);
  EXPECT_EQ(target_->json("crypto", "exchange list").at("exchanges").size(), 0u);
  EXPECT_EQ(source_->json("crypto", "exchange list").at("exchanges").size(), 0u);
}

TEST_F(ExchangeFaults, X7_ThirtySixSpecificationsAreOneApprovalThatMayBeRepeated) {
  std::string words;
  for (int i = 0; i < 36; ++i) {
    const std::string name = "bulk" + std::to_string(i);
    make_key(name);
    words += name + " ";
  }
  const auto id = ask(words + "nowhere");
  ASSERT_EQ(approve(id).status, 0);
  const auto again = source_->keyagent("crypto", "exchange approve " + id);
  EXPECT_EQ(again.status, 0) << again.output;
  const auto waited = wait(id);
  const Json here = show(*target_, id), there = show(*source_, id);
  EXPECT_EQ(there.at("state"), here.at("state")) << waited.output;
  EXPECT_EQ(here.at("transcript"), there.at("transcript"));
  int imported = 0, missing = 0;
  for (const auto& each : here.at("keys")) {
    imported += each.at("outcome") == "imported" ? 1 : 0;
    missing += each.at("outcome") == "not_found" ? 1 : 0;
  }
  EXPECT_EQ(imported, 36) << here.dump(2);
  EXPECT_EQ(missing, 1);
  EXPECT_EQ(source_->keyagent("crypto", "exchange approve " + id).status, 0) << "after its end too";
  EXPECT_EQ(events_of(*source_, "exchange.approve", id, "done"), 1);
  const Json all = source_->json("root", "events --count 1000").at("events");
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Json& each) {
    return each.at("action") == "exchange.approve" && each.at("subject") == id &&
           each.at("actor") == "user crypto";
  })) << "who approved it";
}

TEST_F(ExchangeFaults, X10_ATokenThatFailsIsTriedAgainAndTheKeyComesOnce) {
  const auto kid = make_key("faulty");
  const auto envelope = seal("faulty", "4111");
  target_->agent.set_faults("C_UnwrapKey:from=1:rv=0x30");
  const auto id = ask("faulty");
  ASSERT_EQ(approve(id).status, 0);
  const auto alarms = [&] { return events_of(*target_, "exchange.fault", id, "alarm"); };
  EXPECT_TRUE(wait_until([&] { return alarms() == 1; }, std::chrono::seconds(120)))
      << target_->json("root", "events --count 1000").dump(1) << read_text(target_->log());
  target_->agent.set_faults("");
  EXPECT_EQ(wait(id).status, 0) << read_text(target_->log());
  EXPECT_EQ(show(*target_, id).at("keys").at(0).at("outcome"), "imported");
  EXPECT_EQ(show(*target_, id).at("keys").at(0).at("kid"), kid);
  EXPECT_EQ(open(*target_, envelope), "4111");
  EXPECT_EQ(alarms(), 1) << "one for all its tries";
}

}  // namespace
}  // namespace keyagent::test
