// SPDX-License-Identifier: Apache-2.0
#pragma once
// CMS EnvelopedData with AES-256-CBC content, as `openssl cms -encrypt` makes it without a GCM
// cipher.

#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "agent/base/bytes.h"

namespace keyagent::test {

namespace cbc {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
template <typename T, auto Free>
using Owner = std::unique_ptr<T, Deleter<Free>>;

inline void must(bool ok) {
  if (!ok) throw std::runtime_error("OpenSSL cannot make the CMS message of a test");
}

// A certificate for the public key, by an authority of the moment.
inline Owner<X509, X509_free> certificate(ByteView spki) {
  const unsigned char* at = spki.data();
  const Owner<EVP_PKEY, EVP_PKEY_free> key(
      d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  const Owner<EVP_PKEY, EVP_PKEY_free> authority(EVP_EC_gen("P-256"));
  Owner<X509, X509_free> cert(X509_new());
  must(key && authority && cert);
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), 86400);
  X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  must(X509_set_pubkey(cert.get(), key.get()) == 1);
  X509V3_CTX context;
  X509V3_set_ctx(&context, cert.get(), cert.get(), nullptr, nullptr, 0);
  const Owner<X509_EXTENSION, X509_EXTENSION_free> id(
      X509V3_EXT_conf_nid(nullptr, &context, NID_subject_key_identifier, "hash"));
  must(id && X509_add_ext(cert.get(), id.get(), -1) == 1);
  must(X509_sign(cert.get(), authority.get(), EVP_sha256()) > 0);
  return cert;
}

}  // namespace cbc

// DER, the recipient named by its key identifier. `spki`: RSA (sealed with OAEP and SHA-256) or EC.
inline std::string cbc_message(ByteView spki, std::string_view text) {
  const auto cert = cbc::certificate(spki);
  const cbc::Owner<BIO, BIO_free> in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  constexpr unsigned kFlags = CMS_BINARY | CMS_USE_KEYID | CMS_PARTIAL | CMS_KEY_PARAM;
  const cbc::Owner<CMS_ContentInfo, CMS_ContentInfo_free> cms(
      CMS_encrypt(nullptr, in.get(), EVP_aes_256_cbc(), kFlags));
  cbc::must(cms != nullptr);
  CMS_RecipientInfo* recipient = CMS_add1_recipient_cert(cms.get(), cert.get(), kFlags);
  cbc::must(recipient != nullptr);
  if (EVP_PKEY_is_a(X509_get0_pubkey(cert.get()), "RSA") == 1) {
    EVP_PKEY_CTX* context = CMS_RecipientInfo_get0_pkey_ctx(recipient);
    cbc::must(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0 &&
              EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()) > 0 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) > 0);
  }
  cbc::must(CMS_final(cms.get(), in.get(), nullptr, kFlags) == 1);
  unsigned char* der = nullptr;
  const int size = i2d_CMS_ContentInfo(cms.get(), &der);
  cbc::must(size > 0);
  std::string out(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return out;
}

}  // namespace keyagent::test
