// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/ledger.h"

#include <sys/stat.h>

#include <utility>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/keys/ledger_copy.h"
#include "agent/keys/ledger_rows.h"
#include "agent/keys/sqlite.h"

namespace keyagent::keys {
namespace {

constexpr int kFormat = 6;
constexpr int kApplication = 0x6B657961;  // "keya"

constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS keys (
  cka_id TEXT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, state TEXT NOT NULL, spki BLOB NOT NULL,
  created TEXT NOT NULL, changed TEXT NOT NULL, reason TEXT NOT NULL, activated TEXT NOT NULL DEFAULT '',
  actor TEXT NOT NULL DEFAULT '', UNIQUE (name, generation)) STRICT;
CREATE TABLE IF NOT EXISTS journal (
  cka_id TEXT PRIMARY KEY, kind TEXT NOT NULL, kid TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
  purpose TEXT NOT NULL, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'active',
  actor TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
)sql";

// What format 2 added.
constexpr const char* kSchema2 = R"sql(
CREATE TABLE IF NOT EXISTS history (
  seq INTEGER PRIMARY KEY, kid TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, at TEXT NOT NULL,
  actor TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS rekeys (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, step TEXT NOT NULL, old_kid TEXT NOT NULL, new_kid TEXT NOT NULL,
  cka_id TEXT NOT NULL UNIQUE, algorithm TEXT NOT NULL, envelope TEXT NOT NULL, begun TEXT NOT NULL,
  changed TEXT NOT NULL, drain INTEGER NOT NULL, actor TEXT NOT NULL,
  reason TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_rekey_a_name ON rekeys (name)
  WHERE step IN ('planned', 'generated', 'proved', 'switched', 'aborting');
CREATE TABLE IF NOT EXISTS census (
  source TEXT NOT NULL, kid TEXT NOT NULL, count INTEGER NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL,
  PRIMARY KEY (source, kid)) STRICT;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
)sql";

// What format 3 added.
constexpr const char* kSchema3 = R"sql(
CREATE TABLE IF NOT EXISTS certificates (
  kid TEXT NOT NULL, place INTEGER NOT NULL, der BLOB NOT NULL, installed TEXT NOT NULL, actor TEXT NOT NULL,
  PRIMARY KEY (kid, place)) STRICT;
)sql";

// What format 4 added: where keys come from and whether they may leave. Everything before was made
// in the token and stays there.
constexpr const char* kSchema4 = R"sql(
ALTER TABLE keys ADD COLUMN exchangeable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN exchangeable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE journal ADD COLUMN origin TEXT NOT NULL DEFAULT '';
)sql";

// What format 5 added: the kind of content that a key opens. Every key before opens authenticated
// content only.
constexpr const char* kSchema5 = R"sql(
ALTER TABLE keys ADD COLUMN accepts_cbc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE journal ADD COLUMN accepts_cbc INTEGER NOT NULL DEFAULT 0;
)sql";

// From format 6 on the digest takes the census as one hash, which is kept between changes.
constexpr std::int64_t kCensusHashed = 6;

constexpr const char* kFrom1 = R"sql(
ALTER TABLE keys ADD COLUMN activated TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN actor TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
ALTER TABLE journal ADD COLUMN actor TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN reason TEXT NOT NULL DEFAULT '';
UPDATE keys SET activated = created;
)sql";

// One row in canonical form: every field with its length, so that no two rows read alike.
void digest_field(std::string& out, std::string_view field) {
  out.append(std::to_string(field.size())).append(":").append(field).append(";");
}

constexpr const char* kCensusTable = "census";

// Format 1 counted twelve columns a row, whatever the table.
int digest_columns(std::int64_t format, int columns) {
  return format == 1 ? 12 : columns;
}

}  // namespace

Ledger::Ledger(const std::filesystem::path& file, std::size_t history_rows)
    : file_(file), history_rows_(history_rows) {
  if (std::filesystem::exists(file)) {
    read_only_ = why_unwritable(file.parent_path());
    if (read_only_.empty()) read_only_ = why_unwritable(file);
  }
  try {
    read_only_.empty() ? open() : open_copy();
    sqlite3_busy_timeout(db_, 5000);
    prepare_schema();
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

void Ledger::open() {
  const mode_t before = ::umask(0077);
  const int rc = sqlite3_open_v2(
      file_.c_str(), &db_,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
      nullptr);
  ::umask(before);
  if (rc == SQLITE_OK) return;
  const std::string why = db_ != nullptr ? sqlite3_errmsg(db_) : "out of memory";
  throw Error(Code::kConfiguration, "the ledger " + file_.string() + " cannot be opened: " + why);
}

void Ledger::open_copy() {
  db_ = open_in_memory(file_);
}

bool Ledger::reopen() {
  Ledger fresh(file_, history_rows_);
  if (!fresh.read_only_.empty()) return false;
  for (const auto& [name, value] : noted_under("")) fresh.note(name, value);
  std::swap(db_, fresh.db_);
  read_only_.clear();
  forget_census_hashes();
  census_.reset();
  return true;
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
                                      std::to_string(format) + ", this program supports " +
                                      std::to_string(kFormat) +
                                      "; use the newer program; nothing was changed");
  }
  if (format == kFormat && application == kApplication) return;
  if (format > 0 && application == kApplication) return migrate(format);
  if (format != 0 || application != 0) throw_damaged(file_, "it is not a keyagent ledger");
  transact([&] {
    execute(kSchema);
    execute(kSchema2);
    execute(kSchema3);
    execute(kSchema4);
    execute(kSchema5);
    execute(("PRAGMA application_id=" + std::to_string(kApplication) +
             "; PRAGMA user_version=" + std::to_string(kFormat))
                .c_str());
    write_meta("epoch", "0");
  });
}

// One transaction: a crash leaves a ledger of the old format. Its digest is checked first, because
// the new one attests whatever is found.
void Ledger::migrate(std::int64_t from) {
  if (read_meta("digest") != compute_digest(std::stoull(read_meta("epoch"))))
    throw_damaged(file_, "its digest does not match its rows");
  transact([&] {
    if (from == 1) {
      execute(kFrom1);
      execute(kSchema2);
    }
    if (from < 3) execute(kSchema3);
    if (from < 4) execute(kSchema4);
    if (from < 5) execute(kSchema5);
    execute(("PRAGMA user_version=" + std::to_string(kFormat)).c_str());
  });
}

void Ledger::change(const std::function<void()>& work) {
  if (!read_only_.empty())
    throw Error(Code::kKeyState, "nothing is changed: the ledger " + file_.string() +
                                     " cannot be written: " + read_only_ +
                                     "; make its folder writable, the agent resumes without a "
                                     "restart");
  transact(work);
}

void Ledger::transact(const std::function<void()>& work) {
  execute("BEGIN IMMEDIATE");
  try {
    work();
    const std::uint64_t epoch = std::stoull(read_meta("epoch")) + 1;
    write_meta("epoch", std::to_string(epoch));
    write_meta("digest", compute_digest(epoch));
    execute("COMMIT");
  } catch (...) {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    forget_census_hashes();
    throw;
  }
}

LedgerState Ledger::load() {
  {
    Statement check(db_, "PRAGMA integrity_check(1)");
    check.step();
    if (check.text_at(0) != "ok") throw_damaged(file_, check.text_at(0));
  }
  forget_census_hashes();
  census_.reset();
  LedgerState state = read_all();
  if (state.digest != compute_digest(state.epoch))
    throw_damaged(file_, "its digest does not match its rows");
  return state;
}

LedgerState Ledger::reload() {
  return read_all();
}

LedgerState Ledger::read_all() {
  LedgerState state;
  try {
    state.epoch = std::stoull(read_meta("epoch"));
  } catch (const std::logic_error&) {
    throw_damaged(file_, "it has no epoch");
  }
  state.digest = read_meta("digest");
  state.keys = read_keys();
  state.journal = read_journal();
  state.rekeys = read_rekeys();
  if (!census_) census_ = read_census();
  state.census = census_;
  state.certificates = read_certificates();
  return state;
}

// Covers every row of every table with key data. Format 1 has two of these tables, format 2 five.
std::string Ledger::compute_digest(std::uint64_t epoch) {
  std::int64_t format = 0;
  {
    Statement version(db_, "PRAGMA user_version");
    version.step();
    format = version.number_at(0);
  }
  std::string canonical =
      "keyagent-ledger-v" + std::to_string(format) + ";" + std::to_string(epoch) + ";";
  std::vector<const char*> tables{"keys ORDER BY cka_id", "journal ORDER BY cka_id"};
  if (format != 1)
    tables.insert(tables.end(), {"history ORDER BY seq", "rekeys ORDER BY id", kCensusTable});
  if (format > 2) tables.push_back("certificates ORDER BY kid, place");
  for (const char* table : tables) {
    if (table == kCensusTable) {
      canonical += format < kCensusHashed ? all_census_rows() : census_hash();
      canonical += "--\n";
      continue;
    }
    Statement rows(db_, std::string("SELECT * FROM ") + table);
    while (rows.step()) {
      for (int column = 0; column < digest_columns(format, rows.columns()); ++column)
        digest_field(canonical, as_text(rows.blob_at(column)));
      canonical += "\n";
    }
    canonical += "--\n";
  }
  return to_hex(sha256(as_bytes(canonical)));
}

std::string Ledger::all_census_rows() {
  std::string text;
  Statement rows(db_, "SELECT * FROM census ORDER BY source, kid");
  while (rows.step()) {
    for (int column = 0; column < rows.columns(); ++column)
      digest_field(text, as_text(rows.blob_at(column)));
    text += "\n";
  }
  return text;
}

void Ledger::forget_census_hashes() {
  census_hashes_.reset();
  census_hash_.clear();
}

// Of the hashes of all sources, in their order.
std::string Ledger::census_hash() {
  if (!census_hashes_) {
    std::vector<std::string> sources;
    {
      Statement rows(db_, "SELECT DISTINCT source FROM census");
      while (rows.step()) sources.push_back(rows.text_at(0));
    }
    std::map<std::string, Bytes> fresh;
    for (auto& source : sources) {
      auto hash = sha256(as_bytes(census_rows(source)));
      fresh.emplace(std::move(source), std::move(hash));
    }
    census_hashes_ = std::move(fresh);
    census_hash_.clear();
  }
  if (census_hash_.empty()) {
    Bytes all;
    for (const auto& [source, hash] : *census_hashes_)
      all.insert(all.end(), hash.begin(), hash.end());
    census_hash_ = to_hex(sha256(all));
  }
  return census_hash_;
}

std::string Ledger::census_rows(const std::string& source) {
  std::string text;
  Statement rows(db_, "SELECT * FROM census WHERE source=? ORDER BY kid");
  rows.text(source);
  while (rows.step()) {
    for (int column = 0; column < rows.columns(); ++column)
      digest_field(text, as_text(rows.blob_at(column)));
    text += "\n";
  }
  return text;
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
