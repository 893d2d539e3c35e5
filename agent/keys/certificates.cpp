// SPDX-License-Identifier: Apache-2.0
// Certificates of keys: kept in the ledger, changed like everything else there.

#include "agent/keys/key_store_impl.h"

namespace keyagent::keys {

bool KeyStore::install_certificate(const Kid& kid, const std::vector<Bytes>& chain,
                                   const Cause& cause) {
  const MutexLock lock(impl_->change_mutex);
  impl_->require_reconciled();
  const KeyRecord record = impl_->find(kid.text());
  const auto known = certificate(kid);
  if (chain.empty() ? !known : known && known->chain == chain) return false;
  const bool ends = record.state == KeyState::kDestroyed || record.state == KeyState::kCompromised;
  if (ends && !chain.empty()) {
    throw Error(Code::kKeyState,
                "key " + record.name.text() + " is " + std::string(name_of(record.state)) +
                    " and needs no certificate",
                kid.text());
  }
  impl_->ledger.record_certificate({kid, chain, impl_->options.clock->now(), cause.actor});
  impl_->republish();
  return true;
}

std::optional<CertificateRecord> KeyStore::certificate(const Kid& kid) const {
  const auto now = impl_->current();
  const auto found = now->certificates.find(kid);
  return found == now->certificates.end() ? std::nullopt : std::optional(found->second);
}

std::shared_ptr<const std::map<Kid, CertificateRecord>> KeyStore::certificates() const {
  const auto now = impl_->current();
  return {now, &now->certificates};
}

}  // namespace keyagent::keys
