// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one table from a fault of the token or its module to an agent's error, for all that load a
// module: the vault, and the commands that work without an agent.

#include <exception>
#include <string>

#include "agent/base/error.h"

namespace keyagent::vault {

// Never let a pkcs11::Error pass this room or a command.
Error translate(const std::exception& error, const std::string& kid = {});

// Runs `work`; whatever it throws leaves as an agent's Error.
template <class Work>
auto translated(const std::string& kid, Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw translate(error, kid);
  }
}

}  // namespace keyagent::vault
