// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of a program that has them in memory, as TLS wants them: by kid.

#include <botan/hash.h>

#include "agent/base/error.h"
#include "agent/openssl/backend.h"
#include "tests/support/software_keys.h"

namespace keyagent::test {

class MemoryBackend final : public openssl::Backend {
 public:
  explicit MemoryBackend(SoftwareKeys& keys) : keys_(keys) {}
  PublicKeyInfo find(const std::string& which) override { return keys_.public_key(Kid(which)); }
  PublicKeyInfo find_by_id(const Bytes&) override { throw Error(Code::kKeyNotPresent, "no ids"); }
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override {
    return keys_.sign(kid, algorithm, input);
  }
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) override {
    const auto hash = Botan::HashFunction::create_or_throw(
        "SHA-" + std::to_string(digest_size(digest_of(algorithm)) * 8));
    hash->update(message.data(), message.size());
    const auto digest = hash->final();
    return keys_.sign(kid, algorithm, {digest.data(), digest.size()});
  }
  PublicKeyInfo create(const std::string&, KeyAlgorithm, const std::string&) override {
    throw Error(Code::kUnsupported, "makes none");
  }

 private:
  SoftwareKeys& keys_;
};

}  // namespace keyagent::test
