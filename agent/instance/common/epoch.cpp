// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/epoch.h"

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/store/events.h"
#include "agent/store/restoration.h"

namespace keyagent::instance {
namespace {

constexpr std::chrono::seconds kFresh{60};

std::int64_t number_in(const Json& payload) {
  return number_of(payload, "epoch", 0, 0, INT64_MAX);
}

}  // namespace

std::string Epoch::current() {
  const MutexLock lock(mutex_);
  const auto now = clock_.now_steady();
  if (looked_ && now - looked_at_ < kFresh) return jws_;
  looked_ = true;
  looked_at_ = now;
  try {
    const auto last = store_.events().last_number();
    if (last == number_) return jws_;
    const Json payload{{"instance", config_.id}, {"epoch", last}, {"at", rfc3339(clock_.now())}};
    jws_ = keys_.sign_confirmation(envelope::Statement::kEpoch, payload.dump());
    number_ = last;
  } catch (const Error& error) {
    log_warning("instance", std::string("the epoch is not signed: ") + error.what());
  }
  return jws_;
}

void Epoch::forget() {
  const MutexLock lock(mutex_);
  looked_ = false;
}

void Epoch::judge(const std::string& agent, const std::string& jws) {
  const auto said = keys_.verify_confirmation(envelope::Statement::kEpoch, jws);
  if (!said) {
    log_warning("instance", "agent " + agent + " reports an epoch that this instance did not sign");
    return;
  }
  const Json payload = parse_object(*said);
  if (text_of(payload, "instance", "") != config_.id) return;
  const auto number = number_in(payload);
  {
    // Another replica has said more than this one last signed: so does this one now.
    const MutexLock lock(mutex_);
    if (number > number_) looked_ = false;
  }
  if (number <= store_.events().last_number()) return;
  const store::Restored seen{number, agent, clock_.now()};
  const auto event = recorder_.make(Outcome::kAlarm, "instance", "restored", agent,
                                    "this agent knows event " + std::to_string(number) +
                                        ", which is missing in this store: it was restored from a "
                                        "backup; agents are not served until an admin accepts it");
  if (store_.restoration().note(seen, event)) Recorder::say(event);
}

void Epoch::require_accepted() {
  if (!restored()) return;
  throw Error(
      Code::kKeyState,
      "the instance's store was restored from a backup and may trust agents that were revoked "
      "since; an admin must check this, then run: keyagent instance restored --accept");
}

Json Epoch::describe() {
  const auto now = store_.restoration().find();
  if (!now) return nullptr;
  return {{"epoch", now->epoch},
          {"agent", now->agent},
          {"since", rfc3339(now->since)},
          {"last", store_.events().last_number()}};
}

Json Epoch::accept(std::int64_t epoch, const std::string& by) {
  const auto known = store_.restoration().find();
  if (known && epoch != 0 && known->epoch != epoch)
    throw Error(Code::kKeyState, "an agent knows event " + std::to_string(known->epoch) +
                                     ", not only " + std::to_string(epoch) +
                                     ": check again (keyagent instance restored), then accept");
  const auto event = recorder_.make(
      Outcome::kDone, "user " + by, "restored.accept", config_.id,
      known ? "event numbers continue from " + std::to_string(known->epoch) : std::string());
  if (!known || !store_.restoration().accept(event, known->epoch))
    throw Error(Code::kKeyState,
                "this store was not restored from a backup, or its state changed just now; check "
                "again: keyagent instance restored");
  Recorder::say(event);
  forget();
  return {{"epoch", store_.events().last_number()}};
}

}  // namespace keyagent::instance
