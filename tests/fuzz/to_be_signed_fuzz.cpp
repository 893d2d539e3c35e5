// SPDX-License-Identifier: Apache-2.0
// What an auth key may sign: whatever is recognized is exactly one of the four things, and no text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/openssl/reference.h"
#include "agent/pki/to_be_signed.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace keyagent;
  const ByteView message(data, size);
  const Bytes spki(message.begin(),
                   message.begin() + static_cast<long>(std::min<std::size_t>(size, 91)));
  // A JWS signing input, an SSH signature or a file is text or begins with it.
  const bool text = std::all_of(message.begin(), message.end(),
                                [](auto byte) { return byte >= 0x20 && byte < 0x7f; });
  if (pki::recognize(message, spki) && text) std::abort();
  const auto uri = openssl::uri_in_pem(as_text(message));
  if (uri && openssl::uri_in_pem(openssl::reference_pem(*uri)) != uri) std::abort();
  openssl::uri_in_der(message);
  return 0;
}
