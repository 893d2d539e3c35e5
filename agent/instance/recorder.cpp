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

void Recorder::record(Outcome outcome, const std::string& actor, const std::string& action,
                      const std::string& subject, const std::string& text) {
  const auto event = make(outcome, actor, action, subject, text);
  store_.add_event(event);
  say(event);
}

}  // namespace keyagent::instance
