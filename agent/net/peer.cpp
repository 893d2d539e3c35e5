// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "agent/base/error.h"
#include "agent/net/unix_server.h"

namespace keyagent::net {
namespace {

[[noreturn]] void throw_unknown(const char* what) {
  throw Error(Code::kDenied, std::string("the kernel does not report the connected process (") +
                                 what + ": " + std::strerror(errno) + ")");
}

std::vector<std::uint32_t> groups_of(int fd) {
  std::vector<std::uint32_t> groups(32);
  static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
  for (;;) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
      groups.resize(size / sizeof(gid_t));
      return groups;
    }
    // ERANGE: `size` is what it takes. NGROUPS_MAX bounds it.
    if (errno != ERANGE || size / sizeof(gid_t) <= groups.size()) throw_unknown("SO_PEERGROUPS");
    groups.resize(size / sizeof(gid_t));
  }
}

}  // namespace

// unix(7): the credentials are those of connect(2), whatever became of the process since
// (RELIABILITY 111, 112).
policy::Principal peer_of(int fd) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) throw_unknown("SO_PEERCRED");
  // A socket that is not connected, or not AF_UNIX, answers uid -1.
  if (who.uid == static_cast<uid_t>(-1)) {
    errno = ENOTCONN;
    throw_unknown("SO_PEERCRED");
  }
  policy::Principal principal;
  principal.voucher = policy::Principal::Voucher::kKernel;
  principal.uid = who.uid;
  principal.gid = who.gid;
  principal.pid = who.pid;
  principal.groups = groups_of(fd);
  return principal;
}

}  // namespace keyagent::net
