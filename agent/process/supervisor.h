// SPDX-License-Identifier: Apache-2.0
#pragma once
// Programs that this process runs and that do not outlive it.

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace keyagent::process {

struct Child {
  std::filesystem::path program;
  std::vector<std::string> arguments;    // with the program's name as its first
  std::vector<std::string> environment;  // "NAME=value": nothing else is inherited
  int output = -1;                       // its standard output and error; -1: those of this process
  bool detached = false;  // a session of its own, no standard input: no terminal signals it
};

// Starts children, reaps them and ends them. From the constructor on SIGHUP, SIGINT, SIGQUIT and
// SIGTERM are blocked in this process, so that it can clean up; they are never unblocked. Children
// start with the signals that this process started with, and are killed when its thread ends.
// Processes that a child leaves behind become children of this one. Not thread-safe.
class Supervisor {
 public:
  // REQUIRES: no other thread yet.
  Supervisor();
  Supervisor(const Supervisor&) = delete;
  // Ends all children: SIGTERM, then SIGKILL.
  ~Supervisor();

  // Throws Error{kPeer} when the program cannot be started.
  pid_t start(const Child& child);
  // Waits for a child of start(). A signal that another process sends to this one is forwarded to
  // it; one of the terminal reached it already. Returns its exit status, or 128 + signal.
  int wait_for(pid_t child);
  // The same without waiting for longer than `time`.
  std::optional<int> wait_for(pid_t child, std::chrono::milliseconds time);
  // The first signal that asked this process to end; 0: none did.
  int interrupted() const { return interrupted_; }
  // SIGTERM, then SIGKILL after `patience`. Returns when it has ended.
  void stop(pid_t child, std::chrono::milliseconds patience);
  // Ends all children but these, and what they leave behind.
  void stop_others(const std::set<pid_t>& spared);

 private:
  void step(std::chrono::milliseconds time);
  void reap();

  sigset_t before_{}, watched_{};
  pid_t forward_to_ = 0;
  int interrupted_ = 0;
  std::map<pid_t, std::optional<int>> children_;  // of start(); with their status once they ended
};

// The program that a shell would run: `name` with a slash, or the first one in $PATH. Empty: there
// is none. `found` (not null): a file of the name exists, though it cannot be executed.
std::filesystem::path find_program(const std::string& name, const std::string& search_path,
                                   bool* found);

}  // namespace keyagent::process
