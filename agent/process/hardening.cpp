// SPDX-License-Identifier: Apache-2.0
#include "agent/process/hardening.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"

namespace keyagent::process {
namespace {

// Variables of the service manager, and of the locale. Modules get what their profile sets.
constexpr std::string_view kKept[] = {"CREDENTIALS_DIRECTORY",
                                      "RUNTIME_DIRECTORY",
                                      "LISTEN_PID",
                                      "LISTEN_FDS",
                                      "LISTEN_FDNAMES",
                                      "NOTIFY_SOCKET",
                                      "WATCHDOG_PID",
                                      "WATCHDOG_USEC",
                                      "INVOCATION_ID",
                                      "JOURNAL_STREAM",
                                      "LANG",
                                      "LC_ALL",
                                      "TZ"};
constexpr std::string_view kPath = "PATH=/usr/bin:/bin";

bool starts_as(std::string_view entry, std::string_view name) {
  return entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=';
}

// The loader has obeyed LD_* before main() began: what it did can only be left behind by starting
// once more, as the same process, without them.
void start_again_without_loader_variables(char** argv, char** environment) {
  bool steered = false;
  std::vector<char*> kept;
  for (char** each = environment; *each != nullptr; ++each) {
    const std::string_view entry(*each);
    const bool wanted = std::any_of(std::begin(kKept), std::end(kKept),
                                    [&](auto name) { return starts_as(entry, name); });
    if (wanted) kept.push_back(*each);
    steered = steered || entry.starts_with("LD_") || entry.starts_with("GLIBC_TUNABLES=");
  }
  if (!steered) return;
  kept.push_back(nullptr);
  ::execve("/proc/self/exe", argv, kept.data());
  throw Error(Code::kInternal, std::string("LD_… in the environment cannot be removed: ") +
                                   std::strerror(errno) + "; unset it");
}

void clean_environment(char** environment) {
  std::vector<std::string> kept;
  for (char** each = environment; *each != nullptr; ++each) {
    for (const auto name : kKept) {
      if (starts_as(*each, name)) kept.emplace_back(*each);
    }
  }
  ::clearenv();
  for (const auto& entry : kept) {
    const auto at = entry.find('=');
    ::setenv(entry.substr(0, at).c_str(), entry.c_str() + at + 1, 1);
  }
  const auto at = kPath.find('=');
  ::setenv("PATH", kPath.data() + at + 1, 1);
}

// All memory where the limit allows it, page by page as it is used; else only what Botan locks for
// secrets. A limit below what is mapped would make later allocations fail.
void lock_memory() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return;
  ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

}  // namespace

void harden_process(char** argv, char** environment) {
  start_again_without_loader_variables(argv, environment);
  clean_environment(environment);
  ::prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::umask(0077);
  std::signal(SIGPIPE, SIG_IGN);
  const int passed = ::sd_listen_fds(0);
  ::close_range(static_cast<unsigned>(SD_LISTEN_FDS_START + (passed > 0 ? passed : 0)), ~0U, 0);
  lock_memory();
  // A system-wide openssl.cnf may load providers, this one among them, and the module uses the same
  // OpenSSL.
  ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
}

}  // namespace keyagent::process
