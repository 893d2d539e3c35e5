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

// For an instance that does not serve yet, with a store without data and a host's token of its own;
// once it serves, its request is sent. It makes the keys for exchanges, and no other. What was done
// of it is not done again, so it may be called again after any fault.
//
// Throws Error: kUnsupported when this token cannot take keys in, before anything is copied;
// kUsage for what the wish says wrong; what Store::clone(), Peers::add() and Exchanges::request()
// throw.
Cloned clone(const InstanceConfig& config, const CloneOptions& wish, const Clock& clock);

}  // namespace keyagent::instance
