// SPDX-License-Identifier: Apache-2.0
#pragma once
// How long ago the instance acknowledged this agent: what it gave may be used for so long and no
// longer: an agent that is revoked while it is cut off must not read it forever.

#include "agent/base/mutex.h"
#include "agent/link/link_context.h"
#include "agent/link/link_state.h"

namespace keyagent::link {

// Thread-safe. Time advances with the wall clock or the steady clock, whichever advanced more, and
// never goes back; it is kept in link.json, so that neither a restart nor a clock that is set back
// extends it. For a state file of an earlier program it starts now.
class LastContact {
 public:
  LastContact(const LinkContext& around, LinkStore& store);

  // The instance has acknowledged us. `limit`: its own for cached credentials; 0: as it was.
  void acknowledged(std::chrono::milliseconds limit = {});
  // Saves the elapsed time; call it often, it writes every ten minutes.
  void save();

  struct Age {
    WallTime last;   // contact
    WallTime until;  // cached credentials may be used, as the wall clock shows it
    bool expired = false;
    std::chrono::milliseconds limit{0};  // of its age
  };
  Age age();
  // Throws Error{kKeyState} when the cached credential must not be used anymore.
  void require_fresh(const std::string& name);

 private:
  void advance() REQUIRES(mutex_);
  void write() REQUIRES(mutex_);
  std::chrono::milliseconds limit() const REQUIRES(mutex_);

  const LinkContext& context_;
  LinkStore& store_;
  Mutex mutex_;
  WallTime contact_ GUARDED_BY(mutex_), seen_ GUARDED_BY(mutex_), written_ GUARDED_BY(mutex_){};
  SteadyTime steady_ GUARDED_BY(mutex_);
  std::chrono::milliseconds theirs_ GUARDED_BY(mutex_){0};
};

}  // namespace keyagent::link
