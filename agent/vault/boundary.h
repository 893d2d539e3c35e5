// SPDX-License-Identifier: Apache-2.0
#pragma once
// Converts Cryptoki errors to Error of the agent at the boundary of this room. Internal to it.

#include <string>
#include <utility>

#include "agent/vault/token_vault.h"

namespace keyagent::vault {

inline pkcs11::Bytes id_of(const CkaId& id) {
  return {id.bytes.begin(), id.bytes.end()};
}

template <class Work>
auto at_boundary(const std::string& kid, Work&& work) -> decltype(work()) {
  return translated(kid, std::forward<Work>(work));
}

}  // namespace keyagent::vault
