// SPDX-License-Identifier: Apache-2.0
// HSM profiles: refused with a line, or parsed within their ranges.

#include <cstdlib>
#include <string_view>

#include "pkcs11/error.h"
#include "pkcs11/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent::pkcs11;
  try {
    const Profile profile = parse_profile({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (profile.sessions == 0 || profile.modules.empty() || profile.algorithms.empty())
      std::abort();
  } catch (const Error&) {
    // refused
  }
  return 0;
}
