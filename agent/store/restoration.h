// SPDX-License-Identifier: Apache-2.0
#pragma once
// A store that was restored from a backup, until someone has accepted it.

#include <cstdint>
#include <optional>

#include "agent/store/engine/repository.h"
#include "agent/store/rows.h"

namespace keyagent::store {

class Restoration : public Repository {
 public:
  using Repository::Repository;

  // nullopt: nothing shows that the store was restored, or it was accepted.
  std::optional<Restored> find();
  // Nothing unless it is beyond the last event and what is known. True: it was not known, and the
  // event was recorded.
  bool note(const Restored& seen, const Event& event);
  // Counts events on from beyond the greatest one seen, drops enrollment tokens that are not used
  // here (they may have been, since the backup), and records the event. False: it is not restored,
  // or a greater `epoch` than the one that is accepted was seen meanwhile.
  bool accept(const Event& event, std::int64_t epoch);
};

}  // namespace keyagent::store
