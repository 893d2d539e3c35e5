// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reading and answering the parameters of a context: each is optional, and comes as its caller
// pleases.

#include <openssl/params.h>

#include <string>

namespace keyagent::openssl {

// The text of a parameter that has one; empty otherwise.
inline std::string text_of(const OSSL_PARAM* param) {
  const char* text = nullptr;
  if (param->data_type == OSSL_PARAM_UTF8_STRING || param->data_type == OSSL_PARAM_UTF8_PTR) {
    if (OSSL_PARAM_get_utf8_string_ptr(param, &text) != 0 && text != nullptr) return text;
  }
  return {};
}

// True where it was not asked for.
inline bool put_text(OSSL_PARAM params[], const char* name, const std::string& value) {
  OSSL_PARAM* wanted = OSSL_PARAM_locate(params, name);
  return wanted == nullptr || OSSL_PARAM_set_utf8_string(wanted, value.c_str()) != 0;
}

}  // namespace keyagent::openssl
