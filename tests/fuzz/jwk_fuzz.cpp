// SPDX-License-Identifier: Apache-2.0
// JWK and JWS: what parses as a key must come back from its own JWK as the same key, and no JWS
// verifies under it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  const std::string_view text = as_text({data, size});
  const std::size_t line = text.find('\n');
  try {
    const PublicKeyInfo key = envelope::from_jwk(text.substr(0, line));
    if (envelope::from_jwk(envelope::to_jwk(key)).spki != key.spki) std::abort();
    if (line != std::string_view::npos) envelope::verify_jws(key, text.substr(line + 1));
  } catch (const Error&) {
  }
  return 0;
}
