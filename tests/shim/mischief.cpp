// SPDX-License-Identifier: Apache-2.0
#include "tests/shim/mischief.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace keyagent::shim {

// What a library should not do to its process, and some do.
void meddle() {
  ::umask(0);
  if (::chdir("/") != 0) std::abort();
  std::setlocale(LC_ALL, "C.UTF-8");
  for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGALRM})
    std::signal(number, SIG_DFL);
  std::signal(SIGUSR1, [](int) {});
  std::fprintf(stdout, "shim debug: PIN=shim-printed-canary\n");
  std::fflush(stdout);
  std::fprintf(stderr, "shim debug: PIN=shim-printed-canary\n");
}

// Memory that is really used, and a descriptor that any child would inherit.
void leak(unsigned long bytes) {
  static std::vector<char*> lost;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  lost.push_back(static_cast<char*>(std::malloc(bytes)));
  std::memset(lost.back(), 1, bytes);
  if (::open("/dev/null", O_RDONLY) < 0) return;
}

// As opensc-notify did: fork in the middle of a call, with atfork handlers and all.
void fork_child() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
}

// What a hostile module tries beside its work; the log gets the result of each attempt. A server
// listens on `port` of this host.
void reach(unsigned long port, void (*log)(const char*)) {
  const auto tell = [log](const char* what, bool done) {
    log((std::string("reach ") + what + (done ? " done" : " refused")).c_str());
  };
  const int inet = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  tell("connect",
       inet >= 0 && ::connect(inet, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  tell("netlink", ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0);
  tell("write", ::open("/var/tmp/keyagent-shim-reach", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
  ::unlink("/var/tmp/keyagent-shim-reach");
  tell("namespace", ::unshare(CLONE_NEWUSER | CLONE_FS) == 0);
  void* const code =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  tell("code", code != MAP_FAILED);
  int status = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(1);
  }
  tell("exec", child > 0 && ::waitpid(child, &status, 0) == child && status == 0);
}

}  // namespace keyagent::shim
