// SPDX-License-Identifier: Apache-2.0
#pragma once
// Confirmation of a rekey by the instance: it must acknowledge the new key of the link before the
// key is activated, and sign a confirmation before the rekey is done.

#include <atomic>

#include "agent/keys/rekey_runner.h"
#include "agent/link/instance_api.h"
#include "agent/link/instance_connection.h"
#include "agent/link/own_keys.h"

namespace keyagent::link {

// Called by the rekey thread. For the transport key: both generations open a challenge of the
// instance, and after the switch its confirmation, signed by the key that was pinned at enrollment,
// is verified. For the auth key: a certificate of the new one is fetched in a session of the old
// one, and after the switch the link must be up with it (MISSION R7, T8). Other keys, and agents
// that are not enrolled, are none of its business. An instance that is away: later.
class InstanceConfirmation final : public keys::Confirmation {
 public:
  InstanceConfirmation(const LinkContext& around, LinkStore& store, OwnKeys& keys,
                       TlsLibrary& library, InstanceConnection& uplink,
                       std::function<void()> switched)
      : context_(around),
        store_(store),
        keys_(keys),
        library_(library),
        uplink_(uplink),
        switched_(std::move(switched)) {}

  Said ask(Phase phase, const keys::RekeyRecord& rekey, const keys::KeyRecord& old,
           const keys::KeyRecord& fresh) override;

  // While the agent enrolls to replace its keys.
  void set_enrolling(bool enrolling) { enrolling_ = enrolling; }

 private:
  bool is_replaced_by_enrollment(Phase phase, const LinkState& state, bool transport,
                                 const keys::KeyRecord& old, const keys::KeyRecord& fresh) const;
  Said ask_about_transport(Phase phase, const LinkState& state, const keys::KeyRecord& old,
                           const keys::KeyRecord& fresh);
  Said ask_about_auth(Phase phase, const LinkState& state, const keys::KeyRecord& fresh);
  std::string prove(InstanceApi& api, const keys::KeyRecord& old, const keys::KeyRecord& fresh);
  void require_confirmation(const LinkState& state, const std::string& jws,
                            const keys::KeyRecord& old, const keys::KeyRecord& fresh);
  void tell(keys::KeyEvent::Weight weight, const char* what, const keys::KeyRecord& key, Code code,
            const std::string& detail) const;

  const LinkContext& context_;
  LinkStore& store_;
  OwnKeys& keys_;
  TlsLibrary& library_;
  InstanceConnection& uplink_;
  const std::function<void()> switched_;  // the instance seals to another key now
  std::string alarmed_;                   // the same refusal is said once
  std::atomic<bool> enrolling_{false};
};

// Both must confirm, the first one first; either may be null.
class BothConfirm final : public keys::Confirmation {
 public:
  BothConfirm(keys::Confirmation* first, keys::Confirmation* second)
      : first_(first), second_(second) {}
  Said ask(Phase phase, const keys::RekeyRecord& rekey, const keys::KeyRecord& old,
           const keys::KeyRecord& fresh) override;

 private:
  keys::Confirmation* const first_;
  keys::Confirmation* const second_;
};

}  // namespace keyagent::link
