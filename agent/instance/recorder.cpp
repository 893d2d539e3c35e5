#include "agent/instance/recorder.h"

#include "agent/base/log.h"

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

}  // namespace

void Recorder::record(Outcome outcome, const std::string& actor, const std::string& action,
                      const std::string& subject, const std::string& text) {
  store::Event event;
  event.at = clock_.now();
  event.actor = actor;
  event.action = action;
  event.subject = subject;
  event.outcome = name_of(outcome);
  event.text = text;
  store_.add_event(event);
  const auto level = outcome == Outcome::kDone    ? LogLevel::kInfo
                     : outcome == Outcome::kAlarm ? LogLevel::kError
                                                  : LogLevel::kWarning;
  log(level, "instance",
      actor + ": " + action + " " + subject + ": " + event.outcome +
          (text.empty() ? "" : ": " + text));
}

}  // namespace keyagent::instance
