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

void ListDrafts::erase_old() {
  const auto now = clock_.now_steady();
  std::erase_if(drafts_, [&](const auto& each) { return now - each.second.changed > kLife; });
}

void ListDrafts::forget_old() {
  const MutexLock lock(mutex_);
  erase_old();
}

std::size_t ListDrafts::all_kept() const {
  std::size_t out = 0;
  for (const auto& [caller, draft] : drafts_) out += draft.entries.size();
  return out;
}

std::size_t ListDrafts::entries() const {
  const MutexLock lock(mutex_);
  return all_kept();
}

std::vector<pki::Revoked> ListDrafts::take(const std::string& caller, const List& list) {
  auto draft = drafts_.extract(caller);
  if (draft.empty() || draft.mapped().list != list) return {};
  return std::move(draft.mapped().entries);
}

void ListDrafts::add(const std::string& caller, const List& list,
                     std::vector<pki::Revoked> entries) {
  const MutexLock lock(mutex_);
  erase_old();
  auto all = take(caller, list);
  append(all, std::move(entries));
  if (drafts_.size() >= kMaxDrafts || all_kept() + all.size() > kMaxAll)
    throw Error(Code::kBusy, "others are sending revocation lists; try again in a minute");
  drafts_[caller] = {list, clock_.now_steady(), std::move(all)};
}

std::vector<pki::Revoked> ListDrafts::finish(const std::string& caller, const List& list,
                                             std::vector<pki::Revoked> entries,
                                             std::uint64_t total) {
  std::vector<pki::Revoked> all;
  if (total > 0) {
    const MutexLock lock(mutex_);
    erase_old();
    all = take(caller, list);
  }
  append(all, std::move(entries));
  if (total > 0 && all.size() != total)
    throw Error(Code::kDenied, "not certified: the revocation list is said to have " +
                                   std::to_string(total) + " entries, and " +
                                   std::to_string(all.size()) + " came; send it again");
  return all;
}

}  // namespace keyagent::gate
