// SPDX-License-Identifier: Apache-2.0
#pragma once
// RFC 7512 PKCS#11 URIs, parsed by p11-kit.

#include <optional>
#include <string>
#include <string_view>

#include "pkcs11/secret.h"

namespace keyagent::pkcs11 {

struct Uri {
  std::optional<std::string> token, serial, manufacturer, model, object, type;
  std::optional<Bytes> id;
  std::optional<std::string> pin_source;   // "file:/path" only
  std::optional<std::string> module_path;  // reported, never followed (RELIABILITY 50)
};

// Throws Error{kProfile} with the reason. `pin-value` and `slot-id` are refused: a PIN does not
// belong in a URI, and a slot number names nothing for long. At most 4 KiB.
Uri parse_uri(std::string_view text);
std::string format_uri(const Uri& uri);

}  // namespace keyagent::pkcs11
