// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/key_store.h"

namespace keyagent::keys {

// SP 800-57 part 1 revision 5, §7: an active key protects and processes, a deactivated one only
// processes what is already protected. Verification needs no private key and is never refused.
bool state_allows(KeyState state, Use use) {
  switch (use) {
    case Use::kSign:
    case Use::kSeal:
      return state == KeyState::kActive;
    case Use::kOpen:
      return state == KeyState::kActive || state == KeyState::kDeactivated;
    case Use::kVerify:
      break;
  }
  return true;
}

bool may_become(KeyState from, KeyState to) {
  switch (from) {
    case KeyState::kStaged:
      return to == KeyState::kActive || to == KeyState::kCompromised || to == KeyState::kDestroyed;
    case KeyState::kActive:
      return to == KeyState::kSuspended || to == KeyState::kDeactivated ||
             to == KeyState::kCompromised || to == KeyState::kDestroyed;
    case KeyState::kSuspended:
      return to == KeyState::kActive || to == KeyState::kDeactivated ||
             to == KeyState::kCompromised || to == KeyState::kDestroyed;
    case KeyState::kDeactivated:
      return to == KeyState::kCompromised || to == KeyState::kDestroyed;
    case KeyState::kCompromised:
      return to == KeyState::kDestroyed;
    case KeyState::kDestroyed:
      break;
  }
  return false;
}

}  // namespace keyagent::keys
