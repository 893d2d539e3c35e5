// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whom a network address counts as, when requests are limited by address.

#include <string>
#include <string_view>

namespace keyagent {

// Of a peer's address ("192.0.2.1:4711", "[2001:db8::1]:4711", with or without the port): the IPv4
// address, also when it is mapped into IPv6, or the IPv6 /64 ("2001:db8::/64"), which is what one
// subscriber has. Text that is no address is returned as it is.
std::string principal_of_address(std::string_view address);

}  // namespace keyagent
