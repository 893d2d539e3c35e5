// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/guarded_keys.h"

#include "agent/base/encoding.h"

namespace keyagent::keys {
namespace {

const char* verb_of(Use use) {
  switch (use) {
    case Use::kSign:
      return "sign";
    case Use::kSeal:
      return "seal";
    case Use::kOpen:
      return "open";
    case Use::kVerify:
      break;
  }
  return "verify";
}

std::size_t index_of(const Snapshot& snapshot, const Kid& kid) {
  const auto found = snapshot.by_kid.find(kid);
  if (found == snapshot.by_kid.end()) {
    throw Error(Code::kKeyNotPresent,
                "KEY_NOT_PRESENT kid=" + kid.text() + ": this agent never had such a key",
                kid.text());
  }
  return found->second;
}

// SP 800-57 part 1 §5.3.5: past its originator period a key protects nothing new; what it protects
// already can be read.
void require_period(const KeyRecord& record, Use use, WallTime refused_from, WallTime now) {
  const bool originates = use == Use::kSign || use == Use::kSeal;
  if (!originates || now < refused_from) return;
  throw Error(Code::kKeyState,
              "key " + record.name.text() + " does not " + verb_of(use) +
                  ": its cryptoperiod and grace period ended at " + rfc3339(refused_from) +
                  "; run: keyagent rekey " + record.name.text(),
              record.kid.text());
}

}  // namespace

UseTimes::Slot& UseTimes::slot(const Kid& kid) {
  const MutexLock lock(mutex_);
  auto& slot = slots_[kid];
  if (!slot) slot = std::make_unique<Slot>(0);
  return *slot;
}

std::map<Kid, WallTime> UseTimes::all() const {
  const MutexLock lock(mutex_);
  std::map<Kid, WallTime> out;
  for (const auto& [kid, slot] : slots_) {
    if (const auto seconds = slot->load(std::memory_order_relaxed); seconds != 0)
      out[kid] = WallTime(std::chrono::seconds(seconds));
  }
  return out;
}

void FaultyKeys::add(const Kid& kid, const std::string& what) {
  const MutexLock lock(mutex_);
  faults_.emplace(kid, what);
  any_ = true;
}

void FaultyKeys::remove(const Kid& kid) {
  const MutexLock lock(mutex_);
  faults_.erase(kid);
  any_ = !faults_.empty();
}

bool FaultyKeys::has(const Kid& kid) const {
  if (!any_) return false;
  const MutexLock lock(mutex_);
  return faults_.contains(kid);
}

std::map<Kid, std::string> FaultyKeys::all() const {
  const MutexLock lock(mutex_);
  return faults_;
}

const KeyRecord& record_of(const Snapshot& snapshot, const Kid& kid) {
  return snapshot.records[index_of(snapshot, kid)];
}

PublicKeyInfo info_of(const KeyRecord& record) {
  return {record.kid,      record.name.text(), record.algorithm,  record.purpose,
          record.envelope, record.spki,        record.accepts_cbc};
}

bool GuardedKeys::is_excepted(const KeyRecord& record, Use use) const {
  if (leniency_ == Leniency::kStaged) return record.state == KeyState::kStaged;
  return leniency_ == Leniency::kHandshakes && use == Use::kSign &&
         record.state == KeyState::kDeactivated && overlap_.covers(record.kid, clock_.now_steady());
}

void GuardedKeys::require(const Kid& kid, Use use) const {
  const auto snapshot = current_();
  const std::size_t at = index_of(*snapshot, kid);
  const KeyRecord& record = snapshot->records[at];
  if (!state_allows(record.state, use) && !is_excepted(record, use)) {
    throw Error(Code::kKeyState,
                "key " + record.name.text() + " is " + std::string(name_of(record.state)) +
                    " and does not " + verb_of(use),
                kid.text());
  }
  if (leniency_ != Leniency::kPastPeriod)
    require_period(record, use, snapshot->refused_from[at], believed_.load());
  if (faulty_.has(kid)) {
    throw Error(Code::kKeyState,
                "key " + record.name.text() + " is suspended: " + std::string(kWrongSignature) +
                    "; run: keyagent doctor",
                kid.text());
  }
  // Not the key is at fault, but the token (MISSION X16).
  if (!record.usable && snapshot->unreached) {
    throw Error(snapshot->unreached->code(),
                "key " + record.name.text() + " cannot be used: " + snapshot->unreached->what(),
                kid.text());
  }
  if (!record.usable) {
    throw Error(record.mismatched ? Code::kIntegrity : Code::kKeyLost,
                "key " + record.name.text() + " cannot be used: " + record.finding +
                    "; run: keyagent doctor",
                kid.text());
  }
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(clock_.now().time_since_epoch());
  snapshot->uses[at]->store(now.count(), std::memory_order_relaxed);
}

template <class Work>
auto GuardedKeys::use(const Kid& kid, Use use, Work&& work) -> decltype(work()) {
  require(kid, use);
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() == Code::kKeyLost) faulty_.miss();
    if (error.code() == Code::kIntegrity && use == Use::kSign) faulty_.add(kid, error.what());
    throw;
  }
}

PublicKeyInfo GuardedKeys::public_key(const Kid& kid) {
  return info_of(record_of(*current_(), kid));
}

Bytes GuardedKeys::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  return use(kid, Use::kSign, [&] { return behind_.sign(kid, algorithm, input); });
}

SecretBytes GuardedKeys::decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                                     std::size_t cek_size) {
  return use(kid, Use::kOpen, [&] { return behind_.decrypt_cek(kid, hash, ciphertext, cek_size); });
}

std::optional<SecretBytes> GuardedKeys::decrypt(const Kid& kid, OaepHash hash,
                                                ByteView ciphertext) {
  return use(kid, Use::kOpen, [&] { return behind_.decrypt(kid, hash, ciphertext); });
}

SecretBytes GuardedKeys::agree(const Kid& kid, ByteView peer_point) {
  return use(kid, Use::kOpen, [&] { return behind_.agree(kid, peer_point); });
}

WrappedCek GuardedKeys::wrap_cek(const Kid& kid, const SecretBytes& cek) {
  return use(kid, Use::kSeal, [&] { return behind_.wrap_cek(kid, cek); });
}

SecretBytes GuardedKeys::unwrap_cek(const Kid& kid, const WrappedCek& wrapped,
                                    std::size_t cek_size) {
  return use(kid, Use::kOpen, [&] { return behind_.unwrap_cek(kid, wrapped, cek_size); });
}

}  // namespace keyagent::keys
