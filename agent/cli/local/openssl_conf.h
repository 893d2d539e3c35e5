// SPDX-License-Identifier: Apache-2.0
#pragma once
// A configuration of OpenSSL that adds the provider to what the host has.

#include <filesystem>
#include <string>

namespace keyagent::cli {

// Includes `base` (skipped if it does not exist) and activates the default provider and `module`
// beside those that it names. Throws Error{kConfiguration}: OpenSSL cannot read `base`.
std::string openssl_conf(const std::filesystem::path& base, const std::filesystem::path& module,
                         const std::filesystem::path& socket);

// The file that OpenSSL programs read: $OPENSSL_CONF, else the host's.
std::filesystem::path openssl_conf_of_host();

}  // namespace keyagent::cli
