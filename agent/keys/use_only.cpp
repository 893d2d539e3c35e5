// SPDX-License-Identifier: Apache-2.0
// A state folder that cannot be written: keys are used, nothing is changed (RELIABILITY 81, 167).

#include "agent/base/log.h"
#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {

std::string KeyStore::use_only() const {
  const MutexLock lock(impl_->snapshot_mutex);
  return impl_->use_only;
}

bool KeyStore::resume_changes() {
  const MutexLock lock(impl_->change_mutex);
  if (impl_->ledger.read_only().empty()) return false;
  if (!why_unwritable(impl_->options.state_folder).empty()) return false;
  impl_->lock.make_exclusive();
  if (!impl_->ledger.reopen()) return false;
  impl_->refusal.emplace(
      Code::kTokenFault,
      "ledger and token are not reconciled yet; no changes are possible before that");
  log_info("keys", "the ledger is written again");
  const MutexLock guard(impl_->snapshot_mutex);
  impl_->use_only.clear();
  return true;
}

std::uint64_t KeyStore::history_size() const {
  return impl_->history_size;
}

void KeyStore::set_history_rows(std::size_t rows) {
  const MutexLock lock(impl_->change_mutex);
  impl_->ledger.set_history_rows(rows);
}

}  // namespace keyagent::keys
