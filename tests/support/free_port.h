// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TCP port of 127.0.0.1 for a program that is to be started.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>

namespace keyagent::test {

// Binds a port of 127.0.0.1 for a moment, any free one for 0; 0: it is taken.
inline unsigned bind_once(unsigned port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  socklen_t size = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return bound ? ntohs(address.sin_port) : 0;
}

// Free a moment ago.
inline int free_port() {
  const auto port = bind_once(0);
  if (port == 0) throw std::runtime_error("no free port");
  return static_cast<int>(port);
}

}  // namespace keyagent::test
