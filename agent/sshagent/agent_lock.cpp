// SPDX-License-Identifier: Apache-2.0
#include "agent/sshagent/agent_lock.h"

#include <openssl/evp.h>

#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::sshagent {
namespace {

constexpr std::size_t kSalt = 16, kHash = 32;
constexpr std::uint64_t kCost = 1U << 14U, kBlock = 8, kMaxMemory = 64U << 20U;

SecretBytes hash_of(ByteView passphrase, const Bytes& salt) {
  SecretBytes hash(kHash);
  if (EVP_PBE_scrypt(reinterpret_cast<const char*>(passphrase.data()), passphrase.size(),
                     salt.data(), salt.size(), kCost, kBlock, 1, kMaxMemory, hash.data(),
                     hash.size()) != 1)
    throw Error(Code::kInternal, "scrypt failed");
  return hash;
}

}  // namespace

class AgentLock::PassphraseTurn {
 public:
  PassphraseTurn(AgentLock& locks, std::uint32_t uid) : locks_(locks), uid_(uid) {
    const MutexLock guard(locks_.mutex_);
    if (!locks_.hashing_.insert(uid).second)
      throw Error(Code::kBusy, "another passphrase of this uid is being checked");
  }
  PassphraseTurn(const PassphraseTurn&) = delete;
  ~PassphraseTurn() {
    const MutexLock guard(locks_.mutex_);
    locks_.hashing_.erase(uid_);
  }

 private:
  AgentLock& locks_;
  const std::uint32_t uid_;
};

bool AgentLock::locked(std::uint32_t uid) const {
  const MutexLock guard(mutex_);
  return locks_.contains(uid);
}

bool AgentLock::lock(std::uint32_t uid, ByteView passphrase) {
  if (locked(uid)) return false;
  const PassphraseTurn turn(*this, uid);
  Bytes salt = random_bytes(kSalt);
  SecretBytes hash = hash_of(passphrase, salt);
  const MutexLock guard(mutex_);
  return locks_.try_emplace(uid, Lock{std::move(salt), std::move(hash)}).second;
}

bool AgentLock::unlock(std::uint32_t uid, ByteView passphrase) {
  Bytes salt;
  {
    const MutexLock guard(mutex_);
    const auto found = locks_.find(uid);
    if (found == locks_.end()) return false;
    salt = found->second.salt;
  }
  const PassphraseTurn turn(*this, uid);
  const SecretBytes hash = hash_of(passphrase, salt);
  const MutexLock guard(mutex_);
  const auto found = locks_.find(uid);
  if (found == locks_.end() || !equal_secret(found->second.hash, hash)) return false;
  locks_.erase(found);
  return true;
}

}  // namespace keyagent::sshagent
