// SPDX-License-Identifier: Apache-2.0
// ECDH: provider-keyexch(7), plain or with the KDF of ANSI X9.63, as CMS has it (RFC 5753 §7.2).

#include <botan/kdf.h>
#include <openssl/core_names.h>

#include <cstring>

#include "agent/openssl/context.h"
#include "agent/openssl/params.h"

namespace keyagent::openssl {
namespace {

constexpr std::size_t kLongest = 1024;  // what one derivation may ask of the KDF

struct Exchange {
  const Context* context = nullptr;
  const Handle* handle = nullptr;
  Bytes peer;  // its point
  bool kdf = false;
  std::string digest;  // of the KDF, as Botan calls it
  std::string digest_name;
  std::size_t length = 0;  // what the KDF is to give
  SecretBytes info;        // "user keying material": SharedInfo
};

void* fresh(void* provider) {
  auto* exchange = new Exchange;
  exchange->context = static_cast<const Context*>(provider);
  return exchange;
}

void release(void* data) {
  delete static_cast<Exchange*>(data);
}

void* duplicate(void* data) {
  return new Exchange(*static_cast<Exchange*>(data));
}

// --- parameters
// -------------------------------------------------------------------------------------------------

// Both curves have the cofactor 1: with or without it is the same (SP 800-56A §5.7.1.2).
void check_cofactor(const OSSL_PARAM* param) {
  int mode = 0;
  if (OSSL_PARAM_get_int(param, &mode) == 0 || mode < -1 || mode > 1)
    throw Error(Code::kUsage, "the cofactor mode must be -1, 0 or 1");
}

bool names_kdf(const std::string& name) {
  if (name.empty()) return false;
  if (OPENSSL_strcasecmp(name.c_str(), OSSL_KDF_NAME_X963KDF) == 0) return true;
  throw Error(Code::kUnsupported,
              "keys of the agent derive with X963KDF or without a KDF, not " + name);
}

std::string digest_of_name(const std::string& name) {
  const std::pair<const char*, const char*> known[] = {
      {"SHA1", "SHA-1"},       {"SHA-1", "SHA-1"},      {"SHA224", "SHA-224"},
      {"SHA2-224", "SHA-224"}, {"SHA256", "SHA-256"},   {"SHA2-256", "SHA-256"},
      {"SHA384", "SHA-384"},   {"SHA2-384", "SHA-384"}, {"SHA512", "SHA-512"},
      {"SHA2-512", "SHA-512"}, {"SHA-224", "SHA-224"},  {"SHA-256", "SHA-256"},
      {"SHA-384", "SHA-384"},  {"SHA-512", "SHA-512"}};
  for (const auto& [text, digest] : known) {
    if (OPENSSL_strcasecmp(text, name.c_str()) == 0) return digest;
  }
  throw Error(Code::kUnsupported, "X963KDF supports SHA-1 and SHA-2, not " + name);
}

void set_params_of(Exchange& exchange, const OSSL_PARAM params[]) {
  if (const auto* mode = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE))
    check_cofactor(mode);
  if (const auto* type = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_TYPE))
    exchange.kdf = names_kdf(text_of(type));
  if (const auto* digest = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_DIGEST)) {
    exchange.digest_name = text_of(digest);
    exchange.digest = digest_of_name(exchange.digest_name);
  }
  if (const auto* length = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN)) {
    if (OSSL_PARAM_get_size_t(length, &exchange.length) == 0 || exchange.length > kLongest)
      throw Error(Code::kUsage,
                  "X963KDF output is limited to " + std::to_string(kLongest) + " bytes");
  }
  if (const auto* info = OSSL_PARAM_locate_const(params, OSSL_EXCHANGE_PARAM_KDF_UKM)) {
    const void* bytes = nullptr;
    std::size_t size = 0;
    if (OSSL_PARAM_get_octet_string_ptr(info, &bytes, &size) == 0 || size > kLongest)
      throw Error(Code::kUsage, "the shared information of X963KDF is too long");
    const auto* first = static_cast<const std::uint8_t*>(bytes);
    exchange.info.assign(first, first + size);
  }
}

int set_params(void* data, const OSSL_PARAM params[]) {
  auto& exchange = *static_cast<Exchange*>(data);
  if (params == nullptr) return 1;
  return exchange.context->guarded([&] {
    set_params_of(exchange, params);
    return 1;
  });
}

const OSSL_PARAM* settable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, nullptr),
      OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST_PROPS, nullptr, 0),
      OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, nullptr),
      OSSL_PARAM_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

int get_params(void* data, OSSL_PARAM params[]) {
  auto& exchange = *static_cast<Exchange*>(data);
  auto* mode = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE);
  if (mode != nullptr && OSSL_PARAM_set_int(mode, 0) == 0) return 0;
  auto* length = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_OUTLEN);
  if (length != nullptr && OSSL_PARAM_set_size_t(length, exchange.length) == 0) return 0;
  auto* info = OSSL_PARAM_locate(params, OSSL_EXCHANGE_PARAM_KDF_UKM);
  if (info != nullptr &&
      OSSL_PARAM_set_octet_ptr(info, exchange.info.data(), exchange.info.size()) == 0)
    return 0;
  return put_text(params, OSSL_EXCHANGE_PARAM_KDF_TYPE,
                  exchange.kdf ? OSSL_KDF_NAME_X963KDF : "") &&
                 put_text(params, OSSL_EXCHANGE_PARAM_KDF_DIGEST, exchange.digest_name)
             ? 1
             : 0;
}

const OSSL_PARAM* gettable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_int(OSSL_EXCHANGE_PARAM_EC_ECDH_COFACTOR_MODE, nullptr),
      OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, nullptr, 0),
      OSSL_PARAM_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, nullptr),
      OSSL_PARAM_DEFN(OSSL_EXCHANGE_PARAM_KDF_UKM, OSSL_PARAM_OCTET_PTR, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

// --- the agreement
// -------------------------------------------------------------------------------------------------

int begin(void* data, void* key, const OSSL_PARAM params[]) {
  auto& exchange = *static_cast<Exchange*>(data);
  return exchange.context->guarded([&] {
    if (key != nullptr) exchange.handle = static_cast<const Handle*>(key);
    if (exchange.handle == nullptr || !exchange.handle->key.has_private())
      throw Error(Code::kUsage, "a public key cannot derive a secret");
    exchange.kdf = false;
    if (params != nullptr) set_params_of(exchange, params);
    return 1;
  });
}

int set_peer(void* data, void* peer) {
  auto& exchange = *static_cast<Exchange*>(data);
  return exchange.context->guarded([&] {
    const Key& ours = exchange.handle->key;
    const Key& theirs = static_cast<const Handle*>(peer)->key;
    if (theirs.group != ours.group || theirs.point.size() != ours.point.size())
      throw Error(Code::kUsage, "the peer's key is not an uncompressed point on the curve of key " +
                                    ours.info->name + " (" + ours.group + ")");
    exchange.peer = theirs.point;
    return 1;
  });
}

SecretBytes derived(const Exchange& exchange, const SecretBytes& shared) {
  if (!exchange.kdf) return shared;
  // What ANSI X9.63 calls its KDF, IEEE 1363a calls KDF2.
  const auto kdf = Botan::KDF::create_or_throw("KDF2(" + exchange.digest + ")");
  return kdf->derive_key(exchange.length, shared.data(), shared.size(), exchange.info.data(),
                         exchange.info.size());
}

int derive(void* data, unsigned char* out, std::size_t* size, std::size_t room) {
  const auto& exchange = *static_cast<Exchange*>(data);
  return exchange.context->guarded([&] {
    const Key& key = exchange.handle->key;
    if (exchange.peer.empty()) throw Error(Code::kUsage, "the peer's key is missing");
    if (exchange.kdf && (exchange.digest.empty() || exchange.length == 0))
      throw Error(Code::kUsage, "X963KDF needs a digest and a length");
    const std::size_t length = exchange.kdf ? exchange.length : key.field_size();
    if (out != nullptr) {
      if (room < length) throw Error(Code::kUsage, "the output buffer is too small for the secret");
      const SecretBytes secret =
          derived(exchange, key.backend->agree(key.info->kid, exchange.peer));
      if (secret.size() != length)
        throw Error(Code::kPeer, "the agent's shared secret has a wrong length");
      std::memcpy(out, secret.data(), secret.size());
    }
    *size = length;
    return 1;
  });
}

const OSSL_DISPATCH kEcdh[] = {
    {OSSL_FUNC_KEYEXCH_NEWCTX, as_function(fresh)},
    {OSSL_FUNC_KEYEXCH_FREECTX, as_function(release)},
    {OSSL_FUNC_KEYEXCH_DUPCTX, as_function(duplicate)},
    {OSSL_FUNC_KEYEXCH_INIT, as_function(begin)},
    {OSSL_FUNC_KEYEXCH_SET_PEER, as_function(set_peer)},
    {OSSL_FUNC_KEYEXCH_DERIVE, as_function(derive)},
    {OSSL_FUNC_KEYEXCH_SET_CTX_PARAMS, as_function(set_params)},
    {OSSL_FUNC_KEYEXCH_SETTABLE_CTX_PARAMS, as_function(settable_params)},
    {OSSL_FUNC_KEYEXCH_GET_CTX_PARAMS, as_function(get_params)},
    {OSSL_FUNC_KEYEXCH_GETTABLE_CTX_PARAMS, as_function(gettable_params)},
    {0, nullptr}};

}  // namespace

const OSSL_ALGORITHM* exchange_algorithms() {
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"ECDH", "provider=keyagent", kEcdh, "ECDH by the agent"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

}  // namespace keyagent::openssl
