// SPDX-License-Identifier: Apache-2.0
// CMS through the whole of open(), with the recipients' names made ours so that the bytes behind
// them are reached.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"

namespace {

using namespace keyagent;

struct Keys {
  test::SoftwareKeys ops;
  PublicKeyInfo rsa =
      ops.add("rsa", Purpose::kTransport, KeyAlgorithm::kRsa2048, EnvelopeAlgorithm::kRsaOaep);
  PublicKeyInfo ec =
      ops.add("ec", Purpose::kTransport, KeyAlgorithm::kEcP256, EnvelopeAlgorithm::kEcdhEsA256Kw);
};

void open_as(KeyOps& ops, const PublicKeyInfo& key, Bytes envelope, const Bytes& recipient) {
  const Bytes own = envelope::subject_key_identifier(key.spki);
  const auto at = std::search(envelope.begin(), envelope.end(), recipient.begin(), recipient.end());
  if (recipient.size() == own.size() && at != envelope.end()) {
    std::copy(own.begin(), own.end(), at);
  }
  try {
    envelope::open(ops, key, envelope);
  } catch (const Error&) {
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Keys& keys = *new Keys;  // libcrypto is gone when statics are destroyed
  const Bytes envelope(data, data + size);
  envelope::Header header;
  try {
    header = envelope::inspect(envelope);
  } catch (const Error&) {
    return 0;
  }
  if (header.recipient_ids.empty()) header.recipient_ids.emplace_back();
  for (const Bytes& recipient : header.recipient_ids) {
    open_as(keys.ops, keys.rsa, envelope, recipient);
    open_as(keys.ops, keys.ec, envelope, recipient);
    PublicKeyInfo legacy = header.authenticated ? keys.ec : keys.rsa;
    legacy.accepts_cbc = true;
    open_as(keys.ops, legacy, envelope, recipient);
  }
  return 0;
}
