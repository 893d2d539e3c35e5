// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/rekey_runner.h"

#include <algorithm>
#include <utility>

#include "agent/base/error.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;

constexpr Span kLongestPause = 5min;
constexpr Span kNoteDrainEvery = 1min;
// An old key that opened an envelope within this time is not destroyed, even after its drain:
// envelopes are still sealed to it.
constexpr Span kQuiet = 24h;

Span pause_after(int failures) {
  return std::min<Span>(kLongestPause, 1s * (1 << std::min(failures - 1, 9)));
}

// Faults that another attempt may fix. Everything else is an answer, and ends the rekey.
bool may_pass(const Error& error) {
  if (error.code() == Code::kKeyLost) return false;
  return retryable(error.code()) || error.code() == Code::kTokenFull ||
         error.code() == Code::kInternal;
}

}  // namespace

RekeyRunner::RekeyRunner(KeyStore& keys, Options options)
    : keys_(keys),
      options_(std::move(options)),
      order_alarms_(*options_.clock, {1, std::chrono::hours(1), 256}) {}

void RekeyRunner::tell(const RekeyRecord& rekey, KeyEvent::Weight weight, const std::string& what,
                       const std::string& outcome, const std::string& detail) const {
  if (!options_.tell) return;
  KeyEvent happening;
  happening.weight = weight;
  happening.what = what;
  happening.key = rekey.name.text();
  happening.kid = rekey.new_kid.empty() ? rekey.old_kid.text() : rekey.new_kid.text();
  happening.actor = rekey.actor;
  happening.outcome = outcome;
  happening.detail = detail;
  options_.tell(happening);
}

RekeyRecord RekeyRunner::begin(RekeyRequest request, const Cause& cause) {
  const Periods periods = options_.periods();
  request.drain = periods.of(keys_.find(request.name.text())).drain;
  request.limits = periods.rekeys;
  RekeyRecord rekey;
  try {
    rekey = keys_.begin_rekey(request, cause);
  } catch (const Error& error) {
    if (cause.actor == kInstanceActor && error.code() == Code::kKeyState)
      tell_order_refused(request.name, error.what());
    throw;
  }
  // A person who asks again does not wait for the next attempt.
  if (cause.actor != kInstanceActor && cause.actor != kSchedulerActor) {
    const MutexLock lock(mutex_);
    if (const auto attempt = attempts_.find(rekey.id); attempt != attempts_.end())
      attempt->second.not_before = {};
  }
  if (rekey.step == RekeyStep::kPlanned)
    tell(rekey, KeyEvent::Weight::kInfo, "rekey.planned", "ok", cause.reason);
  return rekey;
}

// Once an hour a key: an instance that orders in a loop does not fill the audit log.
void RekeyRunner::tell_order_refused(const KeyName& name, const std::string& why) {
  if (!options_.tell || !order_alarms_.take(name.text())) return;
  options_.tell({KeyEvent::Weight::kAlarm,
                 "rekey.order-refused",
                 name.text(),
                 {},
                 kInstanceActor,
                 std::string(code_name(Code::kKeyState)),
                 why});
}

RekeyRecord RekeyRunner::abort(const KeyName& name, const Cause& cause) {
  for (const auto& rekey : keys_.rekeys()) {
    if (rekey.name != name || is_done(rekey.step) || rekey.step == RekeyStep::kDraining) continue;
    if (rekey.step == RekeyStep::kAborting) return rekey;
    const auto aborting = keys_.record_rekey(rekey.id, RekeyEvent::kAbortAsked, cause);
    const MutexLock lock(mutex_);
    attempts_.erase(rekey.id);
    return aborting;
  }
  throw Error(Code::kUsage, "no rekey of " + name.text() + " is in progress");
}

void RekeyRunner::run(Span believed) {
  const MutexLock running(run_mutex_);
  for (const auto& rekey : keys_.rekeys()) {
    if (is_done(rekey.step)) continue;
    try {
      if (rekey.step == RekeyStep::kDraining) drain(rekey, believed);
      if (is_its_turn(rekey.id)) advance(keys_.rekey(rekey.id));
    } catch (const std::exception& error) {
      // The ledger itself refuses: nothing can be recorded, so nothing is done.
      put_off(rekey, error.what(), true);
    }
  }
}

bool RekeyRunner::is_its_turn(std::uint64_t id) const {
  const MutexLock lock(mutex_);
  const auto attempt = attempts_.find(id);
  return attempt == attempts_.end() || options_.clock->now_steady() >= attempt->second.not_before;
}

void RekeyRunner::drain(const RekeyRecord& rekey, Span believed) {
  Span& unsaved = unsaved_[rekey.id];
  unsaved += believed;
  if (unsaved < kNoteDrainEvery && rekey.drained + unsaved < rekey.drain) return;
  if (unsaved == 0ms || rekey.drained >= rekey.drain) return;
  keys_.note_drained(rekey.id, std::min(rekey.drain, rekey.drained + unsaved));
  unsaved = 0ms;
}

void RekeyRunner::advance(RekeyRecord rekey) {
  while (!is_done(rekey.step)) {
    std::optional<RekeyRecord> next_record;
    try {
      next_record = perform(rekey);
    } catch (const Error& error) {
      if (may_pass(error) || !is_before_switch(rekey.step)) {
        return put_off(rekey, error.what(), true);
      }
      next_record = refuse(rekey, error.what());
    } catch (const std::exception& error) {
      return put_off(rekey, error.what(), true);
    }
    if (!next_record) return;
    rekey = *next_record;
    {
      const MutexLock lock(mutex_);
      attempts_.erase(rekey.id);
    }
    const bool given_up = rekey.step == RekeyStep::kAborted;
    tell(rekey, given_up ? KeyEvent::Weight::kWarning : KeyEvent::Weight::kInfo,
         "rekey." + std::string(name_of(rekey.step)), "ok", rekey.reason);
  }
}

std::optional<RekeyRecord> RekeyRunner::perform(const RekeyRecord& rekey) {
  switch (effect_of(rekey.step)) {
    case RekeyEffect::kGenerate:
      return keys_.make_next_key(rekey.id);
    case RekeyEffect::kProve:
      return prove(rekey);
    case RekeyEffect::kSwitch:
      // Tested again: much may have happened to the token since it was proved.
      keys_.test_next_key(rekey.id);
      return keys_.record_rekey(rekey.id, RekeyEvent::kSwitchDone, {rekey.reason, rekey.actor});
    case RekeyEffect::kAnnounce:
      return announce(rekey);
    case RekeyEffect::kRetire:
      return retire(rekey);
    case RekeyEffect::kDiscard:
      return keys_.discard_next_key(rekey.id);
    case RekeyEffect::kNone:
      break;
  }
  return std::nullopt;
}

Confirmation::Said RekeyRunner::ask(Confirmation::Phase phase, const RekeyRecord& rekey) const {
  if (options_.confirmation == nullptr) return {};
  return options_.confirmation->ask(phase, rekey, keys_.find(rekey.old_kid.text()),
                                    keys_.find(rekey.new_kid.text()));
}

std::optional<RekeyRecord> RekeyRunner::prove(const RekeyRecord& rekey) {
  keys_.test_next_key(rekey.id);
  const auto said = ask(Confirmation::Phase::kProve, rekey);
  if (said.answer == Confirmation::Answer::kRefused) {
    return refuse(rekey, "the peer refused the new key: " + said.text);
  }
  if (said.answer == Confirmation::Answer::kLater) {
    put_off(rekey, "the peer has not confirmed the new key: " + said.text, true);
    return std::nullopt;
  }
  return keys_.record_rekey(rekey.id, RekeyEvent::kConfirmed, {rekey.reason, rekey.actor});
}

// After the switch there is no way back: a peer that does not answer is asked again forever.
std::optional<RekeyRecord> RekeyRunner::announce(const RekeyRecord& rekey) {
  const auto said = ask(Confirmation::Phase::kSwitched, rekey);
  if (said.answer != Confirmation::Answer::kConfirmed) {
    put_off(rekey, "the peer has not acknowledged the switch: " + said.text, true);
    return std::nullopt;
  }
  return keys_.record_rekey(rekey.id, RekeyEvent::kAnnounced, {rekey.reason, rekey.actor});
}

std::string RekeyRunner::reason_to_keep(const RekeyRecord& rekey) const {
  const KeyRecord old = keys_.find(rekey.old_kid.text());
  if (old.state == KeyState::kDestroyed) return {};
  if (rekey.drained < rekey.drain)
    return "envelopes in transit, for " + span_text(rekey.drain - rekey.drained) + " more";
  if (const auto sealed = keys_.sealed_count(old.kid); sealed > 0)
    return std::to_string(sealed) + " sealed envelopes that name the old key; run: keyagent reseal";
  const auto used = keys_.last_used();
  const auto last = used.find(old.kid);
  const Span quiet = std::min(kQuiet, rekey.drain);
  if (last != used.end() && options_.clock->now() - last->second < quiet)
    return "the old key to be idle: it was last used at " + rfc3339(last->second);
  if (old.purpose != Purpose::kStorage) return {};
  // Only a census can tell which data is sealed to a storage key.
  return keys_.counted_since(old.kid, rekey.changed)
             ? ""
             : "a census after the switch; run: keyagent census scan PATH";
}

std::optional<RekeyRecord> RekeyRunner::retire(const RekeyRecord& rekey) {
  const std::string keep = reason_to_keep(rekey);
  if (keep.empty()) return keys_.retire_old_key(rekey.id);
  put_off(rekey, keep, false);
  return std::nullopt;
}

RekeyRecord RekeyRunner::refuse(const RekeyRecord& rekey, const std::string& why) {
  tell(rekey, KeyEvent::Weight::kAlarm, "rekey.refused", "KEY_STATE", why);
  return keys_.record_rekey(rekey.id, RekeyEvent::kRefused, {why, rekey.actor});
}

void RekeyRunner::put_off(const RekeyRecord& rekey, const std::string& why, bool failed) {
  bool news = false;
  {
    const MutexLock lock(mutex_);
    Attempt& attempt = attempts_[rekey.id];
    news = failed && attempt.problem != why;
    attempt.problem = why;
    if (failed) attempt.not_before = options_.clock->now_steady() + pause_after(++attempt.failures);
  }
  if (news) {
    tell(rekey, KeyEvent::Weight::kWarning, "rekey.waits", "TOKEN_FAULT",
         "at " + std::string(name_of(rekey.step)) + ": " + why);
  }
}

std::vector<Progress> RekeyRunner::progress() const {
  const MutexLock lock(mutex_);
  std::vector<Progress> out;
  for (auto& rekey : keys_.rekeys()) {
    Progress progress{rekey, {}, 0};
    const auto attempt = attempts_.find(rekey.id);
    if (attempt != attempts_.end() && !is_done(rekey.step)) {
      progress.waits_for = attempt->second.problem;
      progress.failures = attempt->second.failures;
    }
    out.push_back(std::move(progress));
  }
  return out;
}

}  // namespace keyagent::keys
