// SPDX-License-Identifier: Apache-2.0
#include "agent/link/gate_backend.h"

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::link {

PublicKeyInfo GateBackend::find(const std::string& which) {
  return info_of(keys_.show(which));
}

PublicKeyInfo GateBackend::find_by_id(const Bytes& cka_id) {
  const std::string wanted = to_hex(cka_id);
  wire::Request request;
  request.mutable_key_list();
  const auto response = keys_.gate().call(std::move(request));
  for (const auto& key : response.key_list().keys()) {
    if (key.cka_id() == wanted) return info_of(key);
  }
  throw Error(Code::kKeyNotPresent, "the agent has no key with the CKA_ID " + wanted);
}

Bytes GateBackend::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  return keys_.sign(kid, algorithm, input);
}

Bytes GateBackend::sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) {
  return keys_.sign_message(kid, algorithm, message);
}

PublicKeyInfo GateBackend::create(const std::string&, KeyAlgorithm, const std::string&) {
  throw Error(Code::kUnsupported, "the agent does not create keys through its own provider");
}

}  // namespace keyagent::link
