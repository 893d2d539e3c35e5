// SPDX-License-Identifier: Apache-2.0
#pragma once
// Any KeyOps behind the state table: a key that may not be used is refused before anything below
// sees the request.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/base/mutex.h"
#include "agent/keys/handshake_overlap.h"
#include "agent/keys/key_store.h"

namespace keyagent::keys {

// When each key was last used, in seconds of wall time. Thread-safe; a slot lives as long as this.
class UseTimes {
 public:
  using Slot = std::atomic<std::int64_t>;
  Slot& slot(const Kid& kid);
  std::map<Kid, WallTime> all() const;

 private:
  mutable Mutex mutex_;
  std::map<Kid, std::unique_ptr<Slot>> slots_ GUARDED_BY(mutex_);
};

// An immutable snapshot of the ledger for readers.
struct Snapshot {
  std::vector<KeyRecord> records;
  std::vector<UseTimes::Slot*> uses;   // of the record at the same place
  std::vector<WallTime> refused_from;  // likewise: it signs and seals nothing from then on
  std::unordered_map<Kid, std::size_t> by_kid;
  std::unordered_map<std::string, std::size_t> by_name;  // the generation that a name means
  std::vector<RekeyRecord> rekeys;
  std::shared_ptr<const Census> census = std::make_shared<Census>();
  std::map<Kid, CertificateRecord> certificates;
  std::uint64_t epoch = 0;
  std::string digest;
  std::optional<Error> unreached;  // why the token was not compared with it yet
};
using CurrentSnapshot = std::function<std::shared_ptr<const Snapshot>()>;

// The newest wall time at which the clock was trusted (ClockWatch): a clock that jumps expires
// nothing.
using BelievedTime = std::atomic<WallTime>;

// Failures found by uses, until they are in the ledger. A key whose token gave a signature that
// does not verify is refused from that moment on (KeyStore::suspend_faulty). Thread-safe.
class FaultyKeys {
 public:
  // A key was not in the token when it was used.
  void miss() { missed_ = true; }
  void look() { missed_ = false; }
  bool missed() const { return missed_; }
  void add(const Kid& kid, const std::string& what);
  void remove(const Kid& kid);
  bool has(const Kid& kid) const;
  std::map<Kid, std::string> all() const;

 private:
  std::atomic<bool> missed_{false};
  std::atomic<bool> any_{false};  // so that a sound token costs no lock
  mutable Mutex mutex_;
  std::map<Kid, std::string> faults_ GUARDED_BY(mutex_);
};

// Thread-safe when the KeyOps behind it is.
class GuardedKeys final : public KeyOps {
 public:
  enum class Leniency {
    kNone,
    kStaged,      // a key that is not in effect yet may do what shows its peer that it is here
    kPastPeriod,  // a key past its originator period signs what replaces it
    kHandshakes   // an auth key that a rekey has just replaced completes handshakes
  };
  GuardedKeys(KeyOps& behind, CurrentSnapshot current, const Clock& clock,
              const BelievedTime& believed, FaultyKeys& faulty, const HandshakeOverlap& overlap,
              Leniency leniency = Leniency::kNone)
      : behind_(behind),
        current_(std::move(current)),
        clock_(clock),
        believed_(believed),
        faulty_(faulty),
        overlap_(overlap),
        leniency_(leniency) {}
  PublicKeyInfo public_key(const Kid& kid) override;
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  SecretBytes decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                          std::size_t cek_size) override;
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) override;
  SecretBytes agree(const Kid& kid, ByteView peer_point) override;
  WrappedCek wrap_cek(const Kid& kid, const SecretBytes& cek) override;
  SecretBytes unwrap_cek(const Kid& kid, const WrappedCek& wrapped, std::size_t cek_size) override;
  // Notes the use. Throws Error{kKeyNotPresent}, {kKeyLost} or {kKeyState}.
  void require(const Kid& kid, Use use) const;

 private:
  // Does the leniency allow what the key's state does not?
  bool is_excepted(const KeyRecord& record, Use use) const;
  // Runs `work` with the key, and records a failure that concerns the key.
  template <class Work>
  auto use(const Kid& kid, Use use, Work&& work) -> decltype(work());
  KeyOps& behind_;
  const CurrentSnapshot current_;
  const Clock& clock_;
  const BelievedTime& believed_;
  FaultyKeys& faulty_;
  const HandshakeOverlap& overlap_;
  const Leniency leniency_;
};

// Error{kKeyNotPresent} for a kid that the snapshot does not have.
const KeyRecord& record_of(const Snapshot& snapshot, const Kid& kid);
PublicKeyInfo info_of(const KeyRecord& record);

}  // namespace keyagent::keys
