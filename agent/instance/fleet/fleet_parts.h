// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the parts of the fleet work with. All of it outlives them.

#include "agent/base/clock.h"
#include "agent/instance/ca/authority.h"
#include "agent/instance/common/host_keys.h"
#include "agent/instance/common/recorder.h"
#include "agent/instance/fleet/followers.h"
#include "agent/instance/fleet/links.h"
#include "agent/store/store.h"

namespace keyagent::instance {

struct FleetParts {
  HostKeys& keys;
  Authority& authority;
  store::Store& store;
  Links& links;
  Recorder& recorder;
  const Clock& clock;
  Followers& followers;
};

}  // namespace keyagent::instance
