// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a store is opened.

#include <cstddef>
#include <string>

namespace keyagent::store {

struct Options {
  std::string url;  // "sqlite:///var/lib/keyinstanced/instance.db" or "postgresql://…" (libpq URI,
                    // no password in it: passfile or peer authentication)
  std::size_t connections = 4;
};

}  // namespace keyagent::store
