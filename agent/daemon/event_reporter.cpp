// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/event_reporter.h"

#include <unistd.h>

#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::daemon {
namespace {

LogLevel level_of(keys::KeyEvent::Weight weight) {
  switch (weight) {
    case keys::KeyEvent::Weight::kInfo:
      return LogLevel::kInfo;
    case keys::KeyEvent::Weight::kWarning:
      return LogLevel::kWarning;
    case keys::KeyEvent::Weight::kAlarm:
      break;
  }
  return LogLevel::kError;
}

}  // namespace

void EventReporter::token(pkcs11::TokenState state, const std::string& detail) {
  const bool up = state == pkcs11::TokenState::kUp;
  log(up ? LogLevel::kInfo : LogLevel::kError, "token", (up ? "up: " : "not usable: ") + detail);
  audit::Event event;
  event.what = up ? "token.up" : "token.down";
  event.who = "internal:token";
  event.outcome = up ? "ok" : "TOKEN_FAULT";
  event.detail = detail;
  try {
    audit_.record(std::move(event));
  } catch (const Error& error) {
    log_error("audit", error.what());
  }
}

void EventReporter::key(const keys::KeyEvent& happening) {
  log(level_of(happening.weight), "keys",
      happening.what + (happening.key.empty() ? "" : " " + happening.key) +
          (happening.kid.empty() ? "" : " kid=" + happening.kid) + ": " + happening.detail);
  audit::Event event;
  event.what = happening.what;
  event.who = happening.actor;
  event.key = happening.key;
  event.kid = happening.kid;
  event.outcome = happening.outcome;
  event.detail = happening.detail;
  try {
    audit_.record_now(std::move(event));
  } catch (const Error& error) {
    log_error("audit", error.what());
  }
}

void EventReporter::daemon_if_possible(const char* what, const std::string& detail) {
  try {
    daemon(what, detail);
  } catch (const Error& error) {
    log_error("audit", error.what());
  }
}

void EventReporter::daemon(const char* what, const std::string& detail) {
  audit::Event event;
  event.what = what;
  event.who = "internal:daemon";
  event.pid = ::getpid();
  event.outcome = "ok";
  event.detail = detail;
  audit_.record_now(std::move(event));
}

}  // namespace keyagent::daemon
