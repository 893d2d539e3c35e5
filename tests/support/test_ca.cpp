// SPDX-License-Identifier: Apache-2.0
#include "tests/support/test_ca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <stdexcept>

#include "agent/base/encoding.h"

namespace keyagent::test {
namespace {

struct Free {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(X509_CRL* p) const { X509_CRL_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

void must(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("test authority: ") + what);
}

template <class T, class Encode>
Bytes der(T* object, Encode encode) {
  unsigned char* out = nullptr;
  const int size = encode(object, &out);
  must(size > 0, "cannot be encoded");
  Bytes bytes(out, out + size);
  OPENSSL_free(out);
  return bytes;
}

std::string text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

Owned<X509> parse(ByteView bytes) {
  const unsigned char* at = bytes.data();
  Owned<X509> certificate(d2i_X509(nullptr, &at, static_cast<long>(bytes.size())));
  must(certificate != nullptr, "no certificate");
  return certificate;
}

void set_name(X509_NAME* name, const std::string& common) {
  must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                  reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1,
                                  0) == 1,
       "name");
}

void add(X509* certificate, X509* issuer, int nid, const std::string& value) {
  if (value.empty()) return;
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  must(extension != nullptr, value.c_str());
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

Owned<X509> blank(const std::string& name, EVP_PKEY* key, WallTime from, WallTime until) {
  Owned<X509> certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  const Bytes serial = random_bytes(8);
  BIGNUM* number = BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate.get()));
  BN_free(number);
  set_name(X509_get_subject_name(certificate.get()), name);
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), std::chrono::system_clock::to_time_t(from));
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()), std::chrono::system_clock::to_time_t(until));
  must(X509_set_pubkey(certificate.get(), key) == 1, "public key");
  return certificate;
}

}  // namespace

struct TestCa::Impl {
  Owned<EVP_PKEY> key{EVP_EC_gen("P-256")};
  Owned<X509> root;
};

TestCa::TestCa(const std::string& name) : impl_(std::make_unique<Impl>()) {
  const auto now = std::chrono::system_clock::now();
  auto root = blank(name, impl_->key.get(), now - std::chrono::hours(48),
                    now + std::chrono::hours(24 * 30));
  X509_set_issuer_name(root.get(), X509_get_subject_name(root.get()));
  add(root.get(), root.get(), NID_basic_constraints, "critical,CA:TRUE");
  add(root.get(), root.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  add(root.get(), root.get(), NID_subject_key_identifier, "hash");
  must(X509_sign(root.get(), impl_->key.get(), EVP_sha256()) > 0, "cannot sign");
  impl_->root = std::move(root);
}

TestCa::~TestCa() = default;

Bytes TestCa::root() const {
  return der(impl_->root.get(), i2d_X509);
}

Bytes TestCa::issue(ByteView spki, const Wish& wish) const {
  const unsigned char* at = spki.data();
  const Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  must(key != nullptr, "no public key");
  X509* root = impl_->root.get();
  const auto made = blank(wish.subject, key.get(), wish.not_before, wish.not_after);
  X509_set_issuer_name(made.get(), X509_get_subject_name(root));
  add(made.get(), root, NID_basic_constraints, "critical,CA:FALSE");
  add(made.get(), root, NID_key_usage, "critical,digitalSignature");
  add(made.get(), root, NID_subject_alt_name, wish.san);
  add(made.get(), root, NID_ext_key_usage, wish.eku);
  add(made.get(), root, NID_subject_key_identifier, "hash");
  add(made.get(), root, NID_authority_key_identifier, "keyid");
  must(X509_sign(made.get(), impl_->key.get(), EVP_sha256()) > 0, "cannot sign");
  return der(made.get(), i2d_X509);
}

Bytes TestCa::revoke(const std::vector<Bytes>& certificates, WallTime next_update) const {
  const Owned<X509_CRL> list(X509_CRL_new());
  X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(impl_->root.get()));
  ASN1_TIME* time = ASN1_TIME_new();
  const auto set = [&](WallTime when) {
    ASN1_TIME_set(time, std::chrono::system_clock::to_time_t(when));
    return time;
  };
  X509_CRL_set1_lastUpdate(list.get(),
                           set(std::chrono::system_clock::now() - std::chrono::hours(2)));
  X509_CRL_set1_nextUpdate(list.get(), set(next_update));
  for (const auto& each : certificates) {
    X509_REVOKED* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(parse(each).get()));
    X509_REVOKED_set_revocationDate(entry, set(std::chrono::system_clock::now()));
    X509_CRL_add0_revoked(list.get(), entry);
  }
  ASN1_TIME_free(time);
  must(X509_CRL_sign(list.get(), impl_->key.get(), EVP_sha256()) > 0, "cannot sign");
  return der(list.get(), i2d_X509_CRL);
}

std::string TestCa::spki_sha256() const {
  return to_base64url(sha256(der(impl_->key.get(), i2d_PUBKEY)));
}

SoftwareKey make_software_key() {
  const Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) ==
           1,
       "private key");
  return {der(key.get(), i2d_PUBKEY), text(out.get())};
}

std::string certificate_pem(ByteView bytes) {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_X509(out.get(), parse(bytes).get()) == 1, "PEM");
  return text(out.get());
}

}  // namespace keyagent::test
