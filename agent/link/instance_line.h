#pragma once
// One part's connection to the instance's interface, kept while its key and address stay the same.

#include <memory>
#include <string>

#include "agent/link/instance_api.h"
#include "agent/link/own_keys.h"
#include "agent/link/turn.h"
#include "agent/link/uplink.h"

namespace keyagent::link {

// Who holds a lease of turn() may use the rest; one at a time talks to the instance.
class InstanceLine {
 public:
  InstanceLine(const Surroundings& around, OwnKeys& keys, TlsLibrary& library)
      : around_(around), keys_(keys), library_(library) {}

  Turn& turn() { return turn_; }
  // REQUIRES its turn. Throws what the gate refuses with, and what options_for() throws.
  InstanceApi& api(const LinkState& state);
  // REQUIRES its turn. After a failure: the next one begins anew.
  void drop() { api_.reset(); }

 private:
  const Surroundings& around_;
  OwnKeys& keys_;
  TlsLibrary& library_;
  Turn turn_;
  std::unique_ptr<InstanceApi> api_;  // guarded by turn_
  std::string api_for_;               // guarded by turn_: kid and address it was made for
};

// MISSION R3: an agent that is not trusted gets nothing. Throws Error{kKeyState}.
std::shared_ptr<const LinkState> require_trusted(const LinkStore& store, const Uplink& uplink);

}  // namespace keyagent::link
