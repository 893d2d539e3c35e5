#include "agent/link/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::link {
namespace {

struct Free {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(X509_CRL* p) const { X509_CRL_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
  void operator()(BIGNUM* p) const { BN_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

[[noreturn]] void refuse(const std::string& why) {
  ERR_clear_error();
  throw Error(Code::kIntegrity, why);
}

Owned<BIO> reader(std::string_view text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string text_of(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<std::size_t>(std::max(size, 0L))};
}

template <class T, class Encode>
Bytes der_of(T* object, Encode encode) {
  Bytes der(static_cast<std::size_t>(std::max(0, encode(object, nullptr))));
  unsigned char* at = der.data();
  encode(object, &at);
  return der;
}

Owned<X509> parse(ByteView der) {
  const unsigned char* at = der.data();
  Owned<X509> certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (!certificate || at != der.data() + der.size()) refuse("these bytes are no certificate");
  return certificate;
}

WallTime time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) refuse("a certificate has no readable validity");
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

std::string serial_of(X509* certificate) {
  const Owned<BIGNUM> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  Bytes bytes(static_cast<std::size_t>(std::max(1, number ? BN_num_bytes(number.get()) : 1)));
  if (number) BN_bn2bin(number.get(), bytes.data());
  return to_hex(bytes);
}

std::vector<std::string> dns_names_of(X509* certificate) {
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> out;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type));
    if (type != GEN_DNS) continue;
    out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                     static_cast<std::size_t>(ASN1_STRING_length(value)));
  }
  return out;
}

struct Stack {
  STACK_OF(X509) * all = sk_X509_new_null();
  ~Stack() { sk_X509_pop_free(all, X509_free); }
};

void require_chain(const std::vector<Bytes>& chain, ByteView ca, WallTime now) {
  const Owned<X509> leaf = parse(chain.front()), root = parse(ca);
  const Stack between;
  for (std::size_t i = 1; i < chain.size(); ++i)
    sk_X509_push(between.all, parse(chain[i]).release());
  const Owned<X509_STORE> store(X509_STORE_new());
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  if (!store || !context || X509_STORE_add_cert(store.get(), root.get()) != 1 ||
      X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), between.all) != 1)
    throw Error(Code::kInternal, "OpenSSL: no certificate can be verified");
  X509_STORE_CTX_set_time(context.get(), 0, std::chrono::system_clock::to_time_t(now));
  X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_CLIENT);
  if (X509_verify_cert(context.get()) == 1) return ERR_clear_error();
  const int why = X509_STORE_CTX_get_error(context.get());
  refuse(std::string("the certificate does not lead to the instance's CA: ") +
         X509_verify_cert_error_string(why));
}

}  // namespace

std::vector<Bytes> certificates_of_pem(std::string_view pem) {
  ERR_clear_error();
  const auto bio = reader(pem);
  std::vector<Bytes> out;
  while (const Owned<X509> each{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)})
    out.push_back(der_of(each.get(), i2d_X509));
  ERR_clear_error();
  if (out.empty()) refuse("there is no certificate in what should be PEM");
  return out;
}

std::string pem_of_certificates(const std::vector<Bytes>& chain) {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  for (const auto& each : chain) PEM_write_bio_X509(out.get(), parse(each).get());
  return text_of(out.get());
}

Bytes revocation_list_of_pem(std::string_view pem, ByteView ca) {
  ERR_clear_error();
  const auto bio = reader(pem);
  const Owned<X509_CRL> list(PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr));
  if (!list) refuse("there is no revocation list in what should be PEM");
  const Owned<X509> issuer = parse(ca);
  if (X509_CRL_verify(list.get(), X509_get0_pubkey(issuer.get())) != 1)
    refuse("the revocation list is not the instance's");
  return der_of(list.get(), i2d_X509_CRL);
}

std::string pem_of_request(ByteView request) {
  const unsigned char* at = request.data();
  X509_REQ* parsed = d2i_X509_REQ(nullptr, &at, static_cast<long>(request.size()));
  if (parsed == nullptr) throw Error(Code::kInternal, "a certification request does not parse");
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(out.get(), parsed);
  X509_REQ_free(parsed);
  return text_of(out.get());
}

Leaf leaf_of(ByteView certificate) {
  const Owned<X509> parsed = parse(certificate);
  Leaf leaf;
  leaf.spki = der_of(X509_get_X509_PUBKEY(parsed.get()), i2d_X509_PUBKEY);
  leaf.serial = serial_of(parsed.get());
  leaf.dns_names = dns_names_of(parsed.get());
  leaf.not_before = time_of(X509_get0_notBefore(parsed.get()));
  leaf.not_after = time_of(X509_get0_notAfter(parsed.get()));
  return leaf;
}

std::string fingerprint_of(ByteView certificate) {
  return to_base64url(sha256(leaf_of(certificate).spki));
}

PublicKeyInfo signing_key_of(ByteView spki) {
  const unsigned char* at = spki.data();
  const Owned<EVP_PKEY> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (!key || at != spki.data() + spki.size()) refuse("these bytes are no public key");
  PublicKeyInfo info;
  const int bits = EVP_PKEY_get_bits(key.get());
  if (EVP_PKEY_is_a(key.get(), "EC") == 1) {
    info.algorithm = bits == 384 ? KeyAlgorithm::kEcP384 : KeyAlgorithm::kEcP256;
  } else if (EVP_PKEY_is_a(key.get(), "ED25519") == 1) {
    info.algorithm = KeyAlgorithm::kEd25519;
  } else if (EVP_PKEY_is_a(key.get(), "RSA") == 1) {
    info.algorithm = bits == 4096   ? KeyAlgorithm::kRsa4096
                     : bits == 3072 ? KeyAlgorithm::kRsa3072
                                    : KeyAlgorithm::kRsa2048;
  } else {
    refuse("this kind of key signs nothing here");
  }
  info.spki.assign(spki.begin(), spki.end());
  info.purpose = Purpose::kSign;
  try {
    info.kid = Kid(jwk_thumbprint(spki));
  } catch (const Error& error) {
    refuse(error.what());
  }
  return info;
}

void require_ours(const std::vector<Bytes>& chain, ByteView ca, ByteView spki,
                  const std::string& agent, WallTime now) {
  if (chain.empty()) refuse("the certificate's chain is empty");
  require_chain(chain, ca, now);
  const Leaf leaf = leaf_of(chain.front());
  if (!std::equal(leaf.spki.begin(), leaf.spki.end(), spki.begin(), spki.end()))
    refuse("the certificate is for another key");
  if (leaf.dns_names != std::vector<std::string>{agent})
    refuse("the certificate does not name this agent alone, " + agent);
}

}  // namespace keyagent::link
