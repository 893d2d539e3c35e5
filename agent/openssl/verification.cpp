// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/verification.h"

#include <botan/pubkey.h>
#include <botan/x509_key.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::openssl {
namespace {

// As Botan calls it; the input is a digest already, but for EdDSA.
std::string padding_of(SignatureAlgorithm algorithm) {
  const std::size_t size = digest_size(digest_of(algorithm));
  const std::string hash = "SHA-" + std::to_string(size * 8);
  switch (algorithm) {
    case SignatureAlgorithm::kRs256:
    case SignatureAlgorithm::kRs384:
    case SignatureAlgorithm::kRs512:
      return "EMSA3(Raw," + hash + ")";
    case SignatureAlgorithm::kPs256:
    case SignatureAlgorithm::kPs384:
    case SignatureAlgorithm::kPs512:
      return "PSSR_Raw(" + hash + ",MGF1," + std::to_string(size) + ")";
    case SignatureAlgorithm::kEs256:
    case SignatureAlgorithm::kEs384:
      return "Raw";
    case SignatureAlgorithm::kEdDsa:
      break;
  }
  return "Pure";
}

}  // namespace

bool verifies(const Key& key, SignatureAlgorithm algorithm, ByteView input, ByteView signature) {
  if (!key.info)
    throw Error(Code::kUnsupported, "keys outside the agent belong to the default provider");
  const std::unique_ptr<Botan::Public_Key> loaded(Botan::X509::load_key(key.info->spki));
  Botan::PK_Verifier verifier(*loaded, padding_of(algorithm));
  try {
    const Bytes raw = key.type == Type::kEc
                          ? ecdsa_from_der(signature, ec_field_size(key.info->algorithm))
                          : Bytes(signature.begin(), signature.end());
    return verifier.verify_message(input.data(), input.size(), raw.data(), raw.size());
  } catch (const std::exception&) {
    return false;  // not even the form of a signature
  }
}

}  // namespace keyagent::openssl
