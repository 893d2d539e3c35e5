#include "agent/daemon/hardening.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

namespace keyagent::daemon {
namespace {

// The service manager's, and what text is shown in. Modules get what their profile says.
constexpr const char* kKept[] = {
    "CREDENTIALS_DIRECTORY", "LISTEN_PID",   "LISTEN_FDS",    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",         "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID",
    "JOURNAL_STREAM",        "LANG",         "LC_ALL",        "TZ"};

void clean_environment() {
  std::vector<std::pair<std::string, std::string>> kept;
  for (const char* name : kKept) {
    if (const char* value = std::getenv(name)) kept.emplace_back(name, value);
  }
  ::clearenv();
  for (const auto& [name, value] : kept) ::setenv(name.c_str(), value.c_str(), 1);
  ::setenv("PATH", "/usr/bin:/bin", 1);
}

}  // namespace

void harden_process() {
  clean_environment();
  ::prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::umask(0077);
  std::signal(SIGPIPE, SIG_IGN);
  const int passed = ::sd_listen_fds(0);
  ::close_range(static_cast<unsigned>(SD_LISTEN_FDS_START + (passed > 0 ? passed : 0)), ~0U, 0);
}

}  // namespace keyagent::daemon
