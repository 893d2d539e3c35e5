// SPDX-License-Identifier: Apache-2.0
#include "agent/process/confined.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/base/error.h"
#include "agent/base/trusted_path.h"

namespace keyagent::process {
namespace {

// The child's descriptor of the pipe that reports its errors; closed by its exec.
constexpr int kReport = 4;
constexpr int kAside = 16;  // beyond all that it is given

// What the child needs, made before the fork: between fork and exec nothing is allocated, because
// another thread may have held the allocator.
struct Prepared {
  const Confined& what;
  const char* program;
  std::vector<char*> environment;
  int report;
  pid_t parent;
};

struct Fault {
  int code;
  char step[16];
};

[[noreturn]] void give_up(const char* step) {
  Fault fault{errno, {}};
  std::strncpy(fault.step, step, sizeof fault.step - 1);
  [[maybe_unused]] const auto told = ::write(kReport, &fault, sizeof fault);
  ::_exit(127);
}

void take_descriptors(const Prepared& prepared) {
  const Confined& what = prepared.what;
  // Aside first: one of them may have the number that another is to get.
  const int given[] = {what.input, what.output, what.error, what.extra, prepared.report};
  int aside[5];
  for (int i = 0; i < 5; ++i)
    aside[i] = given[i] < 0 ? -1 : ::fcntl(given[i], F_DUPFD_CLOEXEC, kAside);
  if (::dup3(aside[4], kReport, O_CLOEXEC) < 0) ::_exit(127);
  for (int i = 0; i < 4; ++i) {
    if (aside[i] < 0) {
      ::close(i);
    } else if (::dup2(aside[i], i) < 0) {
      give_up("descriptors");
    }
  }
  if (::close_range(kReport + 1, ~0U, 0) != 0) give_up("descriptors");
}

void forget_signals() {
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &plain, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// The system calls themselves: those of the library wake the threads that are not here anymore.
void become(const User& user) {
  if (::syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0 ||
      ::syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0 ||
      ::syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0)
    give_up("user");
}

[[noreturn]] void run_child(const Prepared& prepared) {
  take_descriptors(prepared);
  ::setsid();
  ::umask(0077);
  forget_signals();
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) give_up("limits");
  const rlimit memory{prepared.what.memory, prepared.what.memory};
  if (prepared.what.memory > 0 && ::setrlimit(RLIMIT_AS, &memory) != 0) give_up("limits");
  if (::chdir("/") != 0) give_up("folder");
  if (prepared.what.user) become(*prepared.what.user);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up("privileges");
  // After the user: a change of it takes this away. The parent may have died before.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up("end");
  if (::getppid() != prepared.parent) ::_exit(127);
  char* const arguments[] = {const_cast<char*>(prepared.program), nullptr};
  ::execve(prepared.program, arguments, prepared.environment.data());
  give_up("program");
}

}  // namespace

User user_of(const std::string& name) {
  std::array<char, 16384> buffer;
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) throw Error(Code::kConfiguration, "this host has no user '" + name + "'");
  std::vector<gid_t> groups(1024);
  int count = static_cast<int>(groups.size());
  if (::getgrouplist(name.c_str(), entry.pw_gid, groups.data(), &count) < 0) count = 0;
  groups.resize(static_cast<std::size_t>(count));
  return {entry.pw_uid, entry.pw_gid, std::move(groups)};
}

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw Error(Code::kInternal, std::string("no pipe: ") + std::strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

// fork, because posix_spawn supports neither limits nor users; not for a process with a PKCS#11
// module (RELIABILITY 36: its atfork handlers would run).
pid_t spawn_confined(const Confined& what) {
  require_trusted(what.program);
  Pipe report = make_pipe();
  const std::string program = what.program.string();
  std::vector<std::string> variables = what.environment;
  Prepared prepared{what, program.c_str(), {}, report.write.get(), ::getpid()};
  for (auto& each : variables) prepared.environment.push_back(each.data());
  prepared.environment.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(prepared);
  if (pid < 0) throw Error(Code::kPeer, program + " cannot be run: " + std::strerror(errno));
  report.write = Fd();
  Fault fault{};
  ssize_t count = 0;
  do {
    count = ::read(report.read.get(), &fault, sizeof fault);
  } while (count < 0 && errno == EINTR);
  if (count == 0) return pid;
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  throw Error(Code::kPeer,
              program + " cannot be run (" + fault.step + "): " + std::strerror(fault.code));
}

}  // namespace keyagent::process
