// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by the sources of KeyStore only: key_store, key_creation, key_destruction, key_rekey,
// reconciliation and others of this room.

#include <atomic>
#include <functional>
#include <map>
#include <optional>

#include "agent/base/disk.h"
#include "agent/base/error.h"
#include "agent/base/mutex.h"
#include "agent/keys/cryptoperiod.h"
#include "agent/keys/guarded_keys.h"
#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "agent/keys/reconcile.h"

namespace keyagent::keys {

inline vault::VaultKey vault_key(const KeyRecord& record) {
  return {info_of(record), record.cka_id, birth_of(record)};
}

// Throws Error{kUsage} unless the purpose allows these algorithms.
void require_fitting(Purpose purpose, KeyAlgorithm algorithm, EnvelopeAlgorithm envelope);

void narrow_by_name(KeyRecord& record);

// The rekey of this name that may still be aborted or has to be announced; nullptr: none.
const RekeyRecord* under_way(const Snapshot& snapshot, const KeyName& name);

// Throws Error{kUnsupported}, with what to do, for a key that serves as `purpose` and that others
// pinned (is_pinned()).
void require_not_pinned(const KeyRecord& key, Purpose purpose);

struct KeyStore::Impl {
  const Options options;
  vault::TokenVault& vault;
  FileLock lock GUARDED_BY(change_mutex);
  mutable Mutex change_mutex;  // one change at a time; held across the token's work
  mutable Ledger ledger GUARDED_BY(change_mutex);
  mutable Mutex snapshot_mutex;
  std::shared_ptr<const Snapshot> snapshot GUARDED_BY(snapshot_mutex);
  std::vector<Finding> findings GUARDED_BY(snapshot_mutex);
  std::atomic<std::uint64_t> reconciliations{0};
  std::string use_only GUARDED_BY(snapshot_mutex);
  std::atomic<std::uint64_t> history_size{0};
  // Why nothing may be changed; none after a good reconciliation.
  std::optional<Error> refusal GUARDED_BY(change_mutex);
  std::shared_ptr<const Periods> periods GUARDED_BY(snapshot_mutex);  // null: none are enforced
  WallTime enforced_since{};
  UseTimes used;
  FaultyKeys faulty;
  BelievedTime believed{WallTime{}};
  HandshakeOverlap overlap;
  GuardedKeys guarded, proving, rekeying, handshaking;

  Impl(Options options_in, vault::TokenVault& vault_in);

  std::shared_ptr<const Snapshot> current() const;
  const KeyRecord* find_named(const Snapshot& from, const KeyName& name) const;
  KeyRecord find(const std::string& which) const;
  int next_generation(const KeyName& name) const;
  void require_reconciled() const REQUIRES(change_mutex);

  // Readers get the new state at once; `mark` sets what only the token knows (usable, finding).
  void publish(LedgerState state, const std::function<void(KeyRecord&)>& mark)
      REQUIRES(change_mutex);
  // Readers get it, with the ends of its originator periods.
  void show(std::shared_ptr<Snapshot> fresh);
  void mark_ends(Snapshot& fresh) const REQUIRES(snapshot_mutex);
  void begin_enforcement() REQUIRES(change_mutex);
  void require_within_limits(const Snapshot& from, const RekeyRequest& request,
                             const Cause& cause) const;
  void set_unreached(const Error& why);
  // After a change: the rest stays as the last reconciliation marked it.
  void republish() REQUIRES(change_mutex);

  // The token's copy of the epoch; nullopt where it keeps none yet.
  std::optional<std::uint64_t> epoch_in_token();
  void remember_epoch() REQUIRES(change_mutex);
  void require_no_rollback(std::uint64_t epoch);
  // What was usable is not anymore: the ledger must not be obeyed.
  void distrust(const Error& why) REQUIRES(change_mutex);
  void set_findings(std::vector<Finding> fresh);
  void forget_findings(const Kid& kid);

  // Makes the key that `step` plans: journaled, generated, tested, recorded, or nothing of it left.
  KeyRecord make(const JournalStep& step) REQUIRES(change_mutex);
  KeyRecord complete(const JournalStep& step, const Bytes& spki);
  // After the row is on the disk: readers see the key.
  KeyRecord take_into_use(const KeyRecord& record) REQUIRES(change_mutex);
  std::string label_of(const KeyName& name) const;
  // Throws unless the generation is the one that was imported so, whose value `transferred` holds.
  void require_same(const KeyRecord& known, const ImportRequest& request);
  void undo(const CkaId& cka_id) REQUIRES(change_mutex);
  void begin_destruction(const KeyRecord& record, const Cause& cause) REQUIRES(change_mutex);
  void finish_destruction(KeyRecord record, const Cause& cause) REQUIRES(change_mutex);
  bool is_gone(const KeyRecord& record) const;
  void require_destroyable(const KeyRecord& record) const;
  void require_not_back(const KeyRecord& record) REQUIRES(change_mutex);

  void reconcile() REQUIRES(change_mutex);
  void finish_steps(const Plan& plan, const LedgerState& state, std::vector<Finding>& found)
      REQUIRES(change_mutex);
  void remove_one(const JournalStep& step, const LedgerState& state, std::vector<Finding>& found)
      REQUIRES(change_mutex);
  void finish_one(const JournalStep& step, std::vector<Finding>& found) REQUIRES(change_mutex);
  void adopt_all(const std::vector<KeyRecord>& keys, std::map<Kid, std::string>& broken,
                 std::vector<Finding>& found);

  RekeyRecord find_rekey(std::uint64_t id) const;
  // The record after `event`; throws Error{kKeyState} when the table has no such edge.
  RekeyRecord moved(RekeyRecord rekey, RekeyEvent event) const;
  void switch_keys(const RekeyRecord& rekey, const Cause& cause) REQUIRES(change_mutex);
  // What a sign key was used as, if it was used as a key that vouches.
  std::optional<Purpose> vouched_as(const Kid& kid) const REQUIRES(change_mutex);
  // Throws Error{kUnsupported} for a key that others pinned, by its purpose or by what it serves
  // as.
  void require_rekeyable(const KeyRecord& key) const REQUIRES(change_mutex);
};

}  // namespace keyagent::keys
