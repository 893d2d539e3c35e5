// SPDX-License-Identifier: Apache-2.0
#include "agent/link/alarms.h"

#include <gmock/gmock.h>

#include "agent/base/error.h"

namespace keyagent::link {
namespace {

using ::testing::HasSubstr;

keys::KeyEvent alarm(const std::string& key) {
  keys::KeyEvent happening;
  happening.weight = keys::KeyEvent::Weight::kAlarm;
  happening.what = "key.suspend";
  happening.key = key;
  happening.detail = "the token gave a signature that does not verify";
  return happening;
}

TEST(Alarms, Fault163_AnAlarmReachesTheInstanceAsSoonAsThereIsALink) {
  Alarms alarms;
  alarms.add(alarm("data"));
  EXPECT_THROW(alarms.deliver([](const auto&) { throw Error(Code::kPeer, "no link"); }), Error);
  std::vector<nlohmann::json> sent;
  const auto send = [&](const nlohmann::json& message) { sent.push_back(message); };
  alarms.deliver(send);
  alarms.deliver(send);
  ASSERT_EQ(sent.size(), 1u) << "what was not sent waits, what was sent is not repeated";
  EXPECT_EQ(sent[0].at("type"), "event");
  EXPECT_EQ(sent[0].at("outcome"), "alarm");
  EXPECT_EQ(sent[0].at("action"), "key.suspend");
  EXPECT_EQ(sent[0].at("subject"), "data");
}

TEST(Alarms, OfTooManyTheOldestAreCounted) {
  Alarms alarms;
  for (int i = 0; i < 70; ++i) alarms.add(alarm("key-" + std::to_string(i)));
  std::vector<nlohmann::json> sent;
  alarms.deliver([&](const nlohmann::json& message) { sent.push_back(message); });
  ASSERT_EQ(sent.size(), 64u);
  EXPECT_EQ(sent[0].at("subject"), "key-6");
  EXPECT_THAT(sent[0].at("text").get<std::string>(), HasSubstr("6 earlier alarms"));
}

}  // namespace
}  // namespace keyagent::link
