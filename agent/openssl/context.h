// SPDX-License-Identifier: Apache-2.0
#pragma once
// One loaded provider: what every function of it is given by OpenSSL.

#include <openssl/core.h>
#include <openssl/core_dispatch.h>

#include <functional>
#include <memory>
#include <string>

#include "agent/base/error.h"
#include "agent/openssl/key.h"

namespace keyagent::openssl {

using Function = void (*)(void);
template <class F>
constexpr Function as_function(F* function) {
  return reinterpret_cast<Function>(function);
}

// OpenSSL's error queue through the core: a provider may be another build than libcrypto.
struct Core {
  const OSSL_CORE_HANDLE* handle = nullptr;
  OSSL_FUNC_core_get_params_fn* get_params = nullptr;
  OSSL_FUNC_core_new_error_fn* new_error = nullptr;
  OSSL_FUNC_core_set_error_debug_fn* set_error_debug = nullptr;
  OSSL_FUNC_core_vset_error_fn* vset_error = nullptr;
  OSSL_FUNC_BIO_read_ex_fn* bio_read_ex = nullptr;
  OSSL_FUNC_BIO_gets_fn* bio_gets = nullptr;
  OSSL_FUNC_BIO_write_ex_fn* bio_write_ex = nullptr;
};

class Context {
 public:
  Context(Core core, std::shared_ptr<Backend> backend)
      : core_(core), backend_(std::move(backend)) {}

  const Core& core() const { return core_; }
  const std::shared_ptr<Backend>& backend() const { return backend_; }

  // Puts the agent's code and text on OpenSSL's queue; the reason is the code's number
  // (errors.cpp).
  void raise(Code code, const std::string& text) const;
  // Runs `work`; an exception becomes an entry of the queue and the answer 0.
  int guarded(const std::function<int()>& work) const;

  // A key by name, kid or URI (`keyagent:NAME`, `pkcs11:…;object=NAME`, `pkcs11:…;id=%…`).
  std::unique_ptr<Key> load(const std::string& uri) const;

 private:
  const Core core_;
  const std::shared_ptr<Backend> backend_;
};

// What the keymgmt and the signatures hand around.
struct Handle {
  const Context* context = nullptr;
  Key key;
};

const OSSL_ITEM* reason_strings();

// The tables that query_operation() gives out.
const OSSL_ALGORITHM* keymgmt_algorithms();
const OSSL_ALGORITHM* signature_algorithms();
const OSSL_ALGORITHM* asym_cipher_algorithms();
const OSSL_ALGORITHM* exchange_algorithms();
const OSSL_ALGORITHM* store_algorithms();
const OSSL_ALGORITHM* decoder_algorithms();
const OSSL_ALGORITHM* encoder_algorithms();

}  // namespace keyagent::openssl
