// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who has locked this face of the agent for himself (ssh-add -x).

#include <cstdint>
#include <map>
#include <set>

#include "agent/base/bytes.h"
#include "agent/base/mutex.h"

namespace keyagent::sshagent {

// One lock per uid, in memory only: a restart unlocks. Only a salted scrypt hash of the passphrase
// is kept, while the lock holds. Thread-safe; the hash (16 MiB, about 50 ms, the cost of a wrong
// guess) is computed outside of the mutex, one at a time per uid, so that one user cannot occupy
// all threads. lock() and unlock() throw Error{kBusy} then.
class AgentLock {
 public:
  bool locked(std::uint32_t uid) const;
  // False when it is locked already.
  bool lock(std::uint32_t uid, ByteView passphrase);
  // False when it is not locked, or by another passphrase.
  bool unlock(std::uint32_t uid, ByteView passphrase);

 private:
  struct Lock {
    Bytes salt;
    SecretBytes hash;
  };
  class PassphraseTurn;

  mutable Mutex mutex_;
  std::map<std::uint32_t, Lock> locks_ GUARDED_BY(mutex_);
  std::set<std::uint32_t> hashing_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::sshagent
