// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sign keys that are used as keys that sign statements: made before there were purposes for that.

#include <set>
#include <utility>

#include "agent/base/mutex.h"
#include "agent/keys/key_store.h"

namespace keyagent::gate {

// Thread-safe.
class UntypedKeys {
 public:
  // Remembers, over restarts, what the key was used for.
  void note(keys::KeyStore& keys, const keys::KeyRecord& key, Purpose used_for);

 private:
  Mutex mutex_;
  std::set<std::pair<Kid, Purpose>> noted_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::gate
