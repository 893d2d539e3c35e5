// SPDX-License-Identifier: Apache-2.0
#include "agent/link/network.h"

#include <sys/socket.h>

#include <cerrno>
#include <fstream>

#include "agent/base/disk.h"

namespace keyagent::link {
namespace {

// RestrictAddressFamilies=, SystemCallFilter=.
bool may_use_sockets() {
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return socket.valid() || (errno != EAFNOSUPPORT && errno != EPERM && errno != EACCES);
}

// PrivateNetwork=. Not by netlink, which the unit may forbid too. Unknown counts as more.
bool has_only_loopback() {
  std::ifstream devices("/proc/self/net/dev");
  bool any = false;
  for (std::string line; std::getline(devices, line);) {
    const auto end = line.find(':');
    if (end == line.npos) continue;
    const auto begin = line.find_first_not_of(' ');
    if (line.substr(begin, end - begin) != "lo") return false;
    any = true;
  }
  return any;
}

bool is_on_this_host(const std::string& url) {
  for (const char* host : {"https://localhost", "https://127.", "https://[::1]"})
    if (url.starts_with(host)) return true;
  return false;
}

}  // namespace

bool has_network(const std::string& url) {
  return may_use_sockets() && (is_on_this_host(url) || !has_only_loopback());
}

}  // namespace keyagent::link
