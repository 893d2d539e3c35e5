// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/untyped_keys.h"

namespace keyagent::gate {

void UntypedKeys::note(keys::KeyStore& keys, const keys::KeyRecord& key, Purpose used_for) {
  {
    const MutexLock lock(mutex_);
    if (noted_.contains({key.kid, used_for})) return;
  }
  keys.note_vouching(key.kid, used_for);
  const MutexLock lock(mutex_);
  noted_.emplace(key.kid, used_for);
}

}  // namespace keyagent::gate
