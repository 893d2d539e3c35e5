// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/rekey_service.h"

#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"

namespace keyagent::daemon {
namespace {

using namespace std::chrono_literals;

keys::Cryptoperiod merged(keys::Cryptoperiod period, const config::KeyPeriod& given) {
  period.active = given.every.value_or(period.active);
  period.drain = given.drain.value_or(period.drain);
  period.idle = given.idle.value_or(period.idle);
  period.automatic = given.automatic.value_or(period.automatic);
  if (given.grace) period.grace = given.grace;
  return period;
}

}  // namespace

// A key named in the file has no purpose yet: what its own entry leaves open is filled when it is
// asked for.
keys::Periods periods_of(const config::RekeyConfig& config) {
  keys::Periods periods;
  for (const auto& [purpose, given] : config.purposes)
    periods.by_purpose[purpose] = merged(keys::default_cryptoperiod(purpose), given);
  for (const auto& [name, given] : config.keys) {
    periods.by_name[name] = [own = given](const keys::Cryptoperiod& base) {
      return merged(base, own);
    };
  }
  periods.warn = config.warn;
  periods.jitter_percent = config.jitter_percent;
  periods.grace = config.grace;
  periods.rekeys = {config.max_ordered_per_day, config.max_generations};
  return periods;
}

RekeyService::RekeyService(keys::KeyStore& keys, const config::RekeyConfig& config,
                           keys::Confirmation* instance, keys::EventSink tell,
                           std::function<bool()> ready, std::function<void()> after)
    : keys_(keys),
      hook_(config.hook.empty() ? nullptr : std::make_unique<HookConfirmation>(config.hook)),
      confirmation_(hook_.get(), instance),
      tell_(std::move(tell)),
      ready_(std::move(ready)),
      after_(std::move(after)),
      runner_(keys, {&system_clock(), [this] { return periods(); }, &confirmation_, tell_}),
      scheduler_(keys, runner_, {&system_clock(), [this] { return periods(); }, tell_}) {
  set_periods(config);
}

RekeyService::~RekeyService() {
  stop();
}

void RekeyService::start() {
  thread_ = std::thread([this] { run(); });
}

void RekeyService::stop() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void RekeyService::wake() {
  const MutexLock lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

void RekeyService::reload(const config::RekeyConfig& config) {
  scheduler_.accept_clock();
  set_periods(config);
}

void RekeyService::set_periods(const config::RekeyConfig& config) {
  keys::Periods periods = periods_of(config);
  periods.enforced_since = keys_.enforced_since();
  keys_.set_periods(periods);
  const MutexLock lock(mutex_);
  periods_ = std::move(periods);
}

keys::Periods RekeyService::periods() const {
  const MutexLock lock(mutex_);
  return periods_;
}

void RekeyService::run() {
  MutexLock lock(mutex_);
  while (!ended_) {
    changed_.wait_for(mutex_, 1s, [this]() REQUIRES(mutex_) { return woken_ || ended_; });
    if (ended_) break;
    woken_ = false;
    lock.unlock();
    if (ready_()) look();
    lock.lock();
  }
  lock.unlock();
  try {
    scheduler_.save();
  } catch (const std::exception& error) {
    log_warning("rekey", error.what());
  }
}

// A repeated setback is logged once; the next call continues.
void RekeyService::look() {
  try {
    for (const auto& key : keys_.suspend_faulty())
      tell_({keys::KeyEvent::Weight::kAlarm, "key.suspend", key.name.text(), key.kid.text(),
             key.actor, std::string(code_name(Code::kIntegrity)), key.reason});
    scheduler_.look();
    setback_.clear();
  } catch (const std::exception& error) {
    if (setback_ != error.what()) log_error("rekey", error.what());
    setback_ = error.what();
  }
  after_();
}

}  // namespace keyagent::daemon
