#include "agent/daemon/hook.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"

namespace keyagent::daemon {
namespace {

using Json = nlohmann::ordered_json;
using keys::Confirmation;

constexpr std::size_t kMostText = 512;

struct Pipe {
  Fd read, write;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw Error(Code::kInternal,
                std::string("no pipe for the rekey hook: ") + std::strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

std::string request_of(Confirmation::Phase phase, const keys::RekeyRecord& rekey,
                       const keys::KeyRecord& old, const keys::KeyRecord& fresh) {
  Json request{{"phase", phase == Confirmation::Phase::kProve ? "prove" : "switched"},
               {"name", rekey.name.text()},
               {"purpose", name_of(fresh.purpose)},
               {"algorithm", name_of(fresh.algorithm)},
               {"old_kid", old.kid.text()},
               {"new_kid", fresh.kid.text()}};
  if (!fresh.spki.empty()) {
    const PublicKeyInfo info{fresh.kid,     fresh.name.text(), fresh.algorithm,
                             fresh.purpose, fresh.envelope,    fresh.spki};
    request["jwk"] = Json::parse(envelope::to_jwk(info));
  }
  return request.dump() + "\n";
}

// posix_spawn and never fork: no atfork handler of a module runs, and nothing of this process but
// the two pipes goes over (RELIABILITY 36). The environment is fixed (RELIABILITY 123).
pid_t spawn(const std::filesystem::path& program, const Pipe& in, const Pipe& out) {
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
  std::string path = program.string();
  char* argv[] = {path.data(), nullptr};
  char path_variable[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C.UTF-8";
  char* environment[] = {path_variable, locale, nullptr};
  pid_t pid = -1;
  const int fault = ::posix_spawn(&pid, path.c_str(), &actions, &attributes, argv, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (fault != 0)
    throw Error(Code::kPeer, "the rekey hook " + path + " cannot be run: " + std::strerror(fault));
  return pid;
}

// Reads until the program ends or the time is up; false: it is still running.
bool wait_for(const Fd& process, const Fd& output, std::chrono::milliseconds patience,
              std::string& text) {
  const auto end = std::chrono::steady_clock::now() + patience;
  bool open = true;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd watched[] = {{process.get(), POLLIN, 0}, {open ? output.get() : -1, POLLIN, 0}};
    if (::poll(watched, 2, static_cast<int>(left.count())) < 0 && errno != EINTR) return false;
    if (watched[1].revents != 0) {
      char buffer[kMostText];
      const ssize_t count = ::read(output.get(), buffer, sizeof buffer);
      if (count <= 0) open = false;
      if (count > 0 && text.size() < kMostText)
        text.append(buffer, static_cast<std::size_t>(count));
    } else if (watched[0].revents != 0) {
      return true;
    }
  }
}

std::string first_line(std::string text) {
  text = text.substr(0, std::min(text.find('\n'), kMostText));
  return escape_controls(text);
}

}  // namespace

// Exit status 0 confirms, 75 (EX_TEMPFAIL) asks to come back, everything else refuses.
Confirmation::Said HookConfirmation::ask(Phase phase, const keys::RekeyRecord& rekey,
                                         const keys::KeyRecord& old, const keys::KeyRecord& fresh) {
  Pipe in = make_pipe(), out = make_pipe();
  const std::string request = request_of(phase, rekey, old, fresh);
  // Less than a pipe holds: this never blocks, whether the program reads or not.
  if (::write(in.write.get(), request.data(), request.size()) !=
      static_cast<ssize_t>(request.size()))
    throw Error(Code::kInternal, "the rekey hook's pipe is too small");
  const pid_t pid = spawn(program_, in, out);
  in = {};
  out.write = Fd();
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  std::string text;
  const bool ended = wait_for(process, out.read, patience_, text);
  if (!ended) ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!ended) return {Answer::kLater, "the hook did not end in time and was killed"};
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  const std::string said = first_line(text);
  if (code == 0) return {Answer::kConfirmed, said};
  if (code == EX_TEMPFAIL || code == -1)
    return {Answer::kLater, said.empty() ? "the hook asks to come back" : said};
  return {Answer::kRefused,
          "the hook ended with " + std::to_string(code) + (said.empty() ? "" : ": " + said)};
}

}  // namespace keyagent::daemon
