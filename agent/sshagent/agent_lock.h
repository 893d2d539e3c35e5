// SPDX-License-Identifier: Apache-2.0
#pragma once
// Who has locked this face of the agent for himself (ssh-add -x).

#include <cstdint>
#include <map>
#include <set>

#include "agent/base/bytes.h"
#include "agent/base/mutex.h"

namespace keyagent::sshagent {

// One lock a uid, in memory only: a restart unlocks. Of a passphrase only a salted scrypt hash is
// kept, as long as the lock holds. Thread-safe; the hash (16 MiB, some 50 ms, which is what a wrong
// guess costs) is made outside the mutex, one at a time for a uid: no one keeps every thread busy.
// lock() and unlock() throw Error{kBusy} then.
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
