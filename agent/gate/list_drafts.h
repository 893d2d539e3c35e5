// SPDX-License-Identifier: Apache-2.0
#pragma once
// Entries of revocation lists that do not fit into one request.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"
#include "agent/pki/issuer.h"

namespace keyagent::gate {

// Thread-safe. Bounded: four drafts, one a caller, together of 200,000 entries. A draft is kept for
// a minute after its last request; the next request of any kind then deletes it.
class ListDrafts {
 public:
  static constexpr std::size_t kMaxEntries = 100'000, kMaxDrafts = 4, kMaxAll = 2 * kMaxEntries;
  explicit ListDrafts(const Clock& clock) : clock_(clock) {}

  // Of which list: the key that signs it, and its number.
  struct List {
    std::string kid;
    std::uint64_t number = 0;
    bool operator==(const List&) const = default;
  };
  // Another list of the same caller begins again. Throws Error{kDenied} beyond kMaxEntries, and
  // Error{kBusy} while others have all drafts or entries; what the caller had sent is then deleted.
  void add(const std::string& caller, const List& list, std::vector<pki::Revoked> entries);
  // What came before the last request, whose entries are `entries`: all of them together, `total`.
  // Throws Error{kDenied} when there are more or fewer: a part must not pass for the list.
  std::vector<pki::Revoked> finish(const std::string& caller, const List& list,
                                   std::vector<pki::Revoked> entries, std::uint64_t total);
  void forget_old();
  std::size_t entries() const;  // that are kept, of all drafts

 private:
  struct Draft {
    List list;
    SteadyTime changed{};
    std::vector<pki::Revoked> entries;
  };
  // Out of the map: the entries so far, none of another list.
  std::vector<pki::Revoked> take(const std::string& caller, const List& list) REQUIRES(mutex_);
  void erase_old() REQUIRES(mutex_);
  std::size_t all_kept() const REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  std::map<std::string, Draft> drafts_ GUARDED_BY(mutex_);  // by caller
};

}  // namespace keyagent::gate
