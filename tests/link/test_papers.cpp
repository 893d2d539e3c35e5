// SPDX-License-Identifier: Apache-2.0
#include "tests/link/test_papers.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/envelope/jose.h"

namespace keyagent::test {

Bytes spki_of_request(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509_REQ* request = PEM_read_bio_X509_REQ(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  if (request == nullptr || X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) != 1)
    throw Error(Code::kIntegrity, "no good certification request");
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request), &der);
  Bytes spki(der, der + size);
  OPENSSL_free(der);
  X509_REQ_free(request);
  return spki;
}

// For sealing to: the algorithm follows from the envelope's name in these tests.
PublicKeyInfo transport_of(const Bytes& spki, const std::string& envelope) {
  PublicKeyInfo info;
  info.spki = spki;
  info.kid = Kid(jwk_thumbprint(spki));
  info.purpose = Purpose::kTransport;
  info.envelope = *envelope_algorithm_of(envelope);
  info.algorithm = envelope.rfind("RSA", 0) == 0 ? KeyAlgorithm::kRsa2048 : KeyAlgorithm::kEcP256;
  return info;
}

std::string seal(const PublicKeyInfo& key, ByteView secret) {
  const auto sealed = envelope::seal_jwe(key, envelope::ContentEncryption::kA256Gcm,
                                         SecretBytes(secret.begin(), secret.end()));
  return {sealed.begin(), sealed.end()};
}

tls::HttpResponse json(const Json& body) {
  tls::HttpResponse response;
  response.body = body.dump();
  return response;
}

std::string crl_pem(const Bytes& der) {
  const unsigned char* at = der.data();
  X509_CRL* list = d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size()));
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_CRL(bio, list);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  std::string pem(text, static_cast<std::size_t>(size));
  BIO_free(bio);
  X509_CRL_free(list);
  return pem;
}

}  // namespace keyagent::test
