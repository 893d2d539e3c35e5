#pragma once
// Sign keys that are used as keys that sign statements: made before there were purposes for that.

#include <mutex>
#include <set>

#include "agent/keys/key_store.h"

namespace keyagent::gate {

// Thread-safe.
class UntypedKeys {
 public:
  // Remembers, over restarts, what the key was used for.
  void note(keys::KeyStore& keys, const keys::KeyRecord& key, Purpose used_for);
  // nullopt: it was not used so, as far as is known.
  static std::optional<Purpose> used_for(const keys::KeyStore& keys, const Kid& kid);

 private:
  std::mutex mutex_;
  std::set<Kid> noted_;  // guarded by mutex_
};

}  // namespace keyagent::gate
