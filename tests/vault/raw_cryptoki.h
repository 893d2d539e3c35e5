// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an attacker with the PIN says to a token by raw Cryptoki, and a token of the agent's keys.

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <functional>
#include <memory>
#include <string>

#include "agent/base/encoding.h"
#include "agent/vault/token_vault.h"
#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::vault {

using pkcs11::Attributes;
using pkcs11::Session;
using Handle = CK_OBJECT_HANDLE;

inline const Bytes kVictim = [] {
  Bytes value(32);
  for (std::size_t i = 0; i < value.size(); ++i) value[i] = static_cast<std::uint8_t>(0xA0 + i);
  return value;
}();
inline const Bytes kKnown(32, 0x4b);  // a key whose value the attacker knows

// --- raw Cryptoki, nothing but answers: nothing for what the token refuses
// -------------------------------------------------------------------------------------------------

inline Bytes read_value(Session& s, Handle key, CK_ATTRIBUTE_TYPE type = CKA_VALUE) {
  Bytes value(1024);
  CK_ATTRIBUTE attribute{type, value.data(), value.size()};
  if (s.c().C_GetAttributeValue(s.handle(), key, &attribute, 1) != CKR_OK) return {};
  if (attribute.ulValueLen > value.size()) return {};
  value.resize(attribute.ulValueLen);
  return value;
}

inline Bytes wrap_with(Session& s, CK_MECHANISM_TYPE type, Handle wrapping, Handle key) {
  CK_RSA_PKCS_OAEP_PARAMS oaep{CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, nullptr, 0};
  CK_MECHANISM mechanism{type, nullptr, 0};
  if (type == CKM_RSA_PKCS_OAEP) mechanism = {type, &oaep, sizeof oaep};
  Bytes out(4096);
  CK_ULONG size = out.size();
  if (s.c().C_WrapKey(s.handle(), &mechanism, wrapping, key, out.data(), &size) != CKR_OK)
    return {};
  out.resize(size);
  return out;
}

inline Handle unwrap_with(Session& s, Handle unwrapping, Bytes wrapped, Attributes& wanted) {
  CK_MECHANISM mechanism{CKM_AES_KEY_WRAP, nullptr, 0};
  Handle key = 0;
  const CK_RV rv = s.c().C_UnwrapKey(s.handle(), &mechanism, unwrapping, wrapped.data(),
                                     wrapped.size(), wanted.data(), wanted.size(), &key);
  return rv == CKR_OK ? key : 0;
}

inline Bytes ecb_decrypt(Session& s, Handle key, const Bytes& block) {
  CK_MECHANISM mechanism{CKM_AES_ECB, nullptr, 0};
  if (s.c().C_DecryptInit(s.handle(), &mechanism, key) != CKR_OK) return {};
  Bytes out(block.size());
  CK_ULONG size = out.size();
  auto in = block;
  if (s.c().C_Decrypt(s.handle(), in.data(), in.size(), out.data(), &size) != CKR_OK) return {};
  return out;
}

inline bool set_bool(Session& s, Handle key, CK_ATTRIBUTE_TYPE type, bool value) {
  Attributes changed;
  changed.add_bool(type, value);
  return s.c().C_SetAttributeValue(s.handle(), key, changed.data(), changed.size()) == CKR_OK;
}

// RFC 3394 §2.2.2 with a key that is reached only as an ECB oracle. `block` decrypts 16 bytes.
inline Bytes key_unwrap(const Bytes& wrapped, const std::function<Bytes(const Bytes&)>& block) {
  if (wrapped.size() < 24) return {};
  const std::size_t n = wrapped.size() / 8 - 1;
  Bytes a(wrapped.begin(), wrapped.begin() + 8), r(wrapped.begin() + 8, wrapped.end());
  for (std::size_t j = 6; j-- > 0;) {
    for (std::size_t i = n; i >= 1; --i) {
      Bytes in = a;
      in[7] ^= static_cast<std::uint8_t>(n * j + i);
      in[6] ^= static_cast<std::uint8_t>((n * j + i) >> 8);
      in.insert(in.end(), r.begin() + static_cast<std::ptrdiff_t>(8 * (i - 1)),
                r.begin() + static_cast<std::ptrdiff_t>(8 * i));
      const Bytes out = block(in);
      if (out.size() != 16) return {};
      std::copy(out.begin(), out.begin() + 8, a.begin());
      std::copy(out.begin() + 8, out.end(), r.begin() + static_cast<std::ptrdiff_t>(8 * (i - 1)));
    }
  }
  return a == Bytes(8, 0xA6) ? r : Bytes{};
}

inline Bytes unwrap_in_software(const Bytes& kek, const Bytes& wrapped) {
  return key_unwrap(wrapped, [&](const Bytes& in) {
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
        EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    Bytes out(32);
    int size = 0;
    EVP_DecryptInit_ex(context.get(), EVP_aes_256_ecb(), nullptr, kek.data(), nullptr);
    EVP_CIPHER_CTX_set_padding(context.get(), 0);
    EVP_DecryptUpdate(context.get(), out.data(), &size, in.data(), static_cast<int>(in.size()));
    out.resize(static_cast<std::size_t>(size));
    return out;
  });
}

inline Handle import_aes(Session& s, const Bytes& value,
                         std::initializer_list<CK_ATTRIBUTE_TYPE> usages, bool sensitive = false) {
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, CKO_SECRET_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_AES)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_SENSITIVE, sensitive)
      .add_bool(CKA_EXTRACTABLE, true)
      .add(CKA_VALUE, value);
  for (const auto usage : usages) wanted.add_bool(usage, true);
  Handle key = 0;
  pkcs11::check(s.c().C_CreateObject(s.handle(), wanted.data(), wanted.size(), &key),
                "C_CreateObject");
  return key;
}

// A token with keys as the agent makes them; one for all tests of a suite.
class AgentKeys {
 protected:
  static void start() {
    hsm_ = std::make_unique<test::SoftHsm>();
    token_ = hsm_->open();
    vault_ = std::make_unique<TokenVault>(token_);
  }
  static void end() {
    vault_.reset();
    token_.reset();
    hsm_.reset();
  }

  static VaultKey make(Purpose purpose, KeyAlgorithm algorithm) {
    VaultKey key;
    key.cka_id = CkaId::random();
    key.info.name = "victim";
    key.info.purpose = purpose;
    key.info.algorithm = algorithm;
    key.info.spki = vault_->generate({key.cka_id, "victim", algorithm, purpose});
    return key;
  }
  static Handle handle_of(Session& s, const VaultKey& key) {
    const bool secret = key.info.algorithm == KeyAlgorithm::kAes256;
    return s.key({{key.cka_id.bytes.begin(), key.cka_id.bytes.end()},
                  secret ? CKO_SECRET_KEY : CKO_PRIVATE_KEY});
  }

  static inline std::unique_ptr<test::SoftHsm> hsm_;
  static inline std::shared_ptr<pkcs11::Token> token_;
  static inline std::unique_ptr<TokenVault> vault_;
};

}  // namespace keyagent::vault
