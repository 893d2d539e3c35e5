// SPDX-License-Identifier: Apache-2.0
#pragma once
// Renews the link's certificate in time, with a new key, and warns when it cannot.

#include <string>

#include "agent/link/link_context.h"
#include "agent/link/link_state.h"
#include "agent/link/own_keys.h"

namespace keyagent::link {

// Used by the link's thread alone. Renewal is a rekey of the auth key: the instance certifies the
// new key before it is in effect (instance_confirmation.h).
class CertificateRenewer {
 public:
  CertificateRenewer(const LinkContext& around, LinkStore& store, OwnKeys& keys)
      : context_(around), store_(store), keys_(keys) {}

  // To be called often; does something once a minute at most.
  void look();

 private:
  void renew(const LinkState& state, const std::string& kid, const char* why, SteadyTime now);
  void warn(const LinkState& state, const std::string& kid, int days, WallTime end);

  const LinkContext& context_;
  LinkStore& store_;
  OwnKeys& keys_;
  SteadyTime next_look_{}, next_renewal_{};
  std::string warned_;  // kid and days of the last warning
};

}  // namespace keyagent::link
