// SPDX-License-Identifier: Apache-2.0
#pragma once
// A systemd unit's sandbox where systemd does not run: what its directives say of the network, file
// systems, programs and system calls, for one child. What it leaves out is listed in the .cpp.

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

struct sock_filter;

namespace keyagent::test {

// enter() and seal() end the child with a line on stderr when a part cannot be had.
class UnitSandbox {
 public:
  // `writable`: what StateDirectory= and the like give; `executable`: programs and modules of the
  // test beside ExecPaths=.
  UnitSandbox(const std::filesystem::path& unit, std::vector<std::filesystem::path> writable,
              std::vector<std::filesystem::path> executable);

  void enter() const;  // in the child, as root: namespaces and mounts
  void seal() const;   // in the child, as the unit's user: no new privileges, system calls

  // Of SystemCallFilter=, as numbers of this machine.
  const std::set<long>& allowed_calls() const { return calls_; }

 private:
  bool says(const std::string& directive, const std::string& value) const;
  std::vector<std::string> words(const std::string& directive) const;
  void read_call_filter();
  std::vector<sock_filter> filter() const;

  std::multimap<std::string, std::string> directives_;
  std::vector<std::filesystem::path> writable_, executable_;
  std::set<long> calls_;
};

}  // namespace keyagent::test
