// SPDX-License-Identifier: Apache-2.0
#pragma once
// The other end of a key's way in software (OpenSSL): what an independent implementation of
// CKM_RSA_AES_KEY_WRAP's layout does.

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <memory>
#include <stdexcept>

#include "agent/base/bytes.h"
#include "agent/base/encoding.h"

namespace keyagent::test {

class SoftwareRecipient {
 public:
  Bytes spki() const {
    unsigned char* der = nullptr;
    const int size = i2d_PUBKEY(pair_.get(), &der);
    Bytes out(der, der + size);
    OPENSSL_free(der);
    return out;
  }
  // The key in `wrapped`; empty: it does not unwrap.
  Bytes unwrap(const Bytes& wrapped) const {
    const auto modulus = static_cast<std::size_t>(EVP_PKEY_get_size(pair_.get()));
    if (wrapped.size() <= modulus) return {};
    const Context context(EVP_PKEY_CTX_new(pair_.get(), nullptr), EVP_PKEY_CTX_free);
    Bytes one_time(modulus);
    std::size_t size = modulus;
    const bool opened =
        EVP_PKEY_decrypt_init(context.get()) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1 &&
        EVP_PKEY_decrypt(context.get(), one_time.data(), &size, wrapped.data(), modulus) == 1;
    if (!opened || size != 32) return {};
    one_time.resize(size);
    return kwp(one_time,
               Bytes(wrapped.begin() + static_cast<std::ptrdiff_t>(modulus), wrapped.end()), false);
  }

  // RFC 5649.
  static Bytes kwp(const Bytes& kek, const Bytes& in, bool wrap) {
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
        EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    const EVP_CIPHER* cipher = kek.size() == 16 ? EVP_aes_128_wrap_pad() : EVP_aes_256_wrap_pad();
    EVP_CIPHER_CTX_set_flags(context.get(), EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    Bytes out(in.size() + 32);
    int size = 0;
    if (EVP_CipherInit_ex(context.get(), cipher, nullptr, kek.data(), nullptr, wrap ? 1 : 0) != 1 ||
        EVP_CipherUpdate(context.get(), out.data(), &size, in.data(),
                         static_cast<int>(in.size())) != 1)
      return {};
    out.resize(static_cast<std::size_t>(size));
    return out;
  }

  static Bytes oaep(const Bytes& spki, const Bytes& text, int padding = RSA_PKCS1_OAEP_PADDING,
                    const EVP_MD* hash = EVP_sha1()) {
    const unsigned char* der = spki.data();
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> recipient(
        d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
    const Context context(EVP_PKEY_CTX_new(recipient.get(), nullptr), EVP_PKEY_CTX_free);
    Bytes out(static_cast<std::size_t>(EVP_PKEY_get_size(recipient.get())));
    std::size_t size = out.size();
    const bool oaep = padding == RSA_PKCS1_OAEP_PADDING;
    if (EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), padding) != 1 ||
        (oaep && EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), hash) != 1) ||
        EVP_PKEY_encrypt(context.get(), out.data(), &size, text.data(), text.size()) != 1)
      throw std::runtime_error("OpenSSL cannot encrypt to the key");
    return out;
  }

  // `key` for the holder of `spki`, as a source without a token would send it.
  static Bytes wrap_for(const Bytes& spki, const Bytes& key) {
    const Bytes kek = random_bytes(32);
    Bytes out = oaep(spki, kek);
    const Bytes inner = kwp(kek, key, true);
    out.insert(out.end(), inner.begin(), inner.end());
    return out;
  }

 private:
  using Context = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pair_{EVP_RSA_gen(2048), EVP_PKEY_free};
};

// AES-256-GCM of a storage key in software: the CEK, or empty.
inline Bytes gcm_open(const Bytes& key, const Bytes& iv, const Bytes& ciphertext,
                      const Bytes& tag) {
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  Bytes out(ciphertext.size());
  int size = 0;
  Bytes expected = tag;
  const bool opened =
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), iv.data()) == 1 &&
      EVP_DecryptUpdate(context.get(), out.data(), &size, ciphertext.data(),
                        static_cast<int>(ciphertext.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, 16, expected.data()) == 1 &&
      EVP_DecryptFinal_ex(context.get(), out.data(), &size) == 1;
  return opened ? out : Bytes{};
}

}  // namespace keyagent::test
