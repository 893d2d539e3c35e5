// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/login_throttle.h"

#include <algorithm>
#include <tuple>

namespace keyagent::instance {
namespace {

using std::chrono::milliseconds;

milliseconds left_of(SteadyTime until, SteadyTime now) {
  if (until <= now) return milliseconds(0);
  return std::chrono::ceil<milliseconds>(until - now);
}

}  // namespace

// An address that is unknown in a full table of paused ones waits with the others of its kind.
SteadyTime LoginThrottle::until(const Key& key, SteadyTime now) const {
  const auto found = entries_.find(key);
  if (found != entries_.end()) return found->second.until;
  const bool full = entries_.size() >= limits_.max_entries &&
                    std::all_of(entries_.begin(), entries_.end(),
                                [now](const auto& each) { return each.second.until > now; });
  return full ? shared_.until : SteadyTime{};
}

milliseconds LoginThrottle::pause(const std::string& address, const std::string& name) const {
  const auto now = clock_.now_steady();
  const MutexLock lock(mutex_);
  return left_of(std::max(until({address, name}, now), until({address, {}}, now)), now);
}

LoginThrottle::Entry& LoginThrottle::entry(const Key& key) {
  const auto now = clock_.now_steady();
  if (const auto found = entries_.find(key); found != entries_.end()) {
    if (now - found->second.last > limits_.forgotten) found->second = {};
    return found->second;
  }
  if (entries_.size() >= limits_.max_entries) {
    std::erase_if(entries_, [&](const auto& each) {
      return each.second.until <= now && now - each.second.last > limits_.forgotten;
    });
  }
  if (entries_.size() >= limits_.max_entries) {
    const auto weight = [now](const auto& each) {
      return std::tuple(each.second.until > now, each.second.failures, each.second.last);
    };
    const auto least =
        std::min_element(entries_.begin(), entries_.end(),
                         [&](const auto& a, const auto& b) { return weight(a) < weight(b); });
    if (least->second.until > now) return shared_;
    entries_.erase(least);
  }
  return entries_[key];
}

void LoginThrottle::count(const Key& key, std::uint32_t free) {
  const auto now = clock_.now_steady();
  Entry& counted = entry(key);
  counted.last = now;
  ++counted.failures;
  if (counted.failures <= free) return;
  // Who shares an entry waits for what others did: not for long.
  if (&counted == &shared_) return void(counted.until = now + limits_.first);
  const auto doublings = std::min<std::uint32_t>(counted.failures - free - 1, 20);
  counted.until =
      now + std::min<milliseconds>(limits_.first * (std::int64_t{1} << doublings), limits_.longest);
}

void LoginThrottle::failed(const std::string& address, const std::string& name) {
  const MutexLock lock(mutex_);
  count({address, name}, limits_.free_of_name);
  count({address, {}}, limits_.free_of_address);
}

void LoginThrottle::succeeded(const std::string& address, const std::string& name) {
  const MutexLock lock(mutex_);
  entries_.erase({address, name});
}

bool LoginThrottle::has_failures(const std::string& address) const {
  const MutexLock lock(mutex_);
  return entries_.contains({address, {}});
}

std::size_t LoginThrottle::entries() const {
  const MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace keyagent::instance
