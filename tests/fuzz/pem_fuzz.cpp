// SPDX-License-Identifier: Apache-2.0
// Files as editors leave them, before anything is parsed: what is found in one is found again when
// it is written again, and a secret that is taken is one line.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/base/pem.h"
#include "agent/base/secret_text.h"

namespace {

using namespace keyagent;

void read_blocks(ByteView bytes) {
  const bool pem = has_pem(bytes);
  const auto blocks = read_pem(bytes);
  if (!blocks.empty() && !pem) std::abort();
}

void read_der(ByteView bytes) {
  const auto der = whole_der(bytes);
  if (der && (der->size() > bytes.size() || whole_der(*der)->size() != der->size())) std::abort();
}

void read_secret(ByteView bytes) {
  const auto text = secret_text({bytes.begin(), bytes.end()}, "the PIN");
  const bool one_line =
      std::all_of(text.begin(), text.end(), [](auto byte) { return byte >= 0x20; });
  if (text.empty() || !one_line || text.size() + 2 < bytes.size()) std::abort();
  if (secret_text(text, "the PIN") != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const auto read : {read_blocks, read_der, read_secret}) {
    try {
      read({data, size});
    } catch (const Error&) {
      // Refused.
    }
  }
  return 0;
}
