// SPDX-License-Identifier: Apache-2.0
#pragma once
// The life cycle of keys: the ledger records which exist and in which state, the vault holds them,
// this class keeps the two consistent. Journal first, then the token, then the journal (DESIGN
// decision 8).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/finding_kinds.h"
#include "agent/base/key_ops.h"
#include "agent/keys/key_record.h"
#include "agent/vault/token_vault.h"

namespace keyagent::keys {

struct Periods;
enum class Use { kSign, kSeal, kOpen, kVerify };

struct CreateRequest {
  KeyName name;
  Purpose purpose = Purpose::kSign;
  std::optional<KeyAlgorithm> algorithm;      // default_algorithm(purpose)
  std::optional<EnvelopeAlgorithm> envelope;  // default_envelope(purpose, algorithm)
  bool exchangeable = false;                  // storage keys only; its later generations are so too
  bool accepts_cbc = false;  // transport keys only; its later generations are so too
};

// A storage key of another token, which becomes a generation of `name` that opens and seals no
// more; or one that its owner brings, `into_use`: the active one where the name has none.
struct ImportRequest {
  KeyName name;
  Kid kid;             // as it was there
  WallTime created{};  // there
  std::string origin;  // KeyRecord::origin
  vault::Transferred transferred;
  bool into_use = false;
};

struct ImportResult {
  KeyRecord record;
  bool imported = false;  // false: this very key was there already
};

struct CreateResult {
  KeyRecord record;
  bool created = false;  // false: a key of this name with the same properties was there already
};

// Who orders rekeys over the link.
inline constexpr const char* kInstanceActor = "internal:instance";
inline constexpr const char* kSchedulerActor = "internal:scheduler";

// Why something changed, and who wanted it: ledger and audit log keep both.
struct Cause {
  std::string reason;
  std::string actor = "internal:agent";
};

struct RekeyRequest {
  KeyName name;
  std::optional<KeyAlgorithm> algorithm;      // as it is
  std::optional<EnvelopeAlgorithm> envelope;  // as it is where the algorithm allows it
  std::chrono::milliseconds drain{0};
  RekeyLimits limits{};
  bool beyond_limits = false;  // an operator asks for one more generation than the limit
};

struct CensusReport {
  std::string source;
  std::vector<CensusEntry> entries;  // none: the source is forgotten
  std::string owner;                 // as CensusEntry::actor
  bool overrides = false;
  CensusLimits limits;
};

// Whose a census entry is: "uid 1000" of "uid 1000 (alice)"; a renamed user stays the same.
std::string owner_of(const std::string& actor);

// What reconciliation found and did; each is one line of `keyagent doctor`.
struct Finding {
  enum class Kind {
    kOrphanRemoved,
    kKeyLost,
    kDuplicate,
    kMismatch,
    kForeign,
    kGhost,  // a destroyed key that the token holds again
    kRollback,
    kIntegrity,
    kUnfinished
  };
  Kind kind = Kind::kForeign;
  std::string kid;      // or empty
  std::string subject;  // name, or CKA_ID in hex with the token's label for it
  std::string text;     // what is the case
  std::string cure;     // the command or step that ends it; empty when nothing is to be done
  const FindingKind* what = nullptr;
  std::vector<std::string> commands;  // those of the cure
};
Finding make_finding(Finding::Kind kind, const FindingKind& what, std::string kid,
                     std::string subject, std::string text);

// Thread-safe. Readers never wait for the token: records are an immutable snapshot that changes
// swap. Every change is written to the ledger before and after the token acts, and may be repeated.
class KeyStore {
 public:
  struct Options {
    std::filesystem::path state_folder;  // holds ledger.db; created 0700
    const Clock* clock = nullptr;        // never null
    std::string agent_id;              // goes into CKA_LABEL, so that a person sees whose key it is
    std::size_t history_rows = 10000;  // of changes of states, and of finished rekeys
  };
  // Opens or creates the ledger. Throws Error{kIntegrity} for one that is damaged, newer than this
  // program, or older than the token's epoch (a restored backup): nothing is used then, and nothing
  // is changed.
  // A folder that cannot be written: keys are used, every change throws Error{kKeyState}.
  KeyStore(Options options, vault::TokenVault& vault);
  ~KeyStore();

  // Why nothing is changed since the ledger was opened; empty: it is written.
  std::string use_only() const;
  // Opens the ledger for writing, when it was opened without and can be written now. True: then
  // reconcile() is due. Throws Error.
  bool resume_changes();
  // Changes of states, or finished rekeys, that the ledger keeps.
  std::uint64_t history_size() const;
  void set_history_rows(std::size_t rows);

  // Compares ledger and token and completes what a crash interrupted (orphans with journaled ids
  // are removed; unknown objects are never touched). Called at start, and again when the token
  // comes back. Idempotent. Throws Error{kIntegrity} on rollback, and token codes when the token is
  // absent.
  void reconcile();
  // The token could not be reached for that: until it is, uses of keys fail with this fault.
  void note_unreached(const Error& why);
  std::vector<Finding> findings() const;
  // How often ledger and token were compared.
  std::uint64_t reconciliations() const;
  // A key was not in the token at the last comparison, or at a use since: compare again.
  bool misses_keys() const;

  // Idempotent by name: Error{kExists} when the name has other properties. Creates exactly one key
  // pair, also after a crash.
  CreateResult create(const CreateRequest& request, const Cause& cause = {"created"});
  // Wraps `kid` in the token for the holder of `recipient_spki`, which the caller has authorized.
  // Throws Error{kKeyState} for a key that was not created exchangeable, or that can no longer
  // open.
  Bytes wrap_for(const Kid& kid, ByteView recipient_spki, OaepHash hash);
  // Idempotent: the same key again changes nothing. Throws Error{kIntegrity} when another key is
  // there under this kid and for bytes that do not unwrap, Error{kKeyState} when it was destroyed
  // here, Error{kExists} when the name is another purpose's.
  ImportResult import(const ImportRequest& request, const Cause& cause);
  // Destroys one generation (name or kid). REQUIRES the caller to have confirmed. Idempotent. A
  // lost key is searched for once more: Error{kKeyState} when it has reappeared. Throws
  // Error{kKeyState} while sealed data names the key, in its drain period, and during its rekey.
  KeyRecord destroy(const std::string& which, const Cause& cause);
  // Suspend, resume, revoke: to kSuspended, kActive or kCompromised by the table of may_become().
  // Already there: nothing changes. Throws Error{kKeyState} for any other change.
  // A key that was suspended for a wrong signature is tested before it resumes: Error{kIntegrity}.
  KeyRecord change_state(const std::string& which, KeyState to, const Cause& cause);
  // Suspends in the ledger every key whose token gave a signature that does not verify; ops() has
  // refused them since. Returns those that it suspended. To be called often; does nothing as a
  // rule.
  std::vector<KeyRecord> suspend_faulty();
  // Narrows every generation of a sign key to an attestation purpose; the token is not touched.
  // False: it had that purpose already. Throws Error{kKeyState} for a key of another purpose, and
  // during a rekey.
  bool retype(const KeyName& name, Purpose to, const Cause& cause);
  // Records, across restarts, that a sign key was used as a key of the attestation purpose
  // `purpose`.
  void note_vouching(const Kid& kid, Purpose purpose);
  // nullopt: no such use is known.
  std::optional<Purpose> vouched_as(const Kid& kid) const;

  // Rekey, a step at a time; keys/rekey_runner calls them in the order of keys/rekey's table.
  //
  // Journals it, with the new key's CKA_ID. A rekey of this name that has not switched yet is
  // returned as it is. Throws Error{kKeyNotPresent, kUsage}; Error{kKeyState} beyond the limits;
  // Error{kUnsupported}, with what to do, for a key that others pinned (is_pinned()).
  RekeyRecord begin_rekey(const RekeyRequest& request, const Cause& cause);
  // Planned: makes the key, in state staged. reconcile() has removed what an earlier attempt left
  // in the token. Throws token codes: the rekey stays planned.
  RekeyRecord make_next_key(std::uint64_t id);
  // One real operation with the new key, in a fresh session. Throws Error{kIntegrity}, token codes.
  void test_next_key(std::uint64_t id);
  // Any step whose effect is in the ledger alone. kSwitchDone swaps the states of both generations
  // in the same transaction. Throws Error{kKeyState} when the table has no such edge, and as
  // begin_rekey() for a key that was pinned meanwhile.
  RekeyRecord record_rekey(std::uint64_t id, RekeyEvent event, const Cause& cause);
  // Draining: destroys the old generation. Throws Error{kKeyState} while sealed data names it.
  RekeyRecord retire_old_key(std::uint64_t id);
  // Aborting: destroys what was made of the new key.
  RekeyRecord discard_next_key(std::uint64_t id);
  std::vector<RekeyRecord> rekeys() const;
  // Throws Error{kUsage} for an unknown id.
  RekeyRecord rekey(std::uint64_t id) const;
  // The elapsed drain time; survives a restart, does not bump the epoch.
  void note_drained(std::uint64_t id, std::chrono::milliseconds drained);

  // Sealed data by source. No entries: the source is removed. An entry with an empty kid and count
  // 0 records that a source was scanned and holds nothing.
  void record_census(const std::string& source, const std::vector<CensusEntry>& entries);
  // For a caller: a source is changed by its owner alone, or by who overrides that. Throws
  // Error{kDenied} for another's source, Error{kKeyState} beyond the limits.
  void record_census(const CensusReport& report);
  std::vector<CensusEntry> census() const;
  // Whether this key was counted after `when`, with any result.
  bool counted_since(const Kid& kid, WallTime when) const;
  std::uint64_t sealed_count(const Kid& kid) const;
  std::vector<StateChange> history(const Kid& kid) const;

  // Keeps what an authority issued for this key, in place of what was there; the caller has checked
  // it. False: just this is there already. An empty chain removes it. Throws Error{kKeyState} for
  // a key that is at its end.
  bool install_certificate(const Kid& kid, const std::vector<Bytes>& chain, const Cause& cause);
  std::optional<CertificateRecord> certificate(const Kid& kid) const;
  // All of them, as they are now.
  std::shared_ptr<const std::map<Kid, CertificateRecord>> certificates() const;

  // When keys were last used through ops(). In memory; note_uses() puts it on the disk.
  std::map<Kid, WallTime> last_used() const;
  void note_uses();
  // A text that is lost without harm, for the scheduler: no epoch, no digest. Empty: never noted.
  void note(const std::string& name, const std::string& value);
  std::string noted(const std::string& name) const;

  std::vector<KeyRecord> list() const;
  // By kid, or by name: its active generation, else a suspended one, else the newest that is left.
  // Throws Error{kKeyNotPresent}.
  KeyRecord find(const std::string& which) const;
  pkcs11::Custody prove_custody(const std::string& which);

  // The vault behind the state table: the only KeyOps that anything above may use. Lives as long as
  // the store.
  KeyOps& ops();
  // The same, and a staged key works too: for what proves it to its peer (gate/op_link.cpp), and
  // nothing else.
  KeyOps& proving_ops();

  // Originator periods: from refused_from() on a key signs and seals nothing. The caller tells the
  // periods at the start and when they change, and the time while the clock is trusted.
  void set_periods(const Periods& periods);
  void believe(WallTime now);
  // The last trusted time, also across restarts; the epoch of time: none yet.
  WallTime believed() const;
  // When this state folder was first used by a program that enforces them.
  WallTime enforced_since() const;
  // Throws what ops() would throw for such a use, and notes it as one: for what is done with a
  // public key alone.
  void require_use(const Kid& kid, Use use) const;
  // For TLS handshakes alone: ops(), and for HandshakeOverlap::kLength after a rekey also the auth
  // key that was active before it.
  KeyOps& handshake_ops();
  // handshake_ops(), but for a key whose rekey has not switched yet also past its originator
  // period: what replaces a key may be signed by it.
  KeyOps& ops_while_rekeying(const Kid& old);

  // Grows by one with each change; also in the token. SHA-256 over all rows at this epoch, in hex,
  // for the audit log.
  std::uint64_t epoch() const;
  std::string digest() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// How it came into the token: what its attributes there are held to.
vault::Birth birth_of(const KeyRecord& record);

// What a key of this name attests, if anything: the instance's keys as it names them. A sign
// key of such a name, made before there were purposes for it, is held to that purpose.
std::optional<Purpose> purpose_of_name(const KeyName& name);

// SP 800-57 table: may a key in this state do this? Pure.
bool state_allows(KeyState state, Use use);
// May the state change so? Pure.
bool may_become(KeyState from, KeyState to);

}  // namespace keyagent::keys
