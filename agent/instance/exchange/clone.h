// SPDX-License-Identifier: Apache-2.0
#pragma once
// A copy of another instance's data, and the request for the keys that they need. MISSION.md X12.

#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/instance/common/config.h"
#include "agent/store/clone.h"
#include "agent/store/store.h"

namespace keyagent::instance {

struct CloneOptions {
  std::string store;  // the source's, or a copy of it: sqlite:///… or postgresql://…
  // The source as a peer (Peers::add): its name here, the fingerprint of its identity that was
  // compared with it, its listen.api, and the fingerprint of its CA.
  std::string peer, identity, url, ca;
  std::string frequency = "one-time-clone";
  bool rekey = false, users = false;
};

struct Cloned {
  bool before = false;  // the data were here: an earlier call had copied them
  store::CloneCounts counts;
  std::string identity;                     // of this instance
  std::vector<std::string> specifications;  // whose records need keys
  std::string request;                      // its id; empty: none is needed
};

// For an instance that does not serve yet, with an empty store and a separate token on its host;
// its request is sent once it serves. Creates the exchange keys, and no others. Idempotent: call it
// again after any error.
//
// Throws Error: kUsage for an invalid `wish`; kUnsupported, before anything is copied, when this
// token cannot import keys; what Store::clone(), Peers::add() and Exchanges::request() throw.
Cloned clone(const InstanceConfig& config, const CloneOptions& wish, const Clock& clock);

}  // namespace keyagent::instance
