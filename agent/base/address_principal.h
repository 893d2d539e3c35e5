// SPDX-License-Identifier: Apache-2.0
#pragma once
// The principal of a network address, for limits per address.

#include <string>
#include <string_view>

namespace keyagent {

// Of a peer's address ("192.0.2.1:4711", "[2001:db8::1]:4711", with or without the port): the IPv4
// address, also when it is mapped into IPv6, or the IPv6 /64 ("2001:db8::/64"), the usual
// allocation of one subscriber. Other text is returned unchanged.
std::string principal_of_address(std::string_view address);

}  // namespace keyagent
