// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/cryptoperiod.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "agent/keys/clock_watch.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;
constexpr auto kDay = std::chrono::hours(24);
const WallTime kBirth = parse_rfc3339("2026-01-01T00:00:00.000Z");

KeyRecord key_of(Purpose purpose, const std::string& name = "one") {
  KeyRecord key;
  key.name = KeyName(name);
  key.kid = Kid(to_base64url(sha256(as_bytes(name))));
  key.purpose = purpose;
  key.activated = key.changed = key.created = kBirth;
  return key;
}

std::vector<Due> due_at(const KeyRecord& key, const Periods& periods, WallTime now) {
  return due({key}, {}, periods, now);
}

TEST(Cryptoperiod, R10_DefaultsAreThoseOfSp80057) {
  EXPECT_EQ(default_cryptoperiod(Purpose::kTransport).active, 90 * kDay);
  EXPECT_EQ(default_cryptoperiod(Purpose::kTransport).drain, 30 * kDay);
  EXPECT_EQ(default_cryptoperiod(Purpose::kAuth).active, 60 * kDay);
  EXPECT_EQ(default_cryptoperiod(Purpose::kStorage).active, 365 * kDay);
}

TEST(Cryptoperiod, R10_ARekeyIsDueWithinTheJitterAndNeverLate) {
  const Periods periods;
  std::set<WallTime> lots;
  for (int i = 0; i < 200; ++i) {
    const auto key = key_of(Purpose::kTransport, "key" + std::to_string(i));
    const auto when = next_rekey(key, periods).value();
    EXPECT_LE(when, kBirth + 90 * kDay);
    EXPECT_GE(when, kBirth + 81 * kDay);
    EXPECT_EQ(when, next_rekey(key, periods));
    lots.insert(when);
  }
  EXPECT_GT(lots.size(), 150u);
}

TEST(Cryptoperiod, R10_WarnsBeforeAndRekeysAfter) {
  Periods periods;
  periods.jitter_percent = 0;
  const auto key = key_of(Purpose::kTransport);
  EXPECT_TRUE(due_at(key, periods, kBirth + 82 * kDay).empty());
  EXPECT_EQ(due_at(key, periods, kBirth + 84 * kDay).at(0).kind, Due::Kind::kWarn);
  EXPECT_EQ(due_at(key, periods, kBirth + 90 * kDay).at(0).kind, Due::Kind::kRekey);
}

TEST(Cryptoperiod, AKeyThatOthersHoldWaitsForAPerson) {
  Periods periods;
  const auto key = key_of(Purpose::kSign);
  const auto kind_at = [&](auto when) { return due_at(key, periods, kBirth + when).at(0).kind; };
  EXPECT_EQ(kind_at(365 * kDay - 1h), Due::Kind::kOverdue);
  EXPECT_EQ(kind_at(365 * kDay), Due::Kind::kGrace);
  EXPECT_EQ(kind_at(372 * kDay), Due::Kind::kExpired);
  EXPECT_EQ(due_at(key, periods, kBirth + 400 * kDay).size(), 1u);
}

TEST(Cryptoperiod, Fault165_KeysThatOthersDependOnAreNotRefused) {
  for (const auto purpose : {Purpose::kIdentity, Purpose::kAudit}) {
    EXPECT_FALSE(refused_from(key_of(purpose), {})) << name_of(purpose);
    EXPECT_FALSE(due_at(key_of(purpose), {}, kBirth + 4000 * kDay).empty()) << name_of(purpose);
  }
  // Agents pinned these: they have no period.
  for (const auto purpose : {Purpose::kCa, Purpose::kConfirm}) {
    EXPECT_FALSE(refused_from(key_of(purpose), {})) << name_of(purpose);
    EXPECT_TRUE(due_at(key_of(purpose), {}, kBirth + 4000 * kDay).empty()) << name_of(purpose);
  }
}

TEST(Cryptoperiod, ANameOverridesItsPurpose) {
  Periods periods;
  periods.by_purpose[Purpose::kSign] = {10 * kDay, 0ms, 0ms, true};
  periods.by_name["one"] = [](auto) { return Cryptoperiod{0ms, 0ms, 0ms, true}; };
  EXPECT_TRUE(due_at(key_of(Purpose::kSign), periods, kBirth + 400 * kDay).empty());
  EXPECT_EQ(due_at(key_of(Purpose::kSign, "two"), periods, kBirth + 10 * kDay).at(0).kind,
            Due::Kind::kRekey);
}

TEST(Cryptoperiod, R16_OnlyAKeyUnusedForItsIdleTimeIsSuspendedAndItIsSaidAWeekBefore) {
  Periods periods;
  periods.by_name["one"] = [](auto) { return Cryptoperiod{0ms, 0ms, 30 * kDay, true}; };
  const auto key = key_of(Purpose::kTransport);
  EXPECT_TRUE(due_at(key, periods, kBirth + 22 * kDay).empty());
  EXPECT_EQ(due_at(key, periods, kBirth + 24 * kDay).at(0).kind, Due::Kind::kIdle);
  EXPECT_EQ(due_at(key, periods, kBirth + 29 * kDay).at(0).kind, Due::Kind::kIdle);
  EXPECT_EQ(due_at(key, periods, kBirth + 31 * kDay).at(0).kind, Due::Kind::kSuspend);
  EXPECT_TRUE(due({key}, {{key.kid, kBirth + 20 * kDay}}, periods, kBirth + 31 * kDay).empty());
}

TEST(Cryptoperiod, OnlyActiveKeysAreDue) {
  for (const auto state : {KeyState::kStaged, KeyState::kSuspended, KeyState::kDeactivated,
                           KeyState::kCompromised, KeyState::kDestroyed}) {
    auto key = key_of(Purpose::kTransport);
    key.state = state;
    EXPECT_TRUE(due_at(key, {}, kBirth + 400 * kDay).empty()) << name_of(state);
  }
}

TEST(ClockWatch, Fault131_AJumpStopsTimeUntilTheClocksWentEvenlyForADay) {
  SteadyTime steady{};
  WallTime wall = kBirth;
  ClockWatch watch({}, wall, steady);
  EXPECT_EQ(watch.look(wall += 10s, steady += 10s), 10s);
  for (const auto jump : {std::chrono::hours(24 * 400), -std::chrono::hours(24 * 3650)}) {
    wall += jump;
    EXPECT_EQ(watch.look(wall += 1s, steady += 1s), 0s);
    EXPECT_FALSE(watch.trusted());
    EXPECT_EQ(watch.look(wall += 1h, steady += 1h), 0s);
    for (int hour = 0; hour < 23; ++hour) watch.look(wall += 1h, steady += 1h);
    EXPECT_TRUE(watch.trusted());
    EXPECT_EQ(watch.look(wall += 5s, steady += 5s), 5s);
  }
}

TEST(ClockWatch, Fault131_AStalledSteadyClockIsAJumpToo) {
  ClockWatch watch({}, kBirth, SteadyTime{});
  EXPECT_EQ(watch.look(kBirth + 1h, SteadyTime{}), 0s);
  EXPECT_FALSE(watch.trusted());
}

TEST(ClockWatch, Fault131_AStartInThePastOrFarAheadIsNotTrustedUntilAccepted) {
  for (const auto start : {kBirth - 1h, kBirth + 31 * kDay}) {
    ClockWatch watch(kBirth, start, SteadyTime{});
    EXPECT_FALSE(watch.trusted());
    EXPECT_THAT(watch.fault(), testing::HasSubstr("2026-01-01"));
    watch.accept();
    EXPECT_EQ(watch.look(start + 5s, SteadyTime{} + 5s), 5s);
  }
  EXPECT_TRUE(ClockWatch(kBirth, kBirth + 29 * kDay, SteadyTime{}).trusted());
}

TEST(ClockWatch, AClockThatIsSlewedIsTrusted) {
  ClockWatch watch({}, kBirth, SteadyTime{});
  EXPECT_EQ(watch.look(kBirth + 3700s, SteadyTime{} + 3600s), 3600s);
}

}  // namespace
}  // namespace keyagent::keys
