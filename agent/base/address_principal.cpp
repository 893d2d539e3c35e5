// SPDX-License-Identifier: Apache-2.0
#include "agent/base/address_principal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>

namespace keyagent {
namespace {

// Without brackets, port and zone.
std::string host_of(std::string_view address) {
  if (address.starts_with('[')) {
    const auto end = address.find(']');
    if (end != std::string_view::npos) address = address.substr(1, end - 1);
  } else if (std::count(address.begin(), address.end(), ':') == 1) {
    address = address.substr(0, address.find(':'));
  }
  return std::string(address.substr(0, address.find('%')));
}

}  // namespace

std::string principal_of_address(std::string_view address) {
  const std::string host = host_of(address);
  in6_addr six{};
  if (::inet_pton(AF_INET6, host.c_str(), &six) != 1) {
    in_addr four{};
    return ::inet_pton(AF_INET, host.c_str(), &four) == 1 ? host : std::string(address);
  }
  char text[INET6_ADDRSTRLEN] = {};
  if (IN6_IS_ADDR_V4MAPPED(&six)) return ::inet_ntop(AF_INET, six.s6_addr + 12, text, sizeof(text));
  std::fill(six.s6_addr + 8, six.s6_addr + 16, std::uint8_t{0});
  return std::string(::inet_ntop(AF_INET6, &six, text, sizeof(text))) + "/64";
}

}  // namespace keyagent
