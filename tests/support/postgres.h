// SPDX-License-Identifier: Apache-2.0
#pragma once
// A PostgreSQL server of the tests' own: a cluster in a temporary folder, reached by a unix socket
// only, without a password. Ends with the object, or with this process.

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "tests/support/temp_folder.h"

namespace keyagent::test {

// Run by root, the server runs as the user `postgres` or `nobody`: it refuses root.
class Postgres {
 public:
  Postgres();  // throws std::runtime_error with the log when it does not come up
  Postgres(const Postgres&) = delete;
  ~Postgres();

  // What is not installed; empty when all is there.
  static std::string missing();
  // One for all tests of a process that only need databases, made at first use.
  static Postgres& shared();

  // The libpq URI of a new empty database.
  std::string new_database();
  // SQL without the store in between; its output, columns separated by |.
  std::string query(const std::string& url, const std::string& sql) const;

  void kill();     // as a crash: every process of it gets SIGKILL
  void restart();  // recovers what was there

 private:
  void start();
  bool started();  // false: the server ended at once
  std::string url(const std::string& database) const;

  TempFolder folder_;
  std::filesystem::path data_, sockets_;
  std::string programs_;  // the folder of initdb and postgres
  unsigned user_ = 0, group_ = 0;
  pid_t server_ = 0;
  int databases_ = 0;
};

}  // namespace keyagent::test
