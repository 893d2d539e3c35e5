// SPDX-License-Identifier: Apache-2.0
#pragma once
// How far the instance was, signed by it: kept, and said to it again. An instance that says less
// than before was restored from a backup.

#include <cstdint>
#include <string>

#include "agent/link/link_context.h"
#include "agent/link/link_state.h"

namespace keyagent::link {

// Of the link's thread.
class Epoch {
 public:
  Epoch(const LinkContext& around, LinkStore& store) : context_(around), store_(store) {}

  // The greatest that the instance has ever said stays; a smaller one is an alarm, once. What the
  // pinned confirmation key has not signed for this instance is none, and told once.
  void hear(const LinkState& state, const std::string& jws);

 private:
  void alarm(Code code, const std::string& text);

  const LinkContext& context_;
  LinkStore& store_;
  std::string alarmed_;
};

}  // namespace keyagent::link
