// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/recorder.h"

#include <algorithm>

#include "agent/base/address_principal.h"
#include "agent/base/log.h"
#include "agent/instance/common/limits.h"
#include "agent/store/events.h"

namespace keyagent::instance {
namespace {

std::string name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::kDone:
      return "done";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kAlarm:
      break;
  }
  return "alarm";
}

constexpr char kBetween = '\n';  // in no actor or action
constexpr std::size_t kMaxSummaries = 32;

}  // namespace

Recorder::Recorder(store::Store& store, const Clock& clock, std::int64_t per_hour)
    : store_(store),
      clock_(clock),
      sources_(clock, hourly(per_hour)),
      strangers_(clock, hourly(per_hour * 10)) {}

store::Event Recorder::make(Outcome outcome, const std::string& actor, const std::string& action,
                            const std::string& subject, const std::string& text) const {
  store::Event event;
  event.at = clock_.now();
  event.actor = actor;
  event.action = action;
  event.subject = subject;
  event.outcome = name_of(outcome);
  event.text = text;
  return event;
}

void Recorder::say(const store::Event& event) {
  const auto level = event.outcome == "done"    ? LogLevel::kInfo
                     : event.outcome == "alarm" ? LogLevel::kError
                                                : LogLevel::kWarning;
  log(level, "instance",
      event.actor + ": " + event.action + " " + event.subject + ": " + event.outcome +
          (event.text.empty() ? "" : ": " + event.text));
}

void Recorder::add(Outcome outcome, const std::string& actor, const std::string& action,
                   const std::string& subject, const std::string& text) {
  const auto event = make(outcome, actor, action, subject, text);
  store_.events().add(event);
  say(event);
}

// Events without an authenticated actor are attributed to the address, and have a total budget as
// well.
bool Recorder::admit(const std::string& actor, const std::string& action, Outcome outcome) {
  const auto source = principal_of_address(actor);
  if (!sources_.take(source + kBetween + action + kBetween + name_of(outcome))) return false;
  return source == actor || strangers_.take("all addresses").allowed;
}

void Recorder::record(Outcome outcome, const std::string& actor, const std::string& action,
                      const std::string& subject, const std::string& text) {
  if (outcome == Outcome::kDone || admit(actor, action, outcome))
    add(outcome, actor, action, subject, text);
}

void Recorder::record_repeatable(Outcome outcome, const std::string& actor,
                                 const std::string& action, const std::string& subject,
                                 const std::string& text) {
  // The agent chooses the action: one budget for all of them.
  if (admit(actor, "event", outcome)) add(outcome, actor, action, subject, text);
}

void Recorder::summarize() {
  auto refusals = sources_.take_refusals();
  std::sort(refusals.begin(), refusals.end(),
            [](const auto& a, const auto& b) { return a.count > b.count; });
  RateBudget::Refusals others{"(others)", 0};
  for (const auto& each : strangers_.take_refusals()) others.count += each.count;
  for (std::size_t i = 0; i < refusals.size(); ++i) {
    if (i >= kMaxSummaries || refusals[i].principal == others.principal)
      others.count += refusals[i].count;
  }
  std::erase_if(refusals, [&](const auto& each) { return each.principal == others.principal; });
  refusals.resize(std::min(refusals.size(), kMaxSummaries));
  if (others.count > 0) refusals.push_back(others);
  for (const auto& each : refusals) {
    const auto first = each.principal.find(kBetween), second = each.principal.rfind(kBetween);
    store::Event event = make(Outcome::kRefused, each.principal.substr(0, first), "events", "",
                              std::to_string(each.count) +
                                  " more were counted and not recorded one by one "
                                  "(limits.events-per-source)");
    if (first != std::string::npos) {
      event.action = each.principal.substr(first + 1, second - first - 1);
      event.outcome = each.principal.substr(second + 1);
    }
    event.repeats = static_cast<std::int64_t>(each.count);
    store_.events().add(event);
    say(event);
  }
}

}  // namespace keyagent::instance
