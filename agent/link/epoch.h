// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instance's signed event number, stored and returned to it. An instance that sends a lower
// number was restored from a backup.

#include <cstdint>
#include <string>

#include "agent/link/link_context.h"
#include "agent/link/link_state.h"

namespace keyagent::link {

// Of the link's thread.
class Epoch {
 public:
  Epoch(const LinkContext& around, LinkStore& store) : context_(around), store_(store) {}

  // Stores the greatest number that the instance has sent; a lower one raises an alarm, once. A
  // number that the pinned confirmation key has not signed for this instance is ignored, and logged
  // once.
  void hear(const LinkState& state, const std::string& jws);

 private:
  void alarm(Code code, const std::string& text);

  const LinkContext& context_;
  LinkStore& store_;
  std::string alarmed_;
};

}  // namespace keyagent::link
