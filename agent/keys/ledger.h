#pragma once
// The ledger's SQL, and nothing else: which keys exist, in which state, and which steps were begun.
// Schema: README.md.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/keys/key_store.h"

struct sqlite3;

namespace keyagent::keys {

// A step that was begun: journaled before the token acts, removed in the transaction that records
// the result.
struct JournalStep {
  enum class Kind { kCreate, kDestroy } kind = Kind::kCreate;
  CkaId cka_id;
  KeyRecord planned;  // what the key is to be (kCreate) or is (kDestroy)
};

struct LedgerState {
  std::uint64_t epoch = 0;
  std::string digest;
  std::vector<KeyRecord> keys;  // in the order of their creation
  std::vector<JournalStep> journal;
};

// One connection. Not thread-safe. Every change is one transaction that is on disk when the call
// returns (WAL, synchronous=FULL), bumps the epoch and renews the digest. Throws Error{kIntegrity}
// for a damaged or newer ledger, Error{kInternal} when the disk refuses: nothing was changed then.
class Ledger {
 public:
  explicit Ledger(const std::filesystem::path& file);
  ~Ledger();
  Ledger(const Ledger&) = delete;

  // All of it, with integrity_check and digest verified.
  LedgerState load();

  void begin_step(const JournalStep& step);
  // Writes the key's row and removes its step.
  void finish_create(const KeyRecord& record);
  void finish_destroy(const KeyRecord& record);
  void drop_step(const CkaId& cka_id);

 private:
  template <class Work>
  void change(Work&& work);
  void execute(const char* sql);
  void prepare_schema();
  void write_key(const KeyRecord& record);
  void remove_step(const CkaId& cka_id);
  std::vector<KeyRecord> read_keys();
  std::vector<JournalStep> read_journal();
  std::string compute_digest(std::uint64_t epoch);
  std::string read_meta(const std::string& name);
  void write_meta(const std::string& name, const std::string& value);

  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
};

}  // namespace keyagent::keys
