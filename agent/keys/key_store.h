#pragma once
// The life of keys: the ledger says which exist and in which state, the vault has them, this class
// keeps the two true to each other. Journal first, then the token, then the journal (DESIGN
// decision 8).

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/key_ops.h"
#include "agent/vault/token_vault.h"

namespace keyagent::keys {

// One generation of a key, as the ledger has it.
struct KeyRecord {
  Kid kid;  // empty while the generation is only journaled
  KeyName name;
  int generation = 1;
  Purpose purpose = Purpose::kSign;
  KeyAlgorithm algorithm = KeyAlgorithm::kEcP256;
  EnvelopeAlgorithm envelope = EnvelopeAlgorithm::kNone;
  KeyState state = KeyState::kActive;
  CkaId cka_id;
  Bytes spki;
  WallTime created{}, changed{};
  std::string reason;  // of the last change of state
  bool usable = true;  // false: in the ledger, but the token does not hold it or answers wrongly
                       // (then `finding` says what)
  std::string finding;
};

struct CreateRequest {
  KeyName name;
  Purpose purpose = Purpose::kSign;
  std::optional<KeyAlgorithm> algorithm;      // default_algorithm(purpose)
  std::optional<EnvelopeAlgorithm> envelope;  // default_envelope(purpose, algorithm)
};

struct CreateResult {
  KeyRecord record;
  bool created = false;  // false: a key of this name with the same properties was there already
};

// What reconciliation found and did; each is one line of `keyagent doctor`.
struct Finding {
  enum class Kind {
    kOrphanRemoved,
    kKeyLost,
    kDuplicate,
    kMismatch,
    kForeign,
    kRollback,
    kIntegrity,
    kUnfinished
  };
  Kind kind = Kind::kForeign;
  std::string kid;      // or empty
  std::string subject;  // name, or CKA_ID in hex with the token's label for it
  std::string text;     // what is the case
  std::string cure;     // the command or step that ends it; empty when nothing is to be done
};

// Thread-safe. Readers never wait for the token: records are an immutable snapshot that changes
// swap.
class KeyStore {
 public:
  struct Options {
    std::filesystem::path state_folder;  // holds ledger.db; created 0700
    const Clock* clock = nullptr;        // never null
    std::string agent_id;  // goes into CKA_LABEL, so that a person sees whose key it is
  };
  // Opens or creates the ledger. Throws Error{kIntegrity} for one that is damaged, newer than this
  // program, or older than the token's epoch (a restored backup): nothing is used then, and nothing
  // is changed.
  KeyStore(Options options, vault::TokenVault& vault);
  ~KeyStore();

  // Compares ledger and token and finishes what a crash left (orphans of our journaled ids are
  // removed, strangers are never touched). Called at start, and again when the token comes back.
  // Safe to repeat. Throws Error{kIntegrity} on rollback; token codes when the token is not there.
  void reconcile();
  std::vector<Finding> findings() const;

  // Idempotent by name: Error{kExists} when the name has other properties. Exactly one key pair is
  // made, whatever crashes.
  CreateResult create(const CreateRequest& request);
  // Destroys the active generation of `which` (name or kid). REQUIRES the caller to have confirmed.
  // Idempotent.
  KeyRecord destroy(const std::string& which, const std::string& reason);

  std::vector<KeyRecord> list() const;
  // By name (its active generation) or kid. Throws Error{kKeyNotPresent}.
  KeyRecord find(const std::string& which) const;
  pkcs11::Custody prove_custody(const std::string& which);

  // The vault behind the state table: the only KeyOps that anything above may use. Lives as long as
  // the store.
  KeyOps& ops();

  // Grows by one with each change; also in the token. SHA-256 over all rows at this epoch, in hex,
  // for the audit log.
  std::uint64_t epoch() const;
  std::string digest() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// SP 800-57 table: may a key in this state do this? Pure.
enum class Use { kSign, kSeal, kOpen, kVerify };
bool state_allows(KeyState state, Use use);
// May the state change so? Pure.
bool may_become(KeyState from, KeyState to);

}  // namespace keyagent::keys
