// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/scheduler.h"

#include <algorithm>

#include "agent/base/error.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;

constexpr const char* kActor = kSchedulerActor;

WallTime last_seen(const KeyStore& keys) {
  try {
    const std::string noted = keys.noted(kSeenNote);
    return noted.empty() ? WallTime{} : parse_rfc3339(noted);
  } catch (const Error&) {
    return WallTime{};
  }
}

}  // namespace

Scheduler::Scheduler(KeyStore& keys, RekeyRunner& runner, Options options)
    : keys_(keys),
      runner_(runner),
      options_(std::move(options)),
      watch_(last_seen(keys), options_.clock->now(), options_.clock->now_steady()) {}

std::string Scheduler::clock_fault() const {
  const MutexLock lock(mutex_);
  return watch_.fault();
}

void Scheduler::accept_clock() {
  const MutexLock lock(mutex_);
  watch_.accept();
}

void Scheduler::watch_clock() {
  std::string fault;
  {
    const MutexLock lock(mutex_);
    const auto now = options_.clock->now();
    believed_ += watch_.look(now, options_.clock->now_steady());
    fault = watch_.fault();
    if (fault.empty()) keys_.believe(now);
  }
  if (fault == told_fault_) return;
  told_fault_ = fault;
  KeyEvent happening;
  happening.weight = fault.empty() ? KeyEvent::Weight::kInfo : KeyEvent::Weight::kAlarm;
  happening.what = "clock";
  happening.actor = kActor;
  happening.outcome = fault.empty() ? "ok" : "KEY_STATE";
  happening.detail = fault.empty() ? "the clock is trusted again"
                                   : fault + "; nothing expires and nothing is destroyed by date";
  options_.tell(happening);
}

void Scheduler::look() {
  watch_clock();
  const auto steady = options_.clock->now_steady();
  if (clock_fault().empty() && steady >= next_due_) {
    next_due_ = steady + 1min;
    begin_due();
  }
  if (steady >= next_save_) {
    next_save_ = steady + 1h;
    save();
  }
  const Span believed = std::exchange(believed_, 0ms);
  runner_.run(believed);
}

void Scheduler::save() {
  if (!clock_fault().empty()) return;
  keys_.note(kSeenNote, rfc3339(options_.clock->now()));
  keys_.note_uses();
}

void Scheduler::begin_due() {
  for (const auto& each :
       due(keys_.list(), keys_.last_used(), options_.periods(), options_.clock->now())) {
    handle(each);
  }
}

// One rekey at a time, to limit the load on the token; the next poll is in a minute.
void Scheduler::handle(const Due& each) {
  if (each.kind == Due::Kind::kWarn) return say_daily(each, KeyEvent::Weight::kInfo, "rekey.comes");
  if (each.kind == Due::Kind::kOverdue)
    return say_daily(each, KeyEvent::Weight::kWarning, "rekey.due");
  if (each.kind == Due::Kind::kGrace)
    return say_daily(each, KeyEvent::Weight::kWarning, "key.past-period");
  if (each.kind == Due::Kind::kExpired)
    return say_daily(each, KeyEvent::Weight::kAlarm, "key.expired");
  if (each.kind == Due::Kind::kIdle) return say_daily(each, KeyEvent::Weight::kWarning, "key.idle");
  if (each.kind == Due::Kind::kSuspend) {
    const auto key = keys_.change_state(each.kid.text(), KeyState::kSuspended, {each.text, kActor});
    return options_.tell({KeyEvent::Weight::kWarning, "key.suspend", key.name.text(),
                          key.kid.text(), kActor, "ok", each.text});
  }
  const auto rekeys = keys_.rekeys();
  const bool busy = std::any_of(rekeys.begin(), rekeys.end(), [](const auto& rekey) {
    return !is_done(rekey.step) && rekey.step != RekeyStep::kDraining;
  });
  if (busy) return;
  try {
    runner_.begin({each.name, std::nullopt, std::nullopt, 0ms}, {each.text, kActor});
  } catch (const Error& error) {
    // One key that cannot be rekeyed holds up no other.
    if (error.code() != Code::kKeyState && error.code() != Code::kUnsupported) throw;
    Due refused = each;
    refused.text = error.what();
    say_daily(refused, KeyEvent::Weight::kWarning, "rekey.refused");
  }
}

void Scheduler::say_daily(const Due& each, KeyEvent::Weight weight, const std::string& what) {
  const auto now = options_.clock->now_steady();
  auto& [text, when] = said_[{each.kid, what}];
  // A warning changes its text at 30, 14, 7 and 1 days; only what is due is repeated.
  if (text == each.text && (each.kind == Due::Kind::kWarn || now - when < 24h)) return;
  text = each.text;
  when = now;
  options_.tell({weight, what, each.name.text(), each.kid.text(), kActor, "ok", each.text});
}

}  // namespace keyagent::keys
