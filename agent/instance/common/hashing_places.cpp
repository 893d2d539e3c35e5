// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/hashing_places.h"

#include <algorithm>

#include "agent/base/error.h"

namespace keyagent::instance {
namespace {

[[noreturn]] void refuse() {
  throw Error(Code::kBusy, "too many logins at the same time; try again");
}

}  // namespace

bool HashingPlaces::fits(const std::string& address) const {
  if (taken_ >= limits_.places) return false;
  const auto share = std::max<std::size_t>(1, limits_.places - 1);
  const auto found = running_.find(address);
  return found == running_.end() || found->second < share;
}

// The first that fits, of those without failures before the others.
bool HashingPlaces::is_next(const Waiter& waiter) const {
  for (const bool clean : {true, false}) {
    for (const auto& each : waiting_) {
      if (each.displaced || each.clean != clean || !fits(each.address)) continue;
      return &each == &waiter;
    }
  }
  return false;
}

void HashingPlaces::enqueue(const std::string& address, bool clean) {
  std::size_t waiting = 0;
  Waiter* other = nullptr;  // the newest with failures
  for (auto& each : waiting_) {
    if (each.displaced) continue;
    if (each.address == address) refuse();
    ++waiting;
    if (!each.clean) other = &each;
  }
  if (waiting >= std::max<std::size_t>(1, limits_.max_waiting)) {
    if (!clean || other == nullptr) refuse();
    other->displaced = true;
  }
  waiting_.push_back({address, clean});
}

std::size_t HashingPlaces::waiting() {
  const MutexLock lock(mutex_);
  return waiting_.size();
}

HashingPlaces::Lease::Lease(HashingPlaces& places, const std::string& address, bool clean)
    : places_(places), address_(address) {
  const MutexLock lock(places_.mutex_);
  if (places_.limits_.places == 0) refuse();
  places_.enqueue(address, clean);
  const auto own = std::prev(places_.waiting_.end());
  places_.changed_.notify_all();
  places_.changed_.wait_for(
      places_.mutex_, places_.limits_.longest_wait,
      [&]() REQUIRES(places_.mutex_) { return own->displaced || places_.is_next(*own); });
  const bool taken = !own->displaced && places_.is_next(*own);
  places_.waiting_.erase(own);
  if (!taken) {
    places_.changed_.notify_all();
    refuse();
  }
  ++places_.taken_;
  ++places_.running_[address_];
  places_.changed_.notify_all();
}

HashingPlaces::Lease::~Lease() {
  const MutexLock lock(places_.mutex_);
  --places_.taken_;
  const auto found = places_.running_.find(address_);
  if (--found->second == 0) places_.running_.erase(found);
  places_.changed_.notify_all();
}

}  // namespace keyagent::instance
