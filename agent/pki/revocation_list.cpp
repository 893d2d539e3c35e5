// SPDX-License-Identifier: Apache-2.0
#include "agent/pki/revocation_list.h"

#include <openssl/pem.h>

#include "agent/base/error.h"
#include "agent/base/pem.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {
namespace {

using List = Owned<X509_CRL, X509_CRL_free>;

// The first one of a file in PEM, or the one in DER. nullptr: there is none.
List parse_list(ByteView file) {
  Bytes der;
  try {
    if (const auto whole = whole_der(file)) {
      der.assign(whole->begin(), whole->end());
    } else {
      for (auto& block : read_pem(file)) {
        if (der.empty() && block.label == PEM_STRING_X509_CRL) der = std::move(block.content);
      }
    }
  } catch (const Error& error) {
    throw Error(Code::kInput, error.what());
  }
  const unsigned char* at = der.data();
  List list(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
  if (list && at != der.data() + der.size()) list.reset();
  return list;
}

}  // namespace

std::string crl_pem(ByteView der) {
  return pem_text(PEM_STRING_X509_CRL, der);
}

Bytes read_crl(std::string_view file, ByteView authority) {
  const QuietErrors quiet;
  const auto list = parse_list(as_bytes(file));
  if (!list) throw Error(Code::kInput, "the file contains no revocation list (X509 CRL)");
  const Certificate issuer = parse_certificate(authority);
  if (!issuer) throw Error(Code::kInput, "the authority of a revocation list is not a certificate");
  if (X509_NAME_cmp(X509_CRL_get_issuer(list.get()), X509_get_subject_name(issuer.get())) != 0)
    throw Error(Code::kIntegrity, "the revocation list was issued by another authority, '" +
                                      name_text(X509_CRL_get_issuer(list.get())) + "'");
  if (X509_CRL_verify(list.get(), X509_get0_pubkey(issuer.get())) != 1)
    throw Error(Code::kIntegrity,
                "the revocation list is not signed by " + subject_of(issuer.get()));
  return encoded<i2d_X509_CRL>(list.get());
}

}  // namespace keyagent::pki
