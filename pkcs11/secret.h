// SPDX-License-Identifier: Apache-2.0
#pragma once
// Byte types of this library; the same types as keyagent's own.

#include <botan/secmem.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace keyagent::pkcs11 {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;
using SecretBytes = Botan::secure_vector<std::uint8_t>;

// Where a PIN comes from. Called once for each login; may throw (the login then fails with that
// exception). The result is wiped by the caller as soon as C_Login has returned.
using PinSource = std::function<SecretBytes()>;

}  // namespace keyagent::pkcs11
