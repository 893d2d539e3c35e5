// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the files of this room share of OpenSSL's certificates.

#include <openssl/err.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/error.h"

namespace keyagent::pki {

template <auto free_it>
struct Free {
  template <class T>
  void operator()(T* value) const {
    free_it(value);
  }
};
template <class T, auto free_it>
using Owned = std::unique_ptr<T, Free<free_it>>;
using Certificate = Owned<X509, X509_free>;

// Errors of a call that failed as it may are not left for anyone who looks next.
struct QuietErrors {
  QuietErrors() { ERR_set_mark(); }
  ~QuietErrors() { ERR_pop_to_mark(); }
  QuietErrors(const QuietErrors&) = delete;
};

// Of anything that OpenSSL encodes: encoded<i2d_X509_CRL>(list).
template <auto encode, class T>
Bytes encoded(T* object) {
  unsigned char* der = nullptr;
  const int size = encode(object, &der);
  if (size <= 0) {
    ERR_clear_error();
    throw Error(Code::kInternal, "an object has no DER encoding");
  }
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

// nullptr unless the bytes are one certificate and nothing else.
Certificate parse_certificate(ByteView der);
Bytes der_of(const X509* certificate);
// "-----BEGIN name-----" … of these bytes.
std::string pem_text(const char* name, ByteView der);
// In RFC 4514's form, controls escaped, cut after `most` bytes.
std::string name_text(const X509_NAME* name, std::size_t most = 160);
std::string subject_of(const X509* certificate);

}  // namespace keyagent::pki
