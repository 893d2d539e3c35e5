#include "agent/keys/ledger.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::keys {
namespace {

constexpr int kFormat = 1;
constexpr int kApplication = 0x6B657961;  // "keya"

constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS keys (
  cka_id TEXT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, state TEXT NOT NULL, spki BLOB NOT NULL,
  created TEXT NOT NULL, changed TEXT NOT NULL, reason TEXT NOT NULL, UNIQUE (name, generation)) STRICT;
CREATE TABLE IF NOT EXISTS journal (
  cka_id TEXT PRIMARY KEY, kind TEXT NOT NULL, kid TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
)sql";

class Statement {
 public:
  Statement(sqlite3* db, const std::string& sql) : db_(db) {
    if (sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK) fail();
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;

  Statement& text(const std::string& value) {
    sqlite3_bind_text(statement_, ++bound_, value.c_str(), static_cast<int>(value.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Statement& text(std::string_view value) { return text(std::string(value)); }
  Statement& number(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& blob(const Bytes& value) {
    static constexpr std::uint8_t kNothing = 0;
    sqlite3_bind_blob(statement_, ++bound_, value.empty() ? &kNothing : value.data(),
                      static_cast<int>(value.size()), SQLITE_TRANSIENT);
    return *this;
  }
  bool step() {
    const int rc = sqlite3_step(statement_);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) fail();
    return rc == SQLITE_ROW;
  }
  std::string text_at(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text == nullptr
               ? std::string()
               : std::string(text,
                             static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::int64_t number_at(int column) const { return sqlite3_column_int64(statement_, column); }
  Bytes blob_at(int column) const {
    const auto* bytes = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_, column));
    return bytes == nullptr ? Bytes()
                            : Bytes(bytes, bytes + sqlite3_column_bytes(statement_, column));
  }

 private:
  [[noreturn]] void fail() const {
    const int rc = sqlite3_errcode(db_);
    const bool damaged = rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
    throw Error(damaged ? Code::kIntegrity : Code::kInternal,
                std::string("the ledger ") + (damaged ? "is damaged" : "cannot be used") + ": " +
                    sqlite3_errmsg(db_));
  }
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

[[noreturn]] void throw_damaged(const std::filesystem::path& file, const std::string& what) {
  throw Error(Code::kIntegrity, "the ledger " + file.string() + " is damaged (" + what +
                                    "); nothing was changed: restore it from its newest backup");
}

// What a text of the ledger must parse as; a foreign word is damage.
template <class Value>
Value parsed(const std::optional<Value>& value, const std::filesystem::path& file,
             const std::string& what) {
  if (!value) throw_damaged(file, what);
  return *value;
}

// One row in canonical form: every field with its length, so that no two rows read alike.
void digest_field(std::string& out, std::string_view field) {
  out.append(std::to_string(field.size())).append(":").append(field).append(";");
}

}  // namespace

Ledger::Ledger(const std::filesystem::path& file) : file_(file) {
  const mode_t before = ::umask(0077);
  const int rc = sqlite3_open_v2(
      file.c_str(), &db_,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
      nullptr);
  ::umask(before);
  if (rc != SQLITE_OK) {
    const std::string why = db_ != nullptr ? sqlite3_errmsg(db_) : "out of memory";
    sqlite3_close(db_);
    throw Error(Code::kConfiguration, "the ledger " + file.string() + " cannot be opened: " + why);
  }
  try {
    sqlite3_busy_timeout(db_, 5000);
    prepare_schema();
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

Ledger::~Ledger() {
  sqlite3_close(db_);
}

void Ledger::execute(const char* sql) {
  char* message = nullptr;
  const int rc = sqlite3_exec(db_, sql, nullptr, nullptr, &message);
  if (rc == SQLITE_OK) return;
  const std::string why = message != nullptr ? message : sqlite3_errstr(rc);
  sqlite3_free(message);
  if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB) throw_damaged(file_, why);
  throw Error(Code::kInternal, "the ledger " + file_.string() + " cannot be written: " + why);
}

void Ledger::prepare_schema() {
  execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;");
  std::int64_t format = 0, application = 0;
  {
    Statement version(db_, "PRAGMA user_version"), id(db_, "PRAGMA application_id");
    version.step();
    id.step();
    format = version.number_at(0);
    application = id.number_at(0);
  }
  if (format > kFormat) {
    throw Error(Code::kIntegrity, "the ledger " + file_.string() + " has format " +
                                      std::to_string(format) + ", this program knows " +
                                      std::to_string(kFormat) +
                                      "; use the newer program, nothing was changed");
  }
  if (format == kFormat && application == kApplication) return;
  if (format != 0 || application != 0) throw_damaged(file_, "it is no ledger of keyagent");
  change([&] {
    execute(kSchema);
    execute(("PRAGMA application_id=" + std::to_string(kApplication) +
             "; PRAGMA user_version=" + std::to_string(kFormat))
                .c_str());
    write_meta("epoch", "0");
  });
}

template <class Work>
void Ledger::change(Work&& work) {
  execute("BEGIN IMMEDIATE");
  try {
    work();
    const std::uint64_t epoch = std::stoull(read_meta("epoch")) + 1;
    write_meta("epoch", std::to_string(epoch));
    write_meta("digest", compute_digest(epoch));
    execute("COMMIT");
  } catch (...) {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

LedgerState Ledger::load() {
  {
    Statement check(db_, "PRAGMA integrity_check(1)");
    check.step();
    if (check.text_at(0) != "ok") throw_damaged(file_, check.text_at(0));
  }
  LedgerState state;
  try {
    state.epoch = std::stoull(read_meta("epoch"));
  } catch (const std::logic_error&) {
    throw_damaged(file_, "it has no epoch");
  }
  state.digest = read_meta("digest");
  if (state.digest != compute_digest(state.epoch))
    throw_damaged(file_, "its digest does not fit its rows");
  state.keys = read_keys();
  state.journal = read_journal();
  return state;
}

void Ledger::begin_step(const JournalStep& step) {
  change([&] {
    Statement insert(db_,
                     "INSERT INTO journal (cka_id, kind, kid, name, generation, purpose, "
                     "algorithm, envelope) VALUES (?,?,?,?,?,?,?,?) "
                     "ON CONFLICT (cka_id) DO UPDATE SET kind=excluded.kind");
    const auto& key = step.planned;
    insert.text(step.cka_id.hex())
        .text(std::string_view(step.kind == JournalStep::Kind::kCreate ? "create" : "destroy"))
        .text(key.kid.text())
        .text(key.name.text())
        .number(key.generation)
        .text(name_of(key.purpose))
        .text(name_of(key.algorithm))
        .text(name_of(key.envelope))
        .step();
  });
}

void Ledger::finish_create(const KeyRecord& record) {
  change([&] {
    write_key(record);
    remove_step(record.cka_id);
  });
}

void Ledger::finish_destroy(const KeyRecord& record) {
  finish_create(record);
}

void Ledger::drop_step(const CkaId& cka_id) {
  change([&] { remove_step(cka_id); });
}

void Ledger::remove_step(const CkaId& cka_id) {
  Statement(db_, "DELETE FROM journal WHERE cka_id=?").text(cka_id.hex()).step();
}

void Ledger::write_key(const KeyRecord& record) {
  Statement(db_,
            "INSERT INTO keys (cka_id, kid, name, generation, purpose, algorithm, envelope, state, "
            "spki, created, changed, reason) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (cka_id) DO UPDATE SET "
            "state=excluded.state, changed=excluded.changed, "
            "reason=excluded.reason")
      .text(record.cka_id.hex())
      .text(record.kid.text())
      .text(record.name.text())
      .number(record.generation)
      .text(name_of(record.purpose))
      .text(name_of(record.algorithm))
      .text(name_of(record.envelope))
      .text(name_of(record.state))
      .blob(record.spki)
      .text(rfc3339(record.created))
      .text(rfc3339(record.changed))
      .text(record.reason)
      .step();
}

std::vector<KeyRecord> Ledger::read_keys() {
  Statement rows(db_,
                 "SELECT cka_id, kid, name, generation, purpose, algorithm, envelope, state, spki, "
                 "created, changed, reason FROM keys "
                 "ORDER BY rowid");
  std::vector<KeyRecord> keys;
  while (rows.step()) {
    KeyRecord key;
    key.cka_id = CkaId::from_hex(rows.text_at(0));
    key.kid = Kid(rows.text_at(1));
    key.name = KeyName(rows.text_at(2));
    key.generation = static_cast<int>(rows.number_at(3));
    key.purpose = parsed(purpose_of(rows.text_at(4)), file_, "purpose");
    key.algorithm = parsed(key_algorithm_of(rows.text_at(5)), file_, "algorithm");
    key.envelope = parsed(envelope_algorithm_of(rows.text_at(6)), file_, "envelope");
    key.state = parsed(key_state_of(rows.text_at(7)), file_, "state");
    key.spki = rows.blob_at(8);
    key.created = parse_rfc3339(rows.text_at(9));
    key.changed = parse_rfc3339(rows.text_at(10));
    key.reason = rows.text_at(11);
    keys.push_back(std::move(key));
  }
  return keys;
}

std::vector<JournalStep> Ledger::read_journal() {
  Statement rows(db_,
                 "SELECT cka_id, kind, kid, name, generation, purpose, algorithm, envelope FROM "
                 "journal ORDER BY rowid");
  std::vector<JournalStep> steps;
  while (rows.step()) {
    JournalStep step;
    step.cka_id = CkaId::from_hex(rows.text_at(0));
    step.kind =
        rows.text_at(1) == "create" ? JournalStep::Kind::kCreate : JournalStep::Kind::kDestroy;
    step.planned.cka_id = step.cka_id;
    if (!rows.text_at(2).empty()) step.planned.kid = Kid(rows.text_at(2));
    step.planned.name = KeyName(rows.text_at(3));
    step.planned.generation = static_cast<int>(rows.number_at(4));
    step.planned.purpose = parsed(purpose_of(rows.text_at(5)), file_, "purpose");
    step.planned.algorithm = parsed(key_algorithm_of(rows.text_at(6)), file_, "algorithm");
    step.planned.envelope = parsed(envelope_algorithm_of(rows.text_at(7)), file_, "envelope");
    steps.push_back(std::move(step));
  }
  return steps;
}

std::string Ledger::compute_digest(std::uint64_t epoch) {
  std::string canonical = "keyagent-ledger-v1;" + std::to_string(epoch) + ";";
  for (const char* sql :
       {"SELECT * FROM keys ORDER BY cka_id", "SELECT * FROM journal ORDER BY cka_id"}) {
    Statement rows(db_, sql);
    while (rows.step()) {
      for (int column = 0; column < 12; ++column) {
        const Bytes blob = rows.blob_at(column);
        digest_field(canonical, as_text(blob));
      }
      canonical += "\n";
    }
    canonical += "--\n";
  }
  return to_hex(sha256(as_bytes(canonical)));
}

std::string Ledger::read_meta(const std::string& name) {
  Statement row(db_, "SELECT value FROM meta WHERE name=?");
  return row.text(name).step() ? row.text_at(0) : std::string();
}

void Ledger::write_meta(const std::string& name, const std::string& value) {
  Statement(db_,
            "INSERT INTO meta (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET "
            "value=excluded.value")
      .text(name)
      .text(value)
      .step();
}

}  // namespace keyagent::keys
