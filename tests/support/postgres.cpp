// SPDX-License-Identifier: Apache-2.0
#include "tests/support/postgres.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/command.h"

namespace keyagent::test {
namespace {

namespace fs = std::filesystem;

// Debian keeps the server's programs out of PATH: /usr/lib/postgresql/VERSION/bin.
std::string find_programs() {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& version : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
    if (fs::exists(version.path() / "bin/initdb")) found.push_back(version.path() / "bin");
  }
  return found.empty() ? "" : *std::max_element(found.begin(), found.end());
}

std::string slurp(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A child with the given identity, its output in `log`, that is stopped when the thread that made
// it ends: make it in the main thread.
pid_t start_as(const std::vector<std::string>& command, unsigned user, unsigned group,
               const fs::path& log) {
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child > 0) return child;
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::setpgid(0, 0);
  if (::geteuid() == 0 &&
      (::setgroups(0, nullptr) != 0 || ::setgid(group) != 0 || ::setuid(user) != 0))
    ::_exit(126);
  ::prctl(PR_SET_PDEATHSIG, SIGQUIT);  // to postgres: stop at once
  if (::getppid() != parent) ::_exit(127);
  if (::chdir("/") != 0) ::_exit(125);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

std::string Postgres::missing() {
  return find_programs().empty() ? "postgresql" : "";
}

Postgres& Postgres::shared() {
  static Postgres server;
  return server;
}

Postgres::Postgres() : programs_(find_programs()) {
  user_ = ::geteuid();
  group_ = ::getegid();
  if (user_ == 0) {
    const passwd* other = ::getpwnam("postgres");
    if (other == nullptr) other = ::getpwnam("nobody");
    if (other == nullptr) throw std::runtime_error("no user to run PostgreSQL as");
    user_ = other->pw_uid;
    group_ = other->pw_gid;
  }
  // The folder must be passable for that user; what is in it is not secret.
  fs::permissions(folder_.path(), fs::perms(0711));
  data_ = folder_.path() / "data";
  sockets_ = folder_.path() / "socket";
  for (const auto& folder : {data_, sockets_}) {
    fs::create_directory(folder);
    fs::permissions(folder, fs::perms(0700));
    if (::chown(folder.c_str(), user_, group_) != 0) throw std::runtime_error("chown failed");
  }
  const auto log = folder_.path() / "initdb.log";
  const pid_t child = start_as({programs_ + "/initdb", "-D", data_.string(), "-U", "keyagent", "-A",
                                "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"},
                               user_, group_, log);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) throw std::runtime_error("initdb failed:\n" + slurp(log));
  start();
}

// A server that was killed may leave a child for a moment, and its shared memory with it: a new one
// refuses to start meanwhile.
void Postgres::start() {
  for (int attempt = 0; attempt < 300; ++attempt) {
    if (started()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  throw std::runtime_error("PostgreSQL did not start:\n" + slurp(folder_.path() / "server.log"));
}

// No fsync: a test ends processes, not the machine's power.
bool Postgres::started() {
  const auto log = folder_.path() / "server.log";
  server_ = start_as({programs_ + "/postgres", "-D", data_.string(), "-k", sockets_.string(), "-h",
                      "", "-c", "max_connections=200", "-c", "fsync=off"},
                     user_, group_, log);
  for (int attempt = 0; attempt < 600; ++attempt) {
    if (try_command("psql -X -q -c '' '" + url("postgres") + "' 2>&1").status == 0) return true;
    if (::waitpid(server_, nullptr, WNOHANG) == server_) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  server_ = 0;
  return false;
}

Postgres::~Postgres() {
  kill();
}

// The server's children are in their own groups, and a new server refuses to start while one of
// them is left. The postmaster is halted first, so that it makes no more of them.
void Postgres::kill() {
  if (server_ <= 0) return;
  ::kill(server_, SIGSTOP);
  const auto children = try_command("ps -o pid= --ppid " + std::to_string(server_)).output;
  ::kill(server_, SIGKILL);
  std::size_t used = 0;
  for (std::size_t from = 0; from < children.size();) {
    const auto end = std::min(children.find('\n', from), children.size());
    const auto line = children.substr(from, end - from);
    if (!line.empty()) ::kill(std::stoi(line, &used), SIGKILL);
    from = end + 1;
  }
  ::waitpid(server_, nullptr, 0);
  server_ = 0;
}

void Postgres::restart() {
  kill();
  start();
}

std::string Postgres::url(const std::string& database) const {
  std::string host;
  for (const char c : sockets_.string()) host += c == '/' ? std::string("%2F") : std::string(1, c);
  return "postgresql://keyagent@" + host + "/" + database;
}

std::string Postgres::new_database() {
  const std::string name = "test_" + std::to_string(++databases_);
  query(url("postgres"), "CREATE DATABASE " + name);
  return url(name);
}

std::string Postgres::query(const std::string& database, const std::string& sql) const {
  return run_command("psql -X -q -At -v ON_ERROR_STOP=1 '" + database + "' -c \"" + sql + "\"");
}

}  // namespace keyagent::test
