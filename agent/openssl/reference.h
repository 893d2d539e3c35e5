// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a key of the agent is written down: URIs, and the PEM file that stands for a private key.

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/bytes.h"

namespace keyagent::openssl {

// `which` or `cka_id` is set.
struct Reference {
  std::string which;  // name or kid
  Bytes cka_id;
  std::string type;  // "private", "cert", …: what of the key is meant; empty: all of it
};

// `keyagent:NAME`, or an RFC 7512 URI with `object` or `id`. Its `token` and similar attributes are
// not compared: the socket selects the agent, and so the token. nullopt: another scheme. Throws
// Error{kUsage} for one of these schemes without a key.
std::optional<Reference> parse_reference(std::string_view uri);

// The URI that stands for a key by its name: after a rekey it means the new key.
std::string reference_uri(const std::string& name);

// The file that pkcs11-provider's tools write too: PEM "PKCS#11 PROVIDER URI" around
// SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }.
std::string reference_pem(const std::string& uri);
Bytes reference_der(const std::string& uri);
// The URI in such a file, or in its DER; nullopt when there is none in it.
std::optional<std::string> uri_in_pem(std::string_view text);
std::optional<std::string> uri_in_der(ByteView der);

}  // namespace keyagent::openssl
