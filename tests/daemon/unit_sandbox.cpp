// SPDX-License-Identifier: Apache-2.0
// Left out: PrivateTmp= (the test's folder is in /tmp), PrivateDevices=, ProtectProc=, the kernel's
// tunables, and limits of resources. What is here is what Fault118 asks for.

#include "tests/daemon/unit_sandbox.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/command.h"

namespace keyagent::test {
namespace {

namespace fs = std::filesystem;

void must(bool done, const std::string& what) {
  if (done) return;
  std::fprintf(stderr, "unit_sandbox: %s: %s\n", what.c_str(), std::strerror(errno));
  ::_exit(99);
}

// Flags of everything below `path`.
void set_flags(const fs::path& path, unsigned long long set, unsigned long long clear) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  must(::mount_setattr(AT_FDCWD, path.c_str(), AT_RECURSIVE, &attributes, sizeof attributes) == 0,
       "mount_setattr " + path.string());
}

void bind_itself(const fs::path& path) {
  must(::mount(path.c_str(), path.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0,
       "bind " + path.string());
}

// The kernel's own list: name -> number.
std::map<std::string, long> numbers_of_calls() {
  std::map<std::string, long> numbers;
  for (const char* header :
       {"/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h"}) {
    std::ifstream in(header);
    for (std::string line, define, name, number; std::getline(in, line);) {
      std::istringstream words(line);
      if (!(words >> define >> name >> number) || name.rfind("__NR_", 0) != 0) continue;
      if (number.find_first_not_of("0123456789") == std::string::npos)
        numbers.emplace(name.substr(5), std::stol(number));
    }
    if (!numbers.empty()) return numbers;
  }
  throw std::runtime_error("no list of system calls: install linux-libc-dev");
}

// Sets of `systemd-analyze syscall-filter`: "@name" -> its words, which may be sets again.
std::map<std::string, std::vector<std::string>> sets_of_calls() {
  std::map<std::string, std::vector<std::string>> sets;
  std::istringstream text(run_command("systemd-analyze --no-pager syscall-filter"));
  std::string set;
  for (std::string line; std::getline(text, line);) {
    const auto first = line.find_first_not_of(' ');
    if (first == std::string::npos || line[first] == '#') continue;
    if (first == 0) {
      set = line;
    } else if (!set.empty()) {
      sets[set].push_back(line.substr(first));
    }
  }
  return sets;
}

}  // namespace

UnitSandbox::UnitSandbox(const fs::path& unit, std::vector<fs::path> writable,
                         std::vector<fs::path> executable)
    : writable_(std::move(writable)), executable_(std::move(executable)) {
  std::ifstream in(unit);
  for (std::string line; std::getline(in, line);) {
    const auto equals = line.find('=');
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    directives_.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  read_call_filter();
}

bool UnitSandbox::says(const std::string& directive, const std::string& value) const {
  const auto [first, last] = directives_.equal_range(directive);
  for (auto each = first; each != last; ++each)
    if (each->second == value) return true;
  return false;
}

std::vector<std::string> UnitSandbox::words(const std::string& directive) const {
  std::vector<std::string> all;
  const auto [first, last] = directives_.equal_range(directive);
  for (auto each = first; each != last; ++each) {
    std::istringstream line(each->second);
    for (std::string word; line >> word;) all.push_back(word);
  }
  return all;
}

void UnitSandbox::read_call_filter() {
  const auto numbers = numbers_of_calls();
  const auto sets = sets_of_calls();
  const auto [first, last] = directives_.equal_range("SystemCallFilter");
  for (auto each = first; each != last; ++each) {
    const bool denied = !each->second.empty() && each->second[0] == '~';
    std::istringstream line(each->second.substr(denied ? 1 : 0));
    std::vector<std::string> open;
    for (std::string word; line >> word;) open.push_back(word);
    while (!open.empty()) {
      const auto word = open.back();
      open.pop_back();
      const auto set = sets.find(word);
      if (set != sets.end()) open.insert(open.end(), set->second.begin(), set->second.end());
      const auto number = numbers.find(word);
      if (number == numbers.end()) continue;
      if (denied) calls_.erase(number->second);
      if (!denied) calls_.insert(number->second);
    }
  }
  if (calls_.size() < 100) throw std::runtime_error("the unit's SystemCallFilter= is not read");
}

void UnitSandbox::enter() const {
  const bool no_network = says("PrivateNetwork", "yes");
  must(::unshare(CLONE_NEWNS | CLONE_NEWIPC | (no_network ? CLONE_NEWNET : 0)) == 0, "unshare");
  must(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  for (const auto& path : writable_) bind_itself(path);
  std::vector<fs::path> executable = executable_;
  for (auto word : words("ExecPaths")) {
    if (word[0] == '-') word.erase(0, 1);
    if (word[0] == '/' && fs::exists(word)) executable.emplace_back(word);
  }
  for (const auto& path : executable) bind_itself(path);
  if (says("ProtectSystem", "strict")) set_flags("/", MOUNT_ATTR_RDONLY, 0);
  for (const auto& path : writable_) set_flags(path, 0, MOUNT_ATTR_RDONLY);
  if (says("NoExecPaths", "/")) set_flags("/", MOUNT_ATTR_NOEXEC, 0);
  for (const auto& path : executable) set_flags(path, 0, MOUNT_ATTR_NOEXEC);
  if (says("ProtectHome", "yes")) {
    for (const char* home : {"/root", "/home"})
      must(!fs::exists(home) || ::mount("tmpfs", home, "tmpfs", MS_RDONLY, "mode=0000") == 0, home);
  }
}

// Allowed calls by number, and the arguments of some: the answers are systemd's.
std::vector<sock_filter> UnitSandbox::filter() const {
  const auto low = [](int argument) {
    return static_cast<unsigned>(offsetof(seccomp_data, args) + 8 * argument);
  };
  const auto refuse = [](int error) {
    return sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error));
  };
  const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  std::vector<sock_filter> out{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  // `call` with any of `bits` in its argument, or with another value than `only`.
  const auto when = [&](long call, int argument, sock_filter test, int error) {
    out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 4));
    out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low(argument)));
    out.push_back(test);
    out.push_back(refuse(error));
    out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  };
  if (words("RestrictAddressFamilies") == std::vector<std::string>{"AF_UNIX"})
    when(SYS_socket, 0, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0), EAFNOSUPPORT);
  if (says("RestrictNamespaces", "yes")) {
    constexpr unsigned kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    for (const long call : {SYS_unshare, SYS_clone})
      when(call, 0, BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kNamespaces, 0, 1), EPERM);
    out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
    out.push_back(refuse(ENOSYS));
  }
  if (says("MemoryDenyWriteExecute", "yes")) {
    // Both bits: without the one, no refusal; the other alone decides then.
    out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5));
    out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low(2)));
    out.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC));
    out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1));
    out.push_back(refuse(EPERM));
    out.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    when(SYS_mprotect, 2, BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), EPERM);
  }
  for (const long call : calls_) {
    out.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    out.push_back(allow);
  }
  out.push_back(refuse(EPERM));
  return out;
}

void UnitSandbox::seal() const {
  auto instructions = filter();
  const sock_fprog program{static_cast<unsigned short>(instructions.size()), instructions.data()};
  must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
  must(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "system calls");
}

}  // namespace keyagent::test
