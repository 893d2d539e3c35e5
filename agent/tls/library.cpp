// SPDX-License-Identifier: Apache-2.0
#include <openssl/err.h>
#include <openssl/provider.h>

#include "agent/openssl/builtin.h"
#include "agent/tls/library_impl.h"

namespace keyagent::tls {

Library::Impl::Impl(std::shared_ptr<openssl::Backend> backend) {
  // Before anything else would: a system-wide openssl.cnf may load providers, this one's module
  // among them, into the program that they ask (RELIABILITY 124).
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  context = OSSL_LIB_CTX_new();
  if (context == nullptr) throw queued_error(Code::kInternal, "OpenSSL has no library context");
  software = OSSL_PROVIDER_load(context, "default");
  if (software == nullptr) {
    OSSL_LIB_CTX_free(context);
    throw queued_error(Code::kInternal, "OpenSSL's default provider cannot be loaded");
  }
  try {
    agent = openssl::load_builtin(context, std::move(backend));
  } catch (...) {
    OSSL_PROVIDER_unload(software);
    OSSL_LIB_CTX_free(context);
    throw;
  }
}

Library::Impl::~Impl() {
  OSSL_PROVIDER_unload(agent);
  OSSL_PROVIDER_unload(software);
  OSSL_LIB_CTX_free(context);
}

Library::Library(std::shared_ptr<openssl::Backend> backend)
    : impl_(std::make_shared<Impl>(std::move(backend))) {}

Library::~Library() = default;

Owned<EVP_PKEY> Library::Impl::key(const std::string& which) const {
  ERR_clear_error();
  const std::string uri = "keyagent:" + which;
  const Owned<OSSL_STORE_CTX> store(OSSL_STORE_open_ex(
      uri.c_str(), context, "provider=keyagent", nullptr, nullptr, nullptr, nullptr, nullptr));
  Owned<EVP_PKEY> key;
  while (store && !key && OSSL_STORE_eof(store.get()) == 0) {
    OSSL_STORE_INFO* info = OSSL_STORE_load(store.get());
    if (info == nullptr) break;
    key.reset(OSSL_STORE_INFO_get1_PKEY(info));
    OSSL_STORE_INFO_free(info);
  }
  if (!key) throw queued_error(Code::kConfiguration, "key " + which);
  ERR_clear_error();
  return key;
}

Owned<X509> Library::Impl::certificate(ByteView der, const std::string& what) const {
  ERR_clear_error();
  X509* fresh = X509_new_ex(context, nullptr);
  const unsigned char* at = der.data();
  // On failure d2i frees what it was given.
  Owned<X509> certificate(d2i_X509(&fresh, &at, static_cast<long>(der.size())));
  if (!certificate || at != der.data() + der.size())
    throw queued_error(Code::kConfiguration, what + " is not a certificate in DER");
  return certificate;
}

Owned<X509_CRL> Library::Impl::revocation_list(ByteView der) const {
  ERR_clear_error();
  X509_CRL* fresh = X509_CRL_new_ex(context, nullptr);
  const unsigned char* at = der.data();
  Owned<X509_CRL> list(d2i_X509_CRL(&fresh, &at, static_cast<long>(der.size())));
  if (!list || at != der.data() + der.size())
    throw queued_error(Code::kConfiguration, "a revocation list is not in DER");
  return list;
}

Error queued_error(Code code, const std::string& what) {
  std::string text;
  const char *data = nullptr, *file = nullptr, *function = nullptr;
  int line = 0, flags = 0;
  while (const unsigned long error = ERR_get_error_all(&file, &line, &function, &data, &flags)) {
    // "DENIED: key web is for auth": what agent/openssl/errors.cpp puts there.
    const std::string told = data != nullptr && (flags & ERR_TXT_STRING) != 0 ? data : "";
    const auto colon = told.find(": ");
    const std::string name = told.substr(0, colon == std::string::npos ? 0 : colon);
    if (!name.empty() && code_name(code_of_name(name)) == name) {
      ERR_clear_error();
      return Error(code_of_name(name), what + ": " + told.substr(colon + 2));
    }
    const char* reason = ERR_reason_error_string(error);
    if (text.empty() && reason != nullptr) text = reason;
  }
  return Error(code, text.empty() ? what : what + " (" + text + ")");
}

}  // namespace keyagent::tls
