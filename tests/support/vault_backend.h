// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of a token vault as the OpenSSL provider's core wants them, with the rule of the gate
// for auth keys.

#include <botan/hash.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>

#include "agent/base/encoding.h"
#include "agent/openssl/backend.h"
#include "agent/pki/to_be_signed.h"
#include "agent/vault/token_vault.h"

namespace keyagent::test {

class VaultBackend final : public openssl::Backend {
 public:
  explicit VaultBackend(std::shared_ptr<pkcs11::Token> token) : vault_(std::move(token)) {}

  PublicKeyInfo create(const std::string& name, KeyAlgorithm algorithm,
                       const std::string& purpose) override {
    vault::VaultKey key;
    key.cka_id = CkaId::random();
    key.info.name = name;
    key.info.algorithm = algorithm;
    key.info.purpose = purpose_of(purpose).value();
    key.info.spki = vault_.generate({key.cka_id, name, algorithm, key.info.purpose});
    key.info.kid = Kid(jwk_thumbprint(key.info.spki));
    vault_.adopt(key);
    const std::lock_guard lock(mutex_);
    keys_[name] = key.info;
    return key.info;
  }
  PublicKeyInfo find(const std::string& which) override {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, info] : keys_) {
      if (name == which || info.kid.text() == which) return info;
    }
    throw Error(Code::kKeyNotPresent, "no key " + which);
  }
  PublicKeyInfo find_by_id(const Bytes&) override {
    throw Error(Code::kKeyNotPresent, "found by name only");
  }
  Bytes sign(const Kid&, SignatureAlgorithm, ByteView) override {
    throw Error(Code::kDenied, "an auth key signs no digests");
  }
  Bytes sign_message(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) override {
    if (before_signing) before_signing(kid);
    if (denied) throw Error(Code::kDenied, "this key is denied to the test");
    if (!pki::recognize(message, vault_.public_key(kid).spki))
      throw Error(Code::kDenied, "an auth key signs handshakes only");
    ++signatures;
    Bytes signature = sign_digest_of(kid, algorithm, message);
    if (forged == kid.text()) signature.back() ^= 1;
    return signature;
  }

  std::atomic<int> signatures{0};
  std::atomic<bool> denied{false};
  std::function<void(const Kid&)> before_signing;  // set while no session is being made
  std::string forged;                              // the kid whose signatures are wrong; as above

 private:
  Bytes sign_digest_of(const Kid& kid, SignatureAlgorithm algorithm, ByteView message) {
    if (algorithm == SignatureAlgorithm::kEdDsa) return vault_.sign(kid, algorithm, message);
    const auto hash = Botan::HashFunction::create_or_throw(
        "SHA-" + std::to_string(digest_size(digest_of(algorithm)) * 8));
    hash->update(message.data(), message.size());
    const auto digest = hash->final();
    return vault_.sign(kid, algorithm, {digest.data(), digest.size()});
  }

  vault::TokenVault vault_;
  std::mutex mutex_;
  std::map<std::string, PublicKeyInfo> keys_;
};

}  // namespace keyagent::test
