// SPDX-License-Identifier: Apache-2.0
// Connections of a role that attacks over the network come from addresses of their own, as those of
// another host would: the owner's agent connects from 127.0.0.1. connect(2) of this program is
// ours.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>

#include "tests/attack/attempts.h"

namespace keyagent::attack {
namespace {

constexpr in_addr_t kFirst = 0x7f000042;  // 127.0.0.66
constexpr unsigned kAddresses = 4;
std::atomic<bool> foreign{false};
std::atomic<unsigned> next{0};

}  // namespace

void connect_from_elsewhere() {
  foreign = true;
}

}  // namespace keyagent::attack

extern "C" int connect(int fd, const sockaddr* address, socklen_t size) {
  using namespace keyagent::attack;
  static const auto real =
      reinterpret_cast<int (*)(int, const sockaddr*, socklen_t)>(::dlsym(RTLD_NEXT, "connect"));
  sockaddr_in own{};
  socklen_t own_size = sizeof own;
  const bool unbound =
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 && own.sin_port == 0;
  if (foreign && address->sa_family == AF_INET && unbound) {
    const int late = 1;  // the port is chosen by connect(), for this destination
    ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    own = {};
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(kFirst + next++ % kAddresses);
    ::bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own);
  }
  return real(fd, address, size);
}
