// SPDX-License-Identifier: Apache-2.0
// RFC 7512 URIs: refused or parsed, and what was parsed comes back the same.

#include <cstdlib>
#include <string_view>

#include "pkcs11/error.h"
#include "pkcs11/uri.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent::pkcs11;
  try {
    const Uri uri = parse_uri({reinterpret_cast<const char*>(data), size});
    const Uri again = parse_uri(format_uri(uri));
    if (again.token != uri.token || again.serial != uri.serial || again.id != uri.id) std::abort();
  } catch (const Error&) {
    // refused
  }
  return 0;
}
