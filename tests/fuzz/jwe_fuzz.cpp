// SPDX-License-Identifier: Apache-2.0
// JWE compact through the whole of open(): parser, key operations, authenticated decryption.
// Nothing but Error may come out, and never a plaintext, for no one can guess one of our keys.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"

namespace {

using namespace keyagent;

struct Keys {
  test::SoftwareKeys ops;
  std::vector<PublicKeyInfo> all{
      ops.add("rsa", Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep),
      ops.add("es", Purpose::kTransport, KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEs),
      ops.add("kw", Purpose::kTransport, KeyAlgorithm::kEcP384, EnvelopeAlgorithm::kEcdhEsA256Kw),
      ops.add("storage", Purpose::kStorage, KeyAlgorithm::kAes256)};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Keys& keys = *new Keys;  // libcrypto is gone when statics are destroyed
  const ByteView envelope(data, size);
  try {
    envelope::inspect(envelope);
  } catch (const Error&) {
    return 0;
  }
  for (const PublicKeyInfo& key : keys.all) {
    try {
      envelope::open(keys.ops, key, envelope);
    } catch (const Error&) {
      continue;
    }
    std::abort();
  }
  return 0;
}
