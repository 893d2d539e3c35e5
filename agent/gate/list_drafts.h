// SPDX-License-Identifier: Apache-2.0
#pragma once
// Entries of revocation lists that do not fit into one request.

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/pki/issuer.h"

namespace keyagent::gate {

// Thread-safe. Bounded: four drafts of 100,000 entries, each for a minute after its last request.
class ListDrafts {
 public:
  static constexpr std::size_t kMaxEntries = 100'000, kMaxDrafts = 4;
  explicit ListDrafts(const Clock& clock) : clock_(clock) {}

  // Another number of the same owner (a caller and its key) begins again. Throws Error{kDenied}
  // beyond kMaxEntries, Error{kBusy} while others have all drafts.
  void add(const std::string& owner, std::uint64_t number, std::vector<pki::Revoked> entries);
  // What came before the last request, whose entries are `entries`: all of them together, `total`.
  // Throws Error{kDenied} when there are more or fewer: a part must not pass for the list.
  std::vector<pki::Revoked> finish(const std::string& owner, std::uint64_t number,
                                   std::vector<pki::Revoked> entries, std::uint64_t total);

 private:
  struct Draft {
    std::uint64_t number = 0;
    SteadyTime changed{};
    std::vector<pki::Revoked> entries;
  };
  void forget_old();  // REQUIRES mutex_

  const Clock& clock_;
  std::mutex mutex_;
  std::map<std::string, Draft> drafts_;  // guarded by mutex_
};

}  // namespace keyagent::gate
