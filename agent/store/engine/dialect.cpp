// SPDX-License-Identifier: Apache-2.0
#include "agent/store/engine/dialect.h"

#include <libpq-fe.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/base/disk.h"

namespace keyagent::store {
namespace {

constexpr std::string_view kSqliteScheme = "sqlite://";

// Defaults unless set in the URL: they detect a server that disappeared without closing.
constexpr std::pair<const char*, const char*> kConnectDefaults[] = {
    {"connect_timeout", "10"},  {"keepalives_idle", "30"},     {"keepalives_interval", "10"},
    {"keepalives_count", "3"},  {"tcp_user_timeout", "30000"}, {"application_name", "keyinstanced"},
    {"client_encoding", "UTF8"}};

std::string postgres_connect(const std::string& url) {
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(url.c_str(), nullptr), PQconninfoFree);
  if (!options)  // libpq's own text would quote the URL
    throw Error(Code::kConfiguration, "the store's URL is not valid for libpq");
  std::string connect = url;
  const auto given = [&](std::string_view name) {
    for (const auto* option = options.get(); option->keyword != nullptr; ++option) {
      if (option->keyword == name) return option->val != nullptr;
    }
    return false;
  };
  if (given("password"))
    throw Error(Code::kConfiguration,
                "the store's URL contains a password; use a passfile, a client certificate or peer "
                "authentication");
  char separator = url.find('?') == std::string::npos ? '?' : '&';
  for (const auto& [name, value] : kConnectDefaults) {
    if (given(name)) continue;
    connect.append(1, separator).append(name).append("=").append(value);
    separator = '&';
  }
  return connect;
}

// The first line: a server's DETAIL line quotes values. The reason why there is no connection is in
// the second.
std::string first_line(const std::string& text) {
  constexpr std::string_view kConnect = "Cannot establish connection to the database.\n";
  if (text.starts_with(kConnect)) return first_line(text.substr(kConnect.size()));
  return text.substr(0, text.find('\n'));
}

Fault sqlite_fault(const soci::soci_error& error, const Place& place) {
  Fault fault;
  const std::string why = first_line(error.get_error_message());
  const auto* known = dynamic_cast<const soci::sqlite3_soci_error*>(&error);
  const int result = known != nullptr ? known->result() & 0xff : SQLITE_ERROR;
  fault.text = "the store " + place.path + ": " + why;
  switch (result) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      fault.code = Code::kIntegrity;
      fault.text = "the store " + place.path + " is damaged: " + why +
                   "; restore a backup, and keep the file as evidence";
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      fault.code = Code::kBusy;
      break;
    case SQLITE_CONSTRAINT:
      if (why.find("UNIQUE") != std::string::npos) fault.code = Code::kExists;
      break;
    default:
      break;
  }
  return fault;
}

Fault postgres_fault(const soci::soci_error& error, bool open) {
  Fault fault;
  std::string state = "     ";
  if (const auto* known = dynamic_cast<const soci::postgresql_soci_error*>(&error))
    state = known->sqlstate();
  const auto is = [&](std::string_view prefix) { return state.starts_with(prefix); };
  fault.text = "the store's PostgreSQL: " + first_line(error.get_error_message());
  fault.lost = !open || is("08") || is("57P01") || is("57P02") || is("57P03");
  fault.again = is("40001") || is("40P01");
  if (fault.lost)
    fault.code = Code::kPeer;
  else if (is("53") || is("25006"))  // no resources; a standby that does not take changes
    fault.code = Code::kPeer;
  else if (fault.again || is("55P03") || is("57014"))
    fault.code = Code::kBusy;
  else if (is("XX001") || is("XX002"))
    fault.code = Code::kIntegrity;
  else if (is("23505"))
    fault.code = Code::kExists;
  return fault;
}

// REQUIRES an open session on PostgreSQL.
soci::postgresql_session_backend& postgres_backend(soci::session& session) {
  return static_cast<soci::postgresql_session_backend&>(*session.get_backend());
}

void execute(soci::session& session, const char* statement) {
  session.once << statement;
}

// The change to WAL asks for the file alone and does not wait for that, whatever the busy timeout.
void use_wal(soci::session& session) {
  for (int attempt = 0;; ++attempt) {
    try {
      execute(session, "PRAGMA journal_mode = WAL");
      return;
    } catch (const soci::sqlite3_soci_error& error) {
      if ((error.result() & 0xff) != SQLITE_BUSY || attempt == 100) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

}  // namespace

Place::Place(const std::string& url) {
  if (url.starts_with("postgresql://") || url.starts_with("postgres://")) {
    engine = Engine::kPostgres;
    connect = postgres_connect(url);
    return;
  }
  engine = Engine::kSqlite;
  path = url.starts_with(kSqliteScheme) ? url.substr(kSqliteScheme.size()) : "";
  if (!path.starts_with('/') || path.find_first_of("\"\n?#") != std::string::npos)
    throw Error(Code::kConfiguration,
                "the store's URL is neither sqlite:///absolute/path nor postgresql://…");
  connect = "dbname=\"" + path + "\"";
}

Fault fault_of(const soci::soci_error& error, soci::session& session, const Place& place) {
  if (place.engine == Engine::kSqlite) return sqlite_fault(error, place);
  const bool open = session.get_backend() != nullptr &&
                    PQstatus(postgres_backend(session).conn_) == CONNECTION_OK;
  return postgres_fault(error, open);
}

// Never opens the file: closing any descriptor of it would release the locks that SQLite holds on
// it elsewhere in this process.
void prepare_file(const Place& place) {
  if (place.engine != Engine::kSqlite) return;
  make_private_folder(std::filesystem::path(place.path).parent_path());
  make_empty_file(place.path);
  struct stat found {};
  if (::lstat(place.path.c_str(), &found) != 0 || !S_ISREG(found.st_mode))
    throw Error(Code::kConfiguration, "the store " + place.path + " is not a file");
  if ((found.st_mode & 077) != 0)
    throw Error(
        Code::kConfiguration,
        "the store " + place.path + " is accessible to other users; run: chmod 600 " + place.path);
}

bool make_empty_file(const std::string& path) {
  if (::mknod(path.c_str(), S_IFREG | 0600, 0) == 0) return true;
  if (errno == EEXIST) return false;
  throw Error(Code::kConfiguration,
              path + " cannot be created: " + std::system_category().message(errno));
}

void open(soci::session& session, const Place& place) {
  if (place.engine == Engine::kSqlite) {
    session.open(soci::sqlite3, place.connect);
    execute(session, "PRAGMA busy_timeout = 10000");
    use_wal(session);
    execute(session, "PRAGMA synchronous = FULL");
    execute(session, "PRAGMA foreign_keys = ON");
    execute(session, "PRAGMA trusted_schema = OFF");
    return;
  }
  session.open(soci::postgresql, place.connect);
  // Keep libpq from printing notices of the server to standard error.
  PQsetNoticeProcessor(
      postgres_backend(session).conn_, [](void*, const char*) {}, nullptr);
  // A transaction that waits for a lock, or is left open by a replica that hangs, ends.
  execute(session, "SET lock_timeout = '10s'");
  execute(session, "SET idle_in_transaction_session_timeout = '30s'");
  execute(session, "SET client_min_messages = warning");
  execute(session, "SET standard_conforming_strings = on");
}

void begin(soci::session& session, const Place& place) {
  execute(session, place.engine == Engine::kSqlite ? "BEGIN IMMEDIATE" : "BEGIN");
}

void begin_snapshot(soci::session& session, const Place& place) {
  execute(session, place.engine == Engine::kSqlite
                       ? "BEGIN"
                       : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

std::string schema_words(Engine engine, const std::string& ddl) {
  if (engine == Engine::kSqlite) return ddl;
  constexpr std::string_view kText = " TEXT";
  std::string words = ddl;
  for (std::size_t at = 0; (at = words.find(kText, at)) != std::string::npos;) {
    at += kText.size();
    words.insert(at, " COLLATE \"C\"");
  }
  return words;
}

void lock_schema(Sql& sql) {
  if (sql.engine() == Engine::kSqlite) return;  // BEGIN IMMEDIATE did
  const auto encoding = sql.first<std::string>("SHOW server_encoding");
  if (encoding != "UTF8")
    throw Error(Code::kConfiguration, "the store's PostgreSQL database is not encoded in UTF8");
  sql.run("SET LOCAL lock_timeout = '60s'");
  sql.run("SELECT pg_advisory_xact_lock(7738724993959554676)");  // "keyagent", read as a number
}

std::string engine_version(Sql& sql) {
  const bool sqlite = sql.engine() == Engine::kSqlite;
  const auto version =
      sql.first<std::string>(sqlite ? "SELECT sqlite_version()" : "SHOW server_version");
  return (sqlite ? "sqlite " : "postgresql ") + version.value();
}

}  // namespace keyagent::store
