// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/certification_request.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "agent/base/error.h"
#include "agent/pki/alternative_names.h"
#include "agent/pki/subject.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

using Request = Owned<X509_REQ, X509_REQ_free>;

void free_extensions(STACK_OF(X509_EXTENSION) * all) {
  sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
}

[[noreturn]] void refuse(const std::string& text) {
  ERR_clear_error();
  throw Error(Code::kUsage, text);
}

void require(bool good, const char* what) {
  if (good) return;
  ERR_clear_error();
  throw Error(Code::kInternal, std::string("the certification request: ") + what);
}

// Critical where nothing else names the subject (RFC 5280 §4.2.1.6).
void set_alternative_names(X509_REQ* request, const std::vector<std::string>& names) {
  const bool unnamed = X509_NAME_entry_count(X509_REQ_get_subject_name(request)) == 0;
  if (names.empty()) {
    if (unnamed) refuse("the request has no name; give a subject, an alternative name, or both");
    return;
  }
  STACK_OF(X509_EXTENSION)* raw = nullptr;
  const bool added = X509V3_add1_i2d(&raw, NID_subject_alt_name, general_names(names).get(),
                                     unnamed ? 1 : 0, X509V3_ADD_DEFAULT) == 1;
  const Owned<STACK_OF(X509_EXTENSION), free_extensions> extensions(raw);
  require(added && X509_REQ_add_extensions(request, extensions.get()) == 1, "its extensions");
}

void sign(X509_REQ* request, const RequestSigner& signer) {
  const unsigned char* at = signer.algorithm.data();
  Owned<X509_ALGOR, X509_ALGOR_free> algorithm(
      d2i_X509_ALGOR(nullptr, &at, static_cast<long>(signer.algorithm.size())));
  require(algorithm && X509_REQ_set1_signature_algo(request, algorithm.get()) == 1,
          "its algorithm");
  const Bytes signature = signer.sign(encoded<i2d_re_X509_REQ_tbs>(request));
  Owned<ASN1_BIT_STRING, ASN1_BIT_STRING_free> bits(ASN1_BIT_STRING_new());
  require(ASN1_BIT_STRING_set(bits.get(), const_cast<unsigned char*>(signature.data()),
                              static_cast<int>(signature.size())) == 1,
          "its signature");
  bits->flags &= ~(ASN1_STRING_FLAG_BITS_LEFT | 0x07);
  bits->flags |= ASN1_STRING_FLAG_BITS_LEFT;  // no unused bits
  X509_REQ_set0_signature(request, bits.release());
}

}  // namespace

Bytes make_request(ByteView spki, const RequestedName& name, const RequestSigner& signer) {
  const unsigned char* at = spki.data();
  Owned<EVP_PKEY, EVP_PKEY_free> key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  Request request(X509_REQ_new());
  require(key && request && X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
              X509_REQ_set_pubkey(request.get(), key.get()) == 1,
          "its key");
  add_subject(X509_REQ_get_subject_name(request.get()), name.subject);
  set_alternative_names(request.get(), name.alternative_names);
  sign(request.get(), signer);
  if (X509_REQ_verify(request.get(), key.get()) != 1) {
    ERR_clear_error();
    throw Error(Code::kIntegrity, "the signature of the certification request does not verify");
  }
  return encoded<i2d_X509_REQ>(request.get());
}

std::string request_pem(ByteView der) {
  return pem_text(PEM_STRING_X509_REQ, der);
}

}  // namespace keyagent::pki
