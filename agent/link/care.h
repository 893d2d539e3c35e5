#pragma once
// The certificate's life: renewed in time, with a new key, and said when it is not.

#include <string>

#include "agent/link/link_state.h"
#include "agent/link/own_keys.h"
#include "agent/link/surroundings.h"

namespace keyagent::link {

// Used by the link's thread alone. Renewal is a rekey of the auth key: the instance certifies the
// new key before it is in force (instance_confirmation.h).
class CertificateCare {
 public:
  CertificateCare(const Surroundings& around, LinkStore& store, OwnKeys& keys)
      : around_(around), store_(store), keys_(keys) {}

  // To be called often; does something once a minute at most.
  void look();

 private:
  void renew(const LinkState& state, const std::string& kid, const char* why, SteadyTime now);
  void warn(const LinkState& state, const std::string& kid, int days, WallTime end);

  const Surroundings& around_;
  LinkStore& store_;
  OwnKeys& keys_;
  SteadyTime next_look_{}, next_renewal_{};
  std::string warned_;  // kid and days of the last warning
};

}  // namespace keyagent::link
