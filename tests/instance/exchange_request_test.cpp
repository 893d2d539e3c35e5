// SPDX-License-Identifier: Apache-2.0
// The table of requests for keys: whole, by walks over it, and as two ends that lose messages.

#include "agent/instance/exchange/exchange_request.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <sstream>
#include <vector>

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;
using State = ExchangeState;
using Event = ExchangeEvent;
using Side = ExchangeSide;

constexpr int kEvents = 12;

ExchangeFacts facts_of(unsigned bits) {
  return {(bits & 1) != 0 ? Side::kSource : Side::kTarget, (bits & 2) != 0, (bits & 4) != 0,
          (bits & 8) != 0, (bits & 16) != 0};
}

// What a cell of the table below means; "-" is: not from there. "!": next at once.
std::optional<State> meant(std::string cell, const ExchangeFacts& facts) {
  const bool source = facts.side == Side::kSource;
  if (cell == "-") return std::nullopt;
  if (cell == "late")
    return source && facts.exported ? std::optional(State::kImported) : std::nullopt;
  if (cell == "retried" && source) return std::nullopt;
  if (cell == "retried") return facts.verified ? State::kVerified : State::kPending;
  if (cell == "closed") return facts.verified ? std::optional(State::kComplete) : std::nullopt;
  if (cell == "anew" && !(source && facts.approved)) return std::nullopt;
  if (cell == "anew") return State::kApproved;
  if (cell == "anew/p") return source && facts.approved ? State::kApproved : State::kPending;
  return exchange_state_of(cell).value();
}

// The transcript goes when what it reports is done again.
bool know(const ExchangeFacts& facts, State state) {
  return state == State::kVerified ||
         (facts.verified && (state == State::kComplete || has_ended(state)));
}

constexpr const char* kStateTable = R"(
event   pending   approved  exported  imported verified complete rejected expired failed    cancelled
approve approved  approved  exported  imported verified complete -        -       -         -
reject  rejected  -         -         -        -        -        rejected -       -         -
cancel  cancelled cancelled cancelled -        -        -        -        -       cancelled cancelled
export  -         exported  exported  -        -        -        -        -       -         -
import  -         -         imported  imported verified complete -        late    -         late
verify  -         -         -         verified verified complete -        -       -         -
finish  -         -         -         -        complete complete -        -       closed    -
fail    failed    failed    failed    failed   failed   -        -        -       failed    -
fault   pending   approved  exported  imported verified -        -        -       failed    cancelled
expire  expired   expired   expired   expired  -        -        -        -       -         -
retry   pending   approved  exported  imported verified -        -        -       retried   -
again   -         anew      anew      anew     anew     -        -        -       anew/p    -
)";

TEST(ExchangeRequest, X8_EveryEventInEveryStateLeadsWhereItMust) {
  std::istringstream lines(kStateTable);
  std::string line, word;
  std::getline(lines, line);
  std::getline(lines, line);
  std::vector<State> states;
  std::istringstream head(line);
  head >> word;
  while (head >> word) states.push_back(exchange_state_of(word).value());
  ASSERT_EQ(states.size(), 10u);
  int event = 0;
  for (; std::getline(lines, line); ++event) {
    std::istringstream cells(line);
    std::string name, cell;
    cells >> name;
    EXPECT_EQ(name_of(static_cast<Event>(event)), name);
    for (const auto state : states) {
      cells >> cell;
      for (unsigned bits = 0; bits < 32; ++bits) {
        const auto step = after(state, static_cast<Event>(event), facts_of(bits));
        EXPECT_EQ(step ? std::optional(step->to) : std::nullopt, meant(cell, facts_of(bits)))
            << name << " in " << name_of(state) << ", facts " << bits;
      }
    }
  }
  EXPECT_EQ(event, kEvents);
  EXPECT_EQ(name_of(static_cast<Event>(event)), "?");  // the table above names them all
}

TEST(ExchangeRequest, X8_FailuresAreAlarmsFaultsChangeNothingAndARetryIsNow) {
  for (int s = 0; s < 10; ++s) {
    for (int e = 0; e < kEvents; ++e) {
      const auto from = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      const auto step = after(from, event, {Side::kSource, true, true, false, false});
      if (!step) continue;
      EXPECT_EQ(step->alarm, event == Event::kFail && from != State::kFailed) << s << " " << e;
      if (event == Event::kFault) EXPECT_EQ(step->to, from);
      if (event == Event::kRetry) EXPECT_TRUE(step->now);
    }
  }
}

// One end, whatever is said to it in whatever order.
TEST(ExchangeRequest, X8_NoWalkReachesAStateWithoutWhatMustComeBefore) {
  std::mt19937 random(20261121);
  for (int walk = 0; walk < 100'000; ++walk) {
    ExchangeFacts facts;
    facts.side = random() % 2 == 0 ? Side::kSource : Side::kTarget;
    auto state = State::kPending;
    std::set<State> been{state};
    for (int i = 0; i < 40; ++i) {
      const auto event = static_cast<Event>(random() % kEvents);
      const auto step = after(state, event, facts);
      if (!step) continue;
      const auto from = state;
      state = step->to;
      facts.approved |= state == State::kApproved;
      facts.exported |= state == State::kExported;
      if (state != from) facts.verified = know(facts, state);
      const auto came = [&](State before) { return been.contains(before); };
      if (state == State::kExported) ASSERT_TRUE(came(State::kApproved));
      if (state == State::kImported) ASSERT_TRUE(came(State::kExported));
      if (state == State::kVerified) ASSERT_TRUE(came(State::kImported));
      if (state == State::kComplete) ASSERT_TRUE(came(State::kVerified));
      if (from == State::kComplete || from == State::kRejected) ASSERT_EQ(state, from);
      if (from == State::kExpired) ASSERT_EQ(state, State::kImported);
      if (facts.side == Side::kTarget && has_ended(from) && from != State::kFailed)
        ASSERT_EQ(state, from);
      if (has_ended(from) && from != state && !has_ended(state) && state != State::kImported)
        ASSERT_TRUE(event == Event::kRetry || event == Event::kAgain);
      // What has ended does nothing more, but for telling so once.
      facts.told = true;
      ASSERT_EQ(work_of(state, facts) == ExchangeWork::kNone,
                has_ended(state) || (facts.side == Side::kSource && state != State::kApproved));
      facts.told = false;
      been.insert(state);
    }
  }
}

// Both ends: what the target does automatically, over a transport that loses requests and answers,
// while users and faults interfere.
struct Ends {
  std::mt19937 random;
  State source = State::kPending, target = State::kPending;
  ExchangeFacts of_source{Side::kSource}, of_target{Side::kTarget};
  bool known = false;    // the source has the request
  bool retried = false;  // the target begins again
  int wild;              // of 100: how often something is lost or someone meddles

  bool chance() { return static_cast<int>(random() % 100) < wild; }
  void happen(State& state, ExchangeFacts& facts, Event event) {
    const auto step = after(state, event, facts);
    if (!step) return;
    const auto from = state;
    state = step->to;
    facts.approved |= state == State::kApproved;
    facts.exported |= state == State::kExported;
    if (state != from) facts.verified = know(facts, state);
    if (state != from) facts.told = false;
    if (&state == &target && state != from) retried = event == Event::kRetry;
  }
  void meddle() {
    static constexpr Event kMeddling[] = {Event::kCancel, Event::kRetry,  Event::kFault,
                                          Event::kFail,   Event::kExpire, Event::kReject};
    const auto event = kMeddling[random() % std::size(kMeddling)];
    if (random() % 2 == 0) {
      if (known) happen(source, of_source, event);
    } else if (event != Event::kReject) {  // a target rejects nothing
      happen(target, of_target, event);
    }
  }
  // The target learns how it stands at the source.
  void learn() {
    switch (source) {
      case State::kRejected:
        return happen(target, of_target, Event::kReject);
      case State::kCancelled:
        return happen(target, of_target, Event::kCancel);
      case State::kFailed:
        return happen(target, of_target, Event::kFail);
      case State::kExpired:
        return happen(target, of_target, Event::kExpire);
      case State::kPending:
        return;
      default:
        return happen(target, of_target, Event::kApprove);
    }
  }
  void turn() {
    if (work_of(source, of_source) == ExchangeWork::kExport)
      happen(source, of_source, chance() ? Event::kFault : Event::kExport);
    const auto work = work_of(target, of_target);
    if (work == ExchangeWork::kNone) return;
    if (work == ExchangeWork::kImport)
      return happen(target, of_target, chance() ? Event::kFault : Event::kImport);
    if (chance()) return happen(target, of_target, Event::kFault);  // the request is lost
    if (work == ExchangeWork::kAsk) known = true;
    if (work == ExchangeWork::kAsk && retried) happen(source, of_source, Event::kAgain);
    if (work == ExchangeWork::kReport) {
      happen(source, of_source, Event::kImport);
      happen(source, of_source, Event::kVerify);
    }
    if (work == ExchangeWork::kFinish) happen(source, of_source, Event::kFinish);
    if (work == ExchangeWork::kTell && known)
      happen(source, of_source, target == State::kFailed ? Event::kFail : Event::kCancel);
    if (chance()) return happen(target, of_target, Event::kFault);  // the answer is
    take(work);
  }
  void take(ExchangeWork work) {
    if (work == ExchangeWork::kTell) of_target.told = true;
    if (work == ExchangeWork::kAsk || work == ExchangeWork::kFetch) learn();
    if (work == ExchangeWork::kFetch && source == State::kExported)
      happen(target, of_target, Event::kExport);
    if (work == ExchangeWork::kReport && source >= State::kVerified && source <= State::kComplete)
      happen(target, of_target, Event::kVerify);
    if (work == ExchangeWork::kReport && has_ended(source) && source != State::kComplete)
      happen(target, of_target, Event::kFail);
    if (work == ExchangeWork::kFinish && source == State::kComplete)
      happen(target, of_target, Event::kFinish);
    if (work == ExchangeWork::kFinish && source == State::kFailed)
      happen(target, of_target, Event::kFail);
  }
};

TEST(ExchangeRequest, X8_BothEndsAgreeAtTheEndWhateverIsLostBetweenThem) {
  std::set<State> ends;
  for (unsigned seed = 0; seed < 20'000; ++seed) {
    Ends both{.random = std::mt19937(seed), .wild = static_cast<int>(seed % 60)};
    for (int i = 0; i < 60; ++i) {
      if (both.random() % 8 == 0 && both.known)
        both.happen(both.source, both.of_source, Event::kApprove);
      if (both.chance() && both.random() % 10 == 0) both.meddle();
      both.turn();
    }
    // Then the line is good, and no one meddles.
    both.wild = 0;
    if (both.known) both.happen(both.source, both.of_source, Event::kApprove);
    for (int i = 0; i < 10; ++i) both.turn();
    if (both.known) both.happen(both.source, both.of_source, Event::kApprove);
    for (int i = 0; i < 10; ++i) both.turn();
    ASSERT_TRUE(has_ended(both.target))
        << seed << ": target " << name_of(both.target) << ", source " << name_of(both.source);
    // Complete at the target: complete at the source, and nothing else.
    if (both.target == State::kComplete) ASSERT_EQ(both.source, State::kComplete) << seed;
    if (both.source == State::kRejected) ASSERT_NE(both.target, State::kComplete) << seed;
    ends.insert(both.target);
  }
  EXPECT_EQ(ends.size(), 5u);  // each end was reached
}

TEST(ExchangeRequest, X10_WaitsAreSecondsFirstAndAnHourAtMost) {
  EXPECT_EQ(exchange_wait(1, 0), 800ms);
  EXPECT_EQ(exchange_wait(1, 255), 1200ms);
  EXPECT_EQ(exchange_wait(3, 255), 4800ms);
  EXPECT_EQ(exchange_wait(1000, 255), 72min);
  EXPECT_LT(exchange_wait(1, 255) + exchange_wait(2, 255) + exchange_wait(3, 255), 1min);
  for (std::int64_t faults = 1; faults < 20; ++faults)
    EXPECT_LE(exchange_wait(faults, 0), exchange_wait(faults + 1, 0));
  EXPECT_EQ(exchange_poll(0), 2s);
  EXPECT_EQ(exchange_poll(100), 1min);
}

TEST(ExchangeRequest, X8_APendingOrUnsuccessfulRequestNamesTheNextStep) {
  const ExchangeFacts target{Side::kTarget, true, true, true};
  for (const auto state :
       {State::kRejected, State::kExpired, State::kFailed, State::kCancelled, State::kPending})
    EXPECT_FALSE(next_step(state, target, Code::kDenied).empty()) << name_of(state);
  EXPECT_TRUE(next_step(State::kComplete, target, Code::kOk).empty());
  EXPECT_NE(next_step(State::kFailed, target, Code::kIntegrity),
            next_step(State::kFailed, target, Code::kDenied));
  const ExchangeFacts source{Side::kSource, true};
  for (const auto code : {Code::kDenied, Code::kKeyLost, Code::kTokenFault, Code::kUsage})
    EXPECT_NE(next_step(State::kFailed, source, code)
                  .find("at the target: keyagent instance exchange retry"),
              std::string::npos);
}

}  // namespace
}  // namespace keyagent::instance
