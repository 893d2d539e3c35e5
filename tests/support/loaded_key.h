// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys as programs with a provider have them: loaded by a URI, and used without checking who holds
// them.

#include <openssl/evp.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "agent/base/encoding.h"

namespace keyagent::test {

using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// Empty where nothing of this URI can be loaded.
inline Pkey load_key(OSSL_LIB_CTX* library, const std::string& uri) {
  OSSL_STORE_CTX* store = OSSL_STORE_open_ex(uri.c_str(), library, nullptr, nullptr, nullptr,
                                             nullptr, nullptr, nullptr);
  Pkey key(nullptr, EVP_PKEY_free);
  while (store != nullptr && !key && OSSL_STORE_eof(store) == 0) {
    OSSL_STORE_INFO* info = OSSL_STORE_load(store);
    if (info == nullptr) break;
    key.reset(OSSL_STORE_INFO_get1_PKEY(info));
    OSSL_STORE_INFO_free(info);
  }
  OSSL_STORE_close(store);
  return key;
}

// Signs random data and verifies the signature in software, with the public half alone. `digest`:
// nullptr signs the message itself.
inline bool signs_with(OSSL_LIB_CTX* library, EVP_PKEY* key, const char* digest = "SHA256") {
  using Digesting = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
  const Bytes data = random_bytes(100);
  Bytes signature(512);
  std::size_t size = signature.size();
  const Digesting sign(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (EVP_DigestSignInit_ex(sign.get(), nullptr, digest, library, nullptr, key, nullptr) != 1 ||
      EVP_DigestSign(sign.get(), signature.data(), &size, data.data(), data.size()) != 1)
    return false;
  unsigned char* spki = nullptr;
  const int length = i2d_PUBKEY(key, &spki);
  const unsigned char* at = spki;
  const Pkey public_key(d2i_PUBKEY(nullptr, &at, length), EVP_PKEY_free);
  OPENSSL_free(spki);
  const Digesting verify(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return EVP_DigestVerifyInit_ex(verify.get(), nullptr, digest, nullptr, nullptr, public_key.get(),
                                 nullptr) == 1 &&
         EVP_DigestVerify(verify.get(), signature.data(), size, data.data(), data.size()) == 1;
}

}  // namespace keyagent::test
