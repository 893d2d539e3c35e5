// SPDX-License-Identifier: Apache-2.0
#pragma once
// The certificate of a key with those above it (RFC 5280 §6): any order in, leaf first out, or one
// of the six reasons why not.

#include <string>
#include <vector>

#include "agent/pki/certificate_file.h"

namespace keyagent::pki {

struct ChainRules {
  Bytes spki;                  // of the key that it must be for
  std::string key;             // its name, for the texts
  bool tls = false;            // of an auth key: must allow TLS server or client
  std::string host;            // not empty: must be valid for this DNS name or address
  std::vector<Bytes> anchors;  // not empty: it must verify up to one of these
  WallTime now{};
};

struct Chain {
  std::vector<Bytes> certificates;  // DER: the key's, its issuer's, …
  std::vector<std::string> notes;   // what is not wrong and may surprise: a line each
};

// What is chosen depends on the set of certificates, never on their order. Of two that fit in one
// place, one that is valid now comes before one that is not, and then the one that is valid longer.
// What does not belong to the chain is left out. Without anchors the chain is verified up to its
// own last certificate. Throws ChainError.
Chain make_chain(const std::vector<Bytes>& certificates, const ChainRules& rules);

}  // namespace keyagent::pki
