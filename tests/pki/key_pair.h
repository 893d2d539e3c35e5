// SPDX-License-Identifier: Apache-2.0
#pragma once
// A P-256 pair in memory, and what signs with it.

#include "agent/openssl/signature_encoding.h"
#include "agent/pki/certification_request.h"
#include "tests/pki/authority.h"

namespace keyagent::test {

struct KeyPair {
  Pkey key = ec_key();

  Bytes spki() const { return spki_of(key); }
  Bytes sign(ByteView message) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free);
    Bytes signature(256);
    std::size_t size = signature.size();
    EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get());
    EVP_DigestSign(context.get(), signature.data(), &size, message.data(), message.size());
    signature.resize(size);
    return signature;
  }
  pki::RequestSigner signer() const {
    return {openssl::algorithm_identifier(SignatureAlgorithm::kEs256),
            [this](ByteView message) { return sign(message); }};
  }
};

}  // namespace keyagent::test
