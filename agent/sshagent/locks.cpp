#include "agent/sshagent/locks.h"

#include <openssl/evp.h>

#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::sshagent {
namespace {

constexpr std::size_t kSalt = 16, kHash = 32;
constexpr std::uint64_t kCost = 1U << 14U, kBlock = 8, kMostMemory = 64U << 20U;

SecretBytes hash_of(ByteView passphrase, const Bytes& salt) {
  SecretBytes hash(kHash);
  if (EVP_PBE_scrypt(reinterpret_cast<const char*>(passphrase.data()), passphrase.size(),
                     salt.data(), salt.size(), kCost, kBlock, 1, kMostMemory, hash.data(),
                     hash.size()) != 1)
    throw Error(Code::kInternal, "scrypt failed");
  return hash;
}

}  // namespace

class Locks::Turn {
 public:
  Turn(Locks& locks, std::uint32_t uid) : locks_(locks), uid_(uid) {
    const std::lock_guard guard(locks_.mutex_);
    if (!locks_.hashing_.insert(uid).second)
      throw Error(Code::kBusy, "another passphrase of this uid is being looked at");
  }
  Turn(const Turn&) = delete;
  ~Turn() {
    const std::lock_guard guard(locks_.mutex_);
    locks_.hashing_.erase(uid_);
  }

 private:
  Locks& locks_;
  const std::uint32_t uid_;
};

bool Locks::locked(std::uint32_t uid) const {
  const std::lock_guard guard(mutex_);
  return locks_.contains(uid);
}

bool Locks::lock(std::uint32_t uid, ByteView passphrase) {
  if (locked(uid)) return false;
  const Turn turn(*this, uid);
  Bytes salt = random_bytes(kSalt);
  SecretBytes hash = hash_of(passphrase, salt);
  const std::lock_guard guard(mutex_);
  return locks_.try_emplace(uid, Lock{std::move(salt), std::move(hash)}).second;
}

bool Locks::unlock(std::uint32_t uid, ByteView passphrase) {
  Bytes salt;
  {
    const std::lock_guard guard(mutex_);
    const auto found = locks_.find(uid);
    if (found == locks_.end()) return false;
    salt = found->second.salt;
  }
  const Turn turn(*this, uid);
  const SecretBytes hash = hash_of(passphrase, salt);
  const std::lock_guard guard(mutex_);
  const auto found = locks_.find(uid);
  if (found == locks_.end() || !equal_secret(found->second.hash, hash)) return false;
  locks_.erase(found);
  return true;
}

}  // namespace keyagent::sshagent
