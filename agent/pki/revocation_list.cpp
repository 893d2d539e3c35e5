#include "agent/pki/revocation_list.h"

#include <openssl/pem.h>

#include "agent/base/error.h"
#include "agent/pki/x509.h"

namespace keyagent::pki {

std::string crl_pem(ByteView der) {
  return pem_text(PEM_STRING_X509_CRL, der);
}

Bytes read_crl(std::string_view pem, ByteView authority) {
  const QuietErrors quiet;
  const Owned<BIO, BIO_free_all> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const Owned<X509_CRL, X509_CRL_free> list(
      PEM_read_bio_X509_CRL(in.get(), nullptr, nullptr, nullptr));
  if (!list) throw Error(Code::kInput, "there is no revocation list in what should be PEM");
  const Certificate issuer = parse_certificate(authority);
  if (!issuer) throw Error(Code::kInput, "the authority of a revocation list is no certificate");
  if (X509_NAME_cmp(X509_CRL_get_issuer(list.get()), X509_get_subject_name(issuer.get())) != 0)
    throw Error(Code::kIntegrity, "the revocation list is of another authority, '" +
                                      name_text(X509_CRL_get_issuer(list.get())) + "'");
  if (X509_CRL_verify(list.get(), X509_get0_pubkey(issuer.get())) != 1)
    throw Error(Code::kIntegrity,
                "the revocation list is not signed by " + subject_of(issuer.get()));
  return encoded<i2d_X509_CRL>(list.get());
}

}  // namespace keyagent::pki
