// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/list_drafts.h"

#include <iterator>
#include <utility>

#include "agent/base/error.h"

namespace keyagent::gate {
namespace {

constexpr std::chrono::minutes kLife{1};

void append(std::vector<pki::Revoked>& to, std::vector<pki::Revoked> more) {
  if (to.size() + more.size() > ListDrafts::kMaxEntries)
    throw Error(Code::kDenied, "not certified: a revocation list has at most " +
                                   std::to_string(ListDrafts::kMaxEntries) + " entries");
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

void ListDrafts::forget_old() {
  const auto now = clock_.now_steady();
  std::erase_if(drafts_, [&](const auto& each) { return now - each.second.changed > kLife; });
}

void ListDrafts::add(const std::string& owner, std::uint64_t number,
                     std::vector<pki::Revoked> entries) {
  const std::lock_guard lock(mutex_);
  forget_old();
  if (!drafts_.contains(owner) && drafts_.size() >= kMaxDrafts)
    throw Error(Code::kBusy, "others are sending revocation lists; try again in a minute");
  Draft& draft = drafts_[owner];
  if (draft.number != number) draft = {number, {}, {}};
  append(draft.entries, std::move(entries));
  draft.changed = clock_.now_steady();
}

std::vector<pki::Revoked> ListDrafts::finish(const std::string& owner, std::uint64_t number,
                                             std::vector<pki::Revoked> entries,
                                             std::uint64_t total) {
  std::vector<pki::Revoked> all;
  if (total > 0) {
    const std::lock_guard lock(mutex_);
    forget_old();
    const auto found = drafts_.find(owner);
    if (found != drafts_.end() && found->second.number == number)
      all = std::move(found->second.entries);
    if (found != drafts_.end()) drafts_.erase(found);
  }
  append(all, std::move(entries));
  if (total > 0 && all.size() != total)
    throw Error(Code::kDenied, "not certified: the revocation list is said to have " +
                                   std::to_string(total) + " entries, and " +
                                   std::to_string(all.size()) + " came; send it again");
  return all;
}

}  // namespace keyagent::gate
