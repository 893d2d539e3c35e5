// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a test's instance reads of an agent's messages, and what it seals for one.

#include <nlohmann/json.hpp>
#include <string>

#include "agent/base/key_ops.h"
#include "agent/tls/http.h"

namespace keyagent::test {

using Json = nlohmann::json;

// Of a certification request (PEM) whose own signature is good; throws Error{kIntegrity}.
Bytes spki_of_request(const std::string& pem);
// For sealing to: the algorithm follows from the envelope's name in these tests.
PublicKeyInfo transport_of(const Bytes& spki, const std::string& envelope);
// A compact JWE.
std::string seal(const PublicKeyInfo& key, ByteView secret);
// From DER.
std::string crl_pem(const Bytes& der);
tls::HttpResponse json(const Json& body);

}  // namespace keyagent::test
