#pragma once
// The edge of this room: nothing of Cryptoki passes it but as an agent's Error. Internal to it.

#include <string>
#include <utility>

#include "agent/vault/token_vault.h"

namespace keyagent::vault {

inline pkcs11::Bytes id_of(const CkaId& id) {
  return {id.bytes.begin(), id.bytes.end()};
}

// Runs `work`; whatever it throws leaves this room as an agent's Error.
template <class Work>
auto at_boundary(const std::string& kid, Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw translate(error, kid);
  }
}

}  // namespace keyagent::vault
