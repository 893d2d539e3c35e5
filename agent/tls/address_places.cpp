// SPDX-License-Identifier: Apache-2.0
#include "agent/tls/address_places.h"

#include <algorithm>

namespace keyagent::tls {

std::size_t AddressPlaces::of(const std::string& address) const {
  const auto found = addresses_.find(address);
  return found == addresses_.end() ? 0 : found->second.size();
}

bool AddressPlaces::make_room_for(const std::string& address) {
  if (of(address) >= per_address_) return end_one(address, "its address has too many connections");
  return size_ < total_ || make_room();
}

bool AddressPlaces::make_room() {
  for (auto each = by_count_.rbegin(); each != by_count_.rend(); ++each) {
    // The set changes when one ends.
    if (end_one(std::string(each->second), "the server has too many connections")) return true;
  }
  return false;
}

void AddressPlaces::enter(const std::string& address, Occupant& occupant) {
  auto& all = addresses_[address];
  all.push_back(&occupant);
  ++size_;
  count(address, all.size() - 1, all.size());
}

void AddressPlaces::leave(const std::string& address, Occupant& occupant) {
  const auto found = addresses_.find(address);
  if (found == addresses_.end()) return;
  auto& all = found->second;
  const auto place = std::find(all.begin(), all.end(), &occupant);
  if (place == all.end()) return;
  all.erase(place);
  --size_;
  count(address, all.size() + 1, all.size());
  if (all.empty()) addresses_.erase(found);
}

void AddressPlaces::count(const std::string& address, std::size_t before, std::size_t now) {
  if (before > 0) by_count_.erase({before, address});
  if (now > 0) by_count_.insert({now, address});
}

// The oldest of the first standing that there is.
bool AddressPlaces::end_one(const std::string& address, const char* why) {
  Occupant* chosen = nullptr;
  Standing first = Standing::kWorking;
  for (Occupant* each : addresses_[address]) {
    const auto standing = each->standing();
    if (standing >= first) continue;
    chosen = each;
    first = standing;
    if (first == Standing::kSilent) break;
  }
  if (chosen == nullptr) return false;
  leave(address, *chosen);
  chosen->make_room(why);
  return true;
}

}  // namespace keyagent::tls
