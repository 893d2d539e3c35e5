// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/ledger_copy.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.h"

namespace keyagent::keys {
namespace {

namespace fs = std::filesystem;
using Connection = std::unique_ptr<sqlite3, decltype(&sqlite3_close)>;

[[noreturn]] void fail(const fs::path& file, const std::string& why) {
  throw Error(
      Code::kConfiguration,
      "the ledger " + file.string() + " cannot be read without write access to its folder: " + why);
}

// Removed with the object.
class PrivateFolder {
 public:
  PrivateFolder() {
    std::vector<std::string> parents;
    if (const char* run = ::secure_getenv("RUNTIME_DIRECTORY"))
      parents.push_back(std::string(run).substr(0, std::string(run).find(':')));
    parents.insert(parents.end(), {"/tmp", "/dev/shm", "/run"});
    for (const auto& parent : parents) {
      std::string name = parent + "/keyagent-ledger-XXXXXX";
      if (::mkdtemp(name.data()) == nullptr) continue;
      path_ = name;
      return;
    }
  }
  ~PrivateFolder() {
    std::error_code none;
    if (!path_.empty()) fs::remove_all(path_, none);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Connection open(const fs::path& name) {
  sqlite3* db = nullptr;
  const int rc = sqlite3_open_v2(
      name.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  Connection connection(db, sqlite3_close);
  if (rc != SQLITE_OK) fail(name, db != nullptr ? sqlite3_errmsg(db) : "out of memory");
  return connection;
}

}  // namespace

sqlite3* open_in_memory(const fs::path& file) {
  const PrivateFolder folder;
  if (folder.path().empty()) fail(file, "there is no temporary folder either");
  for (const char* suffix : {"", "-wal"}) {
    const fs::path from = file.string() + suffix;
    std::error_code fault;
    if (*suffix != '\0' && !fs::exists(from)) continue;
    fs::copy_file(from, folder.path() / ("ledger.db" + std::string(suffix)), fault);
    if (fault) fail(from, fault.message());
    fs::permissions(folder.path() / ("ledger.db" + std::string(suffix)), fs::perms(0600));
  }
  const Connection copy = open(folder.path() / "ledger.db");
  Connection memory = open(":memory:");
  sqlite3_backup* backup = sqlite3_backup_init(memory.get(), "main", copy.get(), "main");
  const int rc = backup == nullptr ? SQLITE_ERROR : sqlite3_backup_step(backup, -1);
  if (backup != nullptr) sqlite3_backup_finish(backup);
  if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
    throw Error(Code::kIntegrity, "the ledger " + file.string() + " is damaged (" +
                                      sqlite3_errstr(rc) +
                                      "); nothing was changed; restore it from its newest backup");
  if (rc != SQLITE_DONE) fail(file, sqlite3_errstr(rc));
  return memory.release();
}

}  // namespace keyagent::keys
