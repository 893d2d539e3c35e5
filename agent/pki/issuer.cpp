// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/issuer.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/pem.h"
#include "agent/pki/alternative_names.h"
#include "agent/pki/subject.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

using Crl = Owned<X509_CRL, X509_CRL_free>;
using PublicKey = Owned<EVP_PKEY, EVP_PKEY_free>;
using Integer = Owned<ASN1_INTEGER, ASN1_INTEGER_free>;

constexpr std::size_t kMaxRequest = 64 * 1024;

void require(bool good, const char* what) {
  if (good) return;
  ERR_clear_error();
  throw Error(Code::kInternal, std::string("the certificate: ") + what);
}

Certificate load(ByteView der) {
  auto certificate = parse_certificate(der);
  if (!certificate) throw Error(Code::kInput, "not a certificate");
  return certificate;
}

PublicKey load_key(ByteView spki) {
  const unsigned char* at = spki.data();
  PublicKey key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  require(key != nullptr, "its key");
  return key;
}

Integer integer_of_hex(const std::string& hex) {
  BIGNUM* number = nullptr;
  const bool read = !hex.empty() && hex.size() <= 40 &&
                    BN_hex2bn(&number, hex.c_str()) == static_cast<int>(hex.size());
  Owned<BIGNUM, BN_free> owned(number);
  if (!read || BN_is_zero(number))
    throw Error(Code::kUsage, "'" + hex + "' is not a serial number");
  return Integer(BN_to_ASN1_INTEGER(number, nullptr));
}

std::time_t seconds(WallTime time) {
  return std::chrono::system_clock::to_time_t(time);
}

// `value` is one of this file's own: OpenSSL parses it as configuration, where a name from
// elsewhere could become several.
void add(X509* certificate, X509* authority, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, authority, certificate, nullptr, nullptr, 0);
  X509V3_set_ctx_nodb(&context);
  Owned<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  require(extension && X509_add_ext(certificate, extension.get(), -1) == 1, "its extensions");
}

Certificate begin(ByteView spki, const std::string& subject, const std::string& serial,
                  const Validity& validity) {
  Certificate certificate(X509_new());
  const auto key = load_key(spki);
  X509* raw = certificate.get();
  require(X509_set_version(raw, X509_VERSION_3) == 1 && X509_set_pubkey(raw, key.get()) == 1 &&
              X509_set_serialNumber(raw, integer_of_hex(serial).get()) == 1 &&
              ASN1_TIME_set(X509_getm_notBefore(raw), seconds(validity.not_before)) != nullptr &&
              ASN1_TIME_set(X509_getm_notAfter(raw), seconds(validity.not_after)) != nullptr,
          "its fields");
  add_subject(X509_get_subject_name(raw), subject);
  return certificate;
}

using Algorithm = Owned<X509_ALGOR, X509_ALGOR_free>;

Algorithm algorithm_of(const RequestSigner& signer) {
  const unsigned char* at = signer.algorithm.data();
  Algorithm algorithm(d2i_X509_ALGOR(nullptr, &at, static_cast<long>(signer.algorithm.size())));
  require(algorithm != nullptr, "its algorithm");
  return algorithm;
}

// The getter of the signature is the only way to where it is written.
void put_signature(const ASN1_BIT_STRING* where, const Bytes& signature) {
  auto* bits = const_cast<ASN1_BIT_STRING*>(where);
  require(ASN1_BIT_STRING_set(bits, const_cast<unsigned char*>(signature.data()),
                              static_cast<int>(signature.size())) == 1,
          "its signature");
  bits->flags &= ~(ASN1_STRING_FLAG_BITS_LEFT | 0x07);
  bits->flags |= ASN1_STRING_FLAG_BITS_LEFT;  // no unused bits
}

void sign(X509* certificate, const RequestSigner& signer) {
  const auto algorithm = algorithm_of(signer);
  const X509_ALGOR* outer = nullptr;
  const ASN1_BIT_STRING* signature = nullptr;
  X509_get0_signature(&signature, &outer, certificate);
  const X509_ALGOR* inner = X509_get0_tbs_sigalg(certificate);
  require(X509_ALGOR_copy(const_cast<X509_ALGOR*>(inner), algorithm.get()) == 1 &&
              X509_ALGOR_copy(const_cast<X509_ALGOR*>(outer), algorithm.get()) == 1,
          "its algorithm");
  put_signature(signature, signer.sign(encoded<i2d_re_X509_tbs>(certificate)));
}

// OpenSSL sets the inner algorithm of a CRL only in X509_CRL_sign(): sign it with a temporary key
// first.
void sign(X509_CRL* crl, const RequestSigner& signer) {
  const auto algorithm = algorithm_of(signer);
  const ASN1_OBJECT* object = nullptr;
  X509_ALGOR_get0(&object, nullptr, nullptr, algorithm.get());
  int digest = NID_undef, kind = NID_undef;
  const bool known = OBJ_find_sigid_algs(OBJ_obj2nid(object), &digest, &kind) == 1;
  PublicKey placeholder;
  if (known && kind == NID_X9_62_id_ecPublicKey) placeholder.reset(EVP_EC_gen("P-256"));
  if (known && kind == NID_ED25519)
    placeholder.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (known && kind == NID_rsaEncryption) placeholder.reset(EVP_RSA_gen(2048));
  if (!placeholder)
    throw Error(Code::kUnsupported, "a CRL is signed with ECDSA, Ed25519 or RSA (PKCS#1 v1.5)");
  require(X509_CRL_sign(crl, placeholder.get(), EVP_get_digestbynid(digest)) > 0, "its algorithm");
  const ASN1_BIT_STRING* signature = nullptr;
  X509_CRL_get0_signature(crl, &signature, nullptr);
  put_signature(signature, signer.sign(encoded<i2d_re_X509_CRL_tbs>(crl)));
}

// What the token signed is checked before it leaves.
Bytes finish(X509* certificate, X509* authority, const RequestSigner& signer) {
  sign(certificate, signer);
  Bytes der = encoded<i2d_X509>(certificate);
  const auto again = load(der);
  if (X509_verify(again.get(), X509_get0_pubkey(authority)) != 1) {
    ERR_clear_error();
    throw Error(Code::kIntegrity, "the signature of the certificate does not verify");
  }
  return der;
}

std::optional<int> reason_number(const std::string& reason) {
  static constexpr std::pair<const char*, int> kReasons[] = {
      {"unspecified", CRL_REASON_UNSPECIFIED},
      {"keyCompromise", CRL_REASON_KEY_COMPROMISE},
      {"cACompromise", CRL_REASON_CA_COMPROMISE},
      {"affiliationChanged", CRL_REASON_AFFILIATION_CHANGED},
      {"superseded", CRL_REASON_SUPERSEDED},
      {"cessationOfOperation", CRL_REASON_CESSATION_OF_OPERATION}};
  for (const auto& [name, number] : kReasons) {
    if (reason == name) return number;
  }
  return std::nullopt;
}

void add_revoked(X509_CRL* crl, const Revoked& each) {
  Owned<X509_REVOKED, X509_REVOKED_free> entry(X509_REVOKED_new());
  Owned<ASN1_TIME, ASN1_TIME_free> when(ASN1_TIME_set(nullptr, seconds(each.when)));
  require(X509_REVOKED_set_serialNumber(entry.get(), integer_of_hex(each.serial).get()) == 1 &&
              X509_REVOKED_set_revocationDate(entry.get(), when.get()) == 1,
          "an entry of the CRL");
  const auto number = reason_number(each.reason);
  if (!number) throw Error(Code::kUsage, "'" + each.reason + "' is not a reason of RFC 5280");
  if (*number != CRL_REASON_UNSPECIFIED) {  // RFC 5280 §5.3.1: then absent
    Owned<ASN1_ENUMERATED, ASN1_ENUMERATED_free> reason(ASN1_ENUMERATED_new());
    require(ASN1_ENUMERATED_set(reason.get(), *number) == 1 &&
                X509_REVOKED_add1_ext_i2d(entry.get(), NID_crl_reason, reason.get(), 0, 0) == 1,
            "a reason of the CRL");
  }
  require(X509_CRL_add0_revoked(crl, entry.release()) == 1, "an entry of the CRL");
}

// nullptr: this is not one request.
Owned<X509_REQ, X509_REQ_free> parse_request(ByteView file) {
  std::vector<PemBlock> blocks;
  try {
    if (!whole_der(file) && has_pem(file)) blocks = read_pem(file);
  } catch (const Error& error) {
    throw Error(Code::kInput, error.what());
  }
  std::erase_if(blocks, [](const auto& block) {
    return block.label != PEM_STRING_X509_REQ && block.label != PEM_STRING_X509_REQ_OLD;
  });
  const ByteView der =
      blocks.size() == 1 ? ByteView(blocks.front().content) : whole_der(file).value_or(ByteView());
  const unsigned char* at = der.data();
  Owned<X509_REQ, X509_REQ_free> parsed(d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())));
  if (parsed && at != der.data() + der.size()) parsed.reset();
  return parsed;
}

}  // namespace

Bytes make_authority(ByteView spki, const std::string& subject, const Validity& validity,
                     const RequestSigner& signer) {
  const auto certificate = begin(spki, subject, new_serial(), validity);
  X509* raw = certificate.get();
  require(X509_NAME_entry_count(X509_get_subject_name(raw)) > 0 &&
              X509_set_issuer_name(raw, X509_get_subject_name(raw)) == 1,
          "its issuer");
  add(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign");
  add(raw, raw, NID_subject_key_identifier, "hash");
  return finish(raw, raw, signer);
}

bool is_own_authority(ByteView der, ByteView spki) {
  const QuietErrors quiet;
  const auto certificate = parse_certificate(der);
  if (!certificate) return false;
  X509* raw = certificate.get();
  EVP_PKEY* key = X509_get0_pubkey(raw);
  if (key == nullptr) return false;
  const Bytes own = encoded<i2d_PUBKEY>(key);
  return std::equal(own.begin(), own.end(), spki.begin(), spki.end()) && X509_check_ca(raw) == 1 &&
         X509_NAME_cmp(X509_get_subject_name(raw), X509_get_issuer_name(raw)) == 0 &&
         X509_verify(raw, key) == 1;
}

Bytes issue(ByteView authority, const Certified& certified, const RequestSigner& signer) {
  const auto issuer = load(authority);
  const auto certificate =
      begin(certified.spki, certified.subject, certified.serial, certified.validity);
  X509* raw = certificate.get();
  require(X509_set_issuer_name(raw, X509_get_subject_name(issuer.get())) == 1, "its issuer");
  add(raw, issuer.get(), NID_basic_constraints, "critical,CA:FALSE");
  add(raw, issuer.get(), NID_key_usage, "critical,digitalSignature");
  add(raw, issuer.get(), NID_ext_key_usage,
      certified.use == Use::kClient ? "clientAuth" : "serverAuth");
  const bool unnamed = X509_NAME_entry_count(X509_get_subject_name(raw)) == 0;
  require(
      X509_add1_ext_i2d(raw, NID_subject_alt_name, general_names(certified.alternative_names).get(),
                        unnamed ? 1 : 0, X509V3_ADD_DEFAULT) == 1,
      "its alternative names");
  add(raw, issuer.get(), NID_subject_key_identifier, "hash");
  add(raw, issuer.get(), NID_authority_key_identifier, "keyid:always");
  return finish(raw, issuer.get(), signer);
}

std::string new_serial() {
  Bytes random = random_bytes(16);
  random[0] = static_cast<std::uint8_t>((random[0] & 0x3f) | 0x40);  // positive, of fixed length
  return to_hex(random);
}

bool is_revocation_reason(const std::string& reason) {
  return reason_number(reason).has_value();
}

Bytes make_crl(ByteView authority, const std::vector<Revoked>& revoked, std::uint64_t number,
               const Validity& validity, const RequestSigner& signer) {
  const auto issuer = load(authority);
  Crl crl(X509_CRL_new());
  Owned<ASN1_TIME, ASN1_TIME_free> last(ASN1_TIME_set(nullptr, seconds(validity.not_before)));
  Owned<ASN1_TIME, ASN1_TIME_free> next(ASN1_TIME_set(nullptr, seconds(validity.not_after)));
  Integer count(ASN1_INTEGER_new());
  require(X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2) == 1 &&
              X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer.get())) == 1 &&
              X509_CRL_set1_lastUpdate(crl.get(), last.get()) == 1 &&
              X509_CRL_set1_nextUpdate(crl.get(), next.get()) == 1 &&
              ASN1_INTEGER_set_uint64(count.get(), number) == 1 &&
              X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, count.get(), 0, 0) == 1,
          "the fields of the CRL");
  Owned<AUTHORITY_KEYID, AUTHORITY_KEYID_free> id(AUTHORITY_KEYID_new());
  const auto* key_id = X509_get0_subject_key_id(issuer.get());
  require(key_id != nullptr, "the authority's key identifier");
  id->keyid = ASN1_OCTET_STRING_dup(key_id);
  require(X509_CRL_add1_ext_i2d(crl.get(), NID_authority_key_identifier, id.get(), 0, 0) == 1,
          "the issuer of the CRL");
  for (const auto& each : revoked) add_revoked(crl.get(), each);
  X509_CRL_sort(crl.get());
  sign(crl.get(), signer);
  Bytes der = encoded<i2d_X509_CRL>(crl.get());
  const unsigned char* at = der.data();
  const Crl again(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
  if (!again || X509_CRL_verify(again.get(), X509_get0_pubkey(issuer.get())) != 1) {
    ERR_clear_error();
    throw Error(Code::kIntegrity, "the signature of the CRL does not verify");
  }
  return der;
}

Bytes key_of_request(std::string_view request) {
  if (request.size() > kMaxRequest) throw Error(Code::kInput, "the request is too long");
  Owned<X509_REQ, X509_REQ_free> parsed = parse_request(as_bytes(request));
  EVP_PKEY* key = parsed ? X509_REQ_get0_pubkey(parsed.get()) : nullptr;
  if (key == nullptr) {
    ERR_clear_error();
    throw Error(Code::kInput, "not a certification request (PKCS#10)");
  }
  if (X509_REQ_verify(parsed.get(), key) != 1) {
    ERR_clear_error();
    throw Error(Code::kIntegrity, "the certification request is not signed by its own key");
  }
  return encoded<i2d_PUBKEY>(key);
}

}  // namespace keyagent::pki
