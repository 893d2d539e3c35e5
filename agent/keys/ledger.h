// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ledger's SQL, and nothing else: which keys exist, in which state, and which steps were begun.
// Schema: README.md.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/keys/key_record.h"

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
  std::vector<RekeyRecord> rekeys;  // in the order of their beginning, finished ones too
  std::shared_ptr<const Census> census;
  std::map<Kid, CertificateRecord> certificates;
};

// One connection. Not thread-safe. Every change is one transaction that is on disk when the call
// returns (WAL, synchronous=FULL), bumps the epoch and renews the digest. Throws Error{kIntegrity}
// for a damaged or newer ledger, Error{kInternal} when the disk refuses: nothing was changed then.
class Ledger {
 public:
  // Where the file or its folder cannot be written, the whole ledger is read into memory: changes
  // then throw Error{kKeyState}, and notes are lost with the process. `history_rows`: how many
  // state changes, and how many finished rekeys, are kept.
  explicit Ledger(const std::filesystem::path& file, std::size_t history_rows = kHistoryRows);
  ~Ledger();
  static constexpr std::size_t kHistoryRows = 10000;
  // Why it is only read; empty: it is written.
  const std::string& read_only() const { return read_only_; }
  // Of one that is only read: opens the file for writing, with the notes that were made meanwhile.
  // False: it still cannot be written. Throws as the constructor.
  bool reopen();
  void set_history_rows(std::size_t rows) { history_rows_ = rows; }
  std::uint64_t history_size();  // rows, of changes or of rekeys, whichever has more
  Ledger(const Ledger&) = delete;

  // All of it, with integrity_check and digest verified.
  LedgerState load();
  // The same after changes of this connection, without the verification: its cost is that of what
  // changed, not that of the census.
  LedgerState reload();

  void begin_step(const JournalStep& step);
  // Writes the key's row and removes its step. A rekey that waits for this key moves to
  // `generated`.
  void finish_create(const KeyRecord& record);
  void finish_destroy(const KeyRecord& record, KeyState before);
  void drop_step(const CkaId& cka_id);

  // Keys whose state changed, each with the state it had before, and the rekey that caused it, all
  // or nothing.
  struct Changed {
    KeyRecord key;
    KeyState before;
  };
  void record_states(const std::vector<Changed>& keys, const RekeyRecord* rekey = nullptr);
  // Keys whose purpose was narrowed.
  void record_purposes(const std::vector<KeyRecord>& keys);
  // Returns the record with its id.
  RekeyRecord begin_rekey(RekeyRecord rekey);
  void record_rekey(const RekeyRecord& rekey);

  // Replaces what was known of one source; no entries: the source is forgotten.
  void record_census(const std::string& source, const std::vector<CensusEntry>& entries);
  // Replaces the key's chain; an empty one removes it.
  void record_certificate(const CertificateRecord& record);
  std::vector<StateChange> history(const Kid& kid);

  // Notes outside of the ledger's integrity: no epoch, no digest; losing them is harmless.
  void note(const std::string& name, const std::string& value);
  std::string noted(const std::string& name);
  void note_drained(std::uint64_t rekey, std::chrono::milliseconds drained);
  std::map<std::string, std::string> noted_under(const std::string& prefix);

 private:
  void change(const std::function<void()>& work);
  void transact(const std::function<void()>& work);
  void open();
  void open_copy();
  void forget_changes();
  void forget_rekeys(const RekeyRecord& newest);
  void execute(const char* sql);
  void prepare_schema();
  void migrate(std::int64_t from);
  void write_key(const KeyRecord& record);
  void write_change(const KeyRecord& record, KeyState before);
  void write_rekey(const RekeyRecord& rekey);
  void remove_step(const CkaId& cka_id);
  std::vector<KeyRecord> read_keys();
  std::vector<JournalStep> read_journal();
  std::vector<RekeyRecord> read_rekeys();
  LedgerState read_all();
  std::shared_ptr<const Census> read_census();
  std::string census_rows(const std::string& source);
  std::string all_census_rows();
  std::string census_hash();
  void forget_census_hashes();
  std::map<Kid, CertificateRecord> read_certificates();
  std::string compute_digest(std::uint64_t epoch);
  std::string read_meta(const std::string& name);
  void write_meta(const std::string& name, const std::string& value);

  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
  std::size_t history_rows_;
  std::string read_only_;
  // The census as the digest takes it: SHA-256 of each source's rows, and of all of them; empty:
  // to be made. This connection is the only writer (KeyStore's lock).
  std::optional<std::map<std::string, Bytes>> census_hashes_;
  std::string census_hash_;
  std::shared_ptr<const Census> census_;  // null: to be read
};

}  // namespace keyagent::keys
