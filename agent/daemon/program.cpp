// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/trusted_path.h"

namespace keyagent::daemon {
namespace {

constexpr std::size_t kMaxText = 512;

struct Pipe {
  Fd read, write;
};

Pipe make_pipe(const Program& program) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw Error(Code::kInternal,
                "cannot create a pipe for " + program.what + ": " + std::strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

// posix_spawn, not fork: no atfork handler of a module runs, and the program inherits only the two
// pipes (RELIABILITY 36). The environment is fixed (RELIABILITY 123).
pid_t spawn(const Program& program, const Pipe& in, const Pipe& out) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  std::string path = program.path.string();
  char* argv[] = {path.data(), nullptr};
  std::vector<std::string> variables{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"};
  variables.insert(variables.end(), program.environment.begin(), program.environment.end());
  std::vector<char*> environment;
  for (auto& each : variables) environment.push_back(each.data());
  environment.push_back(nullptr);
  pid_t pid = -1;
  const int fault =
      ::posix_spawn(&pid, path.c_str(), &actions, &attributes, argv, environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (fault != 0)
    throw Error(Code::kPeer, program.what + " " + path + " cannot be run: " + std::strerror(fault));
  return pid;
}

// Reads until the program ends, the time is up or it is to stop; false: it is still running.
bool wait_for(const Program& program, const Fd& process, const Fd& output, std::string& text) {
  const auto end = std::chrono::steady_clock::now() + program.patience;
  bool open = true;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd watched[] = {{process.get(), POLLIN, 0},
                        {open ? output.get() : -1, POLLIN, 0},
                        {program.stop, POLLIN, 0}};
    if (::poll(watched, 3, static_cast<int>(left.count())) < 0 && errno != EINTR) return false;
    if (watched[2].revents != 0) return false;
    if (watched[1].revents != 0) {
      char buffer[kMaxText];
      const ssize_t count = ::read(output.get(), buffer, sizeof buffer);
      if (count <= 0) open = false;
      if (count > 0 && text.size() < kMaxText) text.append(buffer, static_cast<std::size_t>(count));
    } else if (watched[0].revents != 0) {
      return true;
    }
  }
}

// A missing program (a package is being replaced) may come back: that is kPeer, and retried. One
// that another user could change is refused.
void require_runnable(const Program& program) {
  std::error_code fault;
  (void)std::filesystem::status(program.path, fault);
  if (fault)
    throw Error(Code::kPeer,
                program.what + " " + program.path.string() + " cannot be run: " + fault.message());
  require_trusted(program.path);
}

std::string first_line_of(std::string text) {
  text = text.substr(0, std::min(text.find('\n'), kMaxText));
  return escape_controls(text);
}

}  // namespace

ProgramEnd run_program(const Program& program) {
  require_runnable(program);
  Pipe in = make_pipe(program), out = make_pipe(program);
  // Less than a pipe holds: this never blocks, whether the program reads or not.
  if (!program.input.empty() &&
      ::write(in.write.get(), program.input.data(), program.input.size()) !=
          static_cast<ssize_t>(program.input.size()))
    throw Error(Code::kInternal, "the pipe to " + program.what + " is too small");
  const pid_t pid = spawn(program, in, out);
  in = {};
  out.write = Fd();
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  std::string text;
  ProgramEnd end;
  end.killed = !wait_for(program, process, out.read, text);
  if (end.killed) ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
  end.said = first_line_of(std::move(text));
  return end;
}

}  // namespace keyagent::daemon
