// SPDX-License-Identifier: Apache-2.0
#include "agent/openssl/provider.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "agent/openssl/context.h"

namespace keyagent::openssl {
namespace {

Core core_of(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in) {
  Core core;
  core.handle = handle;
  for (; in->function_id != 0; ++in) {
    switch (in->function_id) {
      case OSSL_FUNC_CORE_GET_PARAMS:
        core.get_params = OSSL_FUNC_core_get_params(in);
        break;
      case OSSL_FUNC_CORE_NEW_ERROR:
        core.new_error = OSSL_FUNC_core_new_error(in);
        break;
      case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
        core.set_error_debug = OSSL_FUNC_core_set_error_debug(in);
        break;
      case OSSL_FUNC_CORE_VSET_ERROR:
        core.vset_error = OSSL_FUNC_core_vset_error(in);
        break;
      case OSSL_FUNC_BIO_READ_EX:
        core.bio_read_ex = OSSL_FUNC_BIO_read_ex(in);
        break;
      case OSSL_FUNC_BIO_GETS:
        core.bio_gets = OSSL_FUNC_BIO_gets(in);
        break;
      case OSSL_FUNC_BIO_WRITE_EX:
        core.bio_write_ex = OSSL_FUNC_BIO_write_ex(in);
        break;
      default:
        break;
    }
  }
  return core;
}

std::string parameter(const Core& core, const char* name) {
  char* value = nullptr;
  OSSL_PARAM wanted[] = {OSSL_PARAM_construct_utf8_ptr(name, &value, 0), OSSL_PARAM_END};
  if (core.get_params == nullptr || core.get_params(core.handle, wanted) == 0) return {};
  return value == nullptr ? "" : value;
}

// A shared_ptr on the heap: keys that outlive the provider's teardown would hold its context.
void teardown(void* context) {
  delete static_cast<Context*>(context);
}

const OSSL_PARAM* gettable_params(void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_DEFN(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR, nullptr, 0),
      OSSL_PARAM_DEFN(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR, nullptr, 0),
      OSSL_PARAM_DEFN(OSSL_PROV_PARAM_BUILDINFO, OSSL_PARAM_UTF8_PTR, nullptr, 0),
      OSSL_PARAM_DEFN(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER, nullptr, 0), OSSL_PARAM_END};
  return kParams;
}

int get_params(void*, OSSL_PARAM params[]) {
  const std::pair<const char*, const char*> texts[] = {
      {OSSL_PROV_PARAM_NAME, "keyagent: keys of this host's agent"},
      {OSSL_PROV_PARAM_VERSION, KEYAGENT_VERSION},
      {OSSL_PROV_PARAM_BUILDINFO, "keyagent " KEYAGENT_VERSION}};
  for (const auto& [name, text] : texts) {
    OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
    if (wanted != nullptr && OSSL_PARAM_set_utf8_ptr(wanted, text) == 0) return 0;
  }
  OSSL_PARAM* status = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
  return status == nullptr || OSSL_PARAM_set_int(status, 1) != 0 ? 1 : 0;
}

// Software keys are none of our business: every algorithm carries provider=keyagent, and a key of
// another provider never finds its way here.
const OSSL_ALGORITHM* query_operation(void*, int operation, int* no_cache) {
  *no_cache = 0;
  switch (operation) {
    case OSSL_OP_KEYMGMT:
      return keymgmt_algorithms();
    case OSSL_OP_SIGNATURE:
      return signature_algorithms();
    case OSSL_OP_ASYM_CIPHER:
      return asym_cipher_algorithms();
    case OSSL_OP_KEYEXCH:
      return exchange_algorithms();
    case OSSL_OP_STORE:
      return store_algorithms();
    case OSSL_OP_DECODER:
      return decoder_algorithms();
    case OSSL_OP_ENCODER:
      return encoder_algorithms();
    default:
      return nullptr;
  }
}

const OSSL_ITEM* get_reason_strings(void*) {
  return reason_strings();
}

const OSSL_DISPATCH kProvider[] = {
    {OSSL_FUNC_PROVIDER_TEARDOWN, as_function(teardown)},
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, as_function(gettable_params)},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, as_function(get_params)},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, as_function(query_operation)},
    {OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, as_function(get_reason_strings)},
    {0, nullptr}};

}  // namespace

int start_provider(const OSSL_CORE_HANDLE* handle, const OSSL_DISPATCH* in,
                   const OSSL_DISPATCH** out, void** context, const MakeBackend& make_backend) {
  try {
    const Core core = core_of(handle, in);
    const std::string chroot = parameter(core, "keyagent-chroot");
    if (!chroot.empty() && chroot != "yes" && chroot != "no") return 0;
    *context =
        new Context(core, make_backend({parameter(core, "keyagent-socket"), chroot != "no"}));
    *out = kProvider;
    return 1;
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace keyagent::openssl
