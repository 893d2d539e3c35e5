// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether this process has a network at all: the unit's sandbox gives it none until a drop-in does.

#include <string>

namespace keyagent::link {

// False when this process can reach no address like the one in `url`: it may not use sockets of the
// internet, or has no interface but the loopback one and `url` is of another host.
bool has_network(const std::string& url);

}  // namespace keyagent::link
