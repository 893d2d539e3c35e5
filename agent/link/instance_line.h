// SPDX-License-Identifier: Apache-2.0
#pragma once
// One part's connection to the instance's interface, kept while its key and address stay the same.

#include <memory>
#include <string>

#include "agent/base/mutex.h"
#include "agent/link/instance_api.h"
#include "agent/link/instance_connection.h"
#include "agent/link/own_keys.h"
#include "agent/link/timed_mutex.h"

namespace keyagent::link {

// Who holds turn() may use the rest; one at a time talks to the instance.
class InstanceLine {
 public:
  InstanceLine(const LinkContext& around, OwnKeys& keys, TlsLibrary& library,
               const LinkStore& store)
      : context_(around), keys_(keys), library_(library), store_(store) {}

  TimedMutex& turn() RETURN_CAPABILITY(turn_) { return turn_; }
  // `asked` may be older than the last rekey. Throws what the gate refuses with, and what
  // options_for() throws.
  InstanceApi& api(const LinkState& asked) REQUIRES(turn_);
  // After a failure: the next one begins again.
  void drop() REQUIRES(turn_) { api_.reset(); }
  // The last connection was with another key than the one that is in force now:
  // the instance ends such sessions, whatever was asked in them.
  bool key_changed(const LinkState& state) const REQUIRES(turn_);

 private:
  const LinkContext& context_;
  OwnKeys& keys_;
  TlsLibrary& library_;
  const LinkStore& store_;
  TimedMutex turn_;
  std::unique_ptr<InstanceApi> api_ GUARDED_BY(turn_);
  std::string api_for_ GUARDED_BY(turn_);  // kid and address it was made for
  std::string api_kid_ GUARDED_BY(turn_);
};

// MISSION R3: an agent that is not trusted gets nothing. Throws Error{kKeyState}.
std::shared_ptr<const LinkState> require_trusted(const LinkStore& store,
                                                 const InstanceConnection& uplink);

}  // namespace keyagent::link
