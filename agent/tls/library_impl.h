// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a Library holds.

#include <string>

#include "agent/base/error.h"
#include "agent/tls/owned.h"
#include "agent/tls/tls.h"

namespace keyagent::tls {

struct Library::Impl {
  explicit Impl(std::shared_ptr<openssl::Backend> backend);
  ~Impl();
  Impl(const Impl&) = delete;
  // The agent's key. Throws the backend's Error.
  Owned<EVP_PKEY> key(const std::string& which) const;
  // Throws Error{kConfiguration} that calls it `what`.
  Owned<X509> certificate(ByteView der, const std::string& what) const;
  Owned<X509_CRL> revocation_list(ByteView der) const;

  OSSL_LIB_CTX* context = nullptr;
  OSSL_PROVIDER *software = nullptr, *agent = nullptr;
};

// What is on OpenSSL's queue of this thread, which is empty afterwards. An error that the agent's
// provider left there keeps its code; anything else is `code`. The text begins with `what`.
Error queued_error(Code code, const std::string& what);

}  // namespace keyagent::tls
