// SPDX-License-Identifier: Apache-2.0
// The store loader (provider-storemgmt(7)): a key and its certificates; and the decoder of PEM
// references (provider-decoder(7)): the two ways by which a program's configuration names a key.

#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>
#include <openssl/store.h>

#include <array>
#include <vector>

#include "agent/openssl/context.h"
#include "agent/openssl/reference.h"

namespace keyagent::openssl {
namespace {

constexpr std::size_t kLongestPem = 64 * 1024;

// OpenSSL takes the key out of the reference through the keymgmt's load(); otherwise it is freed
// here.
int give(std::unique_ptr<Handle> handle, OSSL_CALLBACK* callback, void* argument) {
  Handle* reference = handle.release();
  int type = OSSL_OBJECT_PKEY;
  char* name = const_cast<char*>(name_of(reference->key.type));
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
      OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, name, 0),
      OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &reference, sizeof(void*)),
      OSSL_PARAM_END};
  return callback(params, argument);
}

int give_certificate(Bytes der, OSSL_CALLBACK* callback, void* argument) {
  int type = OSSL_OBJECT_CERT;
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
      OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der.data(), der.size()),
      OSSL_PARAM_END};
  return callback(params, argument);
}

// --- the store
// -------------------------------------------------------------------------------------------------

// Gives the key, then its certificates, the key's own first; of these what the URI and the program
// want.
struct Loader {
  const Context* context;
  std::string uri;
  std::string type;  // of the URI
  int expected = 0;
  bool ended = false, key_given = false, asked = false;
  std::vector<Bytes> certificates{};
  std::size_t next = 0;

  bool wants_key() const {
    return (expected == 0 || expected == OSSL_STORE_INFO_PKEY ||
            expected == OSSL_STORE_INFO_PUBKEY) &&
           (type.empty() || type == "private" || type == "public");
  }
  bool wants_certificates() const {
    return (expected == 0 || expected == OSSL_STORE_INFO_CERT) && (type.empty() || type == "cert");
  }
  int load(OSSL_CALLBACK* callback, void* argument);
};

// Ends the listing after a failure, so that callers do not retry forever.
int Loader::load(OSSL_CALLBACK* callback, void* argument) {
  ended = true;
  if (wants_key() && !key_given) {
    auto key = context->load(uri);
    key_given = true;
    ended = !wants_certificates();
    return give(std::unique_ptr<Handle>(new Handle{context, std::move(*key)}), callback, argument);
  }
  if (!wants_certificates()) return 0;
  if (!asked) {
    certificates = context->backend()->certificates(context->load(uri)->info->kid);
    asked = true;
  }
  if (next == certificates.size()) return 0;
  ended = next + 1 == certificates.size();
  return give_certificate(certificates[next++], callback, argument);
}

void* open_store(void* provider, const char* uri) {
  const auto* context = static_cast<const Context*>(provider);
  Loader* loader = nullptr;
  context->guarded([&] {
    const auto reference = parse_reference(uri);
    if (!reference) return 0;
    loader = new Loader{context, uri, reference->type};
    return 1;
  });
  return loader;
}

const OSSL_PARAM* settable_store(void*) {
  static const OSSL_PARAM kParams[] = {OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, nullptr),
                                       OSSL_PARAM_END};
  return kParams;
}

int set_store(void* data, const OSSL_PARAM params[]) {
  auto* loader = static_cast<Loader*>(data);
  const OSSL_PARAM* expected = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);
  return expected == nullptr || OSSL_PARAM_get_int(expected, &loader->expected) != 0 ? 1 : 0;
}

int load_store(void* data, OSSL_CALLBACK* callback, void* argument, OSSL_PASSPHRASE_CALLBACK*,
               void*) {
  auto* loader = static_cast<Loader*>(data);
  if (loader->ended) return 0;
  return loader->context->guarded([&] { return loader->load(callback, argument); });
}

int ended_store(void* data) {
  return static_cast<Loader*>(data)->ended ? 1 : 0;
}

int close_store(void* data) {
  delete static_cast<Loader*>(data);
  return 1;
}

const OSSL_DISPATCH kStore[] = {{OSSL_FUNC_STORE_OPEN, as_function(open_store)},
                                {OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, as_function(settable_store)},
                                {OSSL_FUNC_STORE_SET_CTX_PARAMS, as_function(set_store)},
                                {OSSL_FUNC_STORE_LOAD, as_function(load_store)},
                                {OSSL_FUNC_STORE_EOF, as_function(ended_store)},
                                {OSSL_FUNC_STORE_CLOSE, as_function(close_store)},
                                {0, nullptr}};

// --- PEM files that refer to a key
// -------------------------------------------------------------------------------------------------

void* fresh_decoder(void* provider) {
  return provider;
}
void release_decoder(void*) {}

// Returns an empty text when nothing could be read; that is not an error of this provider.
std::string read_all(const Core& core, OSSL_CORE_BIO* in) {
  std::string text;
  std::array<char, 4096> block;
  std::size_t count = 0;
  while (text.size() < kLongestPem &&
         core.bio_read_ex(in, block.data(), block.size(), &count) != 0 && count > 0)
    text.append(block.data(), count);
  return text;
}

constexpr const char* kStructure = "pk11-uri";

// Two steps, because OpenSSL's store of files takes the first with any provider's "DER" decoder,
// and asks for a key of the second by the structure's name.
int decode_pem(void* provider, OSSL_CORE_BIO* in, int, OSSL_CALLBACK* callback, void* argument,
               OSSL_PASSPHRASE_CALLBACK*, void*) {
  const auto* context = static_cast<const Context*>(provider);
  const auto uri = uri_in_pem(read_all(context->core(), in));
  if (!uri) return 1;  // not a file of this provider
  Bytes der = reference_der(*uri);
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE,
                                       const_cast<char*>(kStructure), 0),
      OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der.data(), der.size()),
      OSSL_PARAM_END};
  return callback(params, argument);
}

template <Type type>
int decode_der(void* provider, OSSL_CORE_BIO* in, int, OSSL_CALLBACK* callback, void* argument,
               OSSL_PASSPHRASE_CALLBACK*, void*) {
  const auto* context = static_cast<const Context*>(provider);
  const auto uri = uri_in_der(as_bytes(read_all(context->core(), in)));
  if (!uri) return 1;
  return context->guarded([&] {
    auto key = context->load(*uri);
    if (key->type != type) return 1;
    return give(std::unique_ptr<Handle>(new Handle{context, std::move(*key)}), callback, argument);
  });
}

const OSSL_DISPATCH kPemDecoder[] = {{OSSL_FUNC_DECODER_NEWCTX, as_function(fresh_decoder)},
                                     {OSSL_FUNC_DECODER_FREECTX, as_function(release_decoder)},
                                     {OSSL_FUNC_DECODER_DECODE, as_function(decode_pem)},
                                     {0, nullptr}};

template <Type type>
const OSSL_DISPATCH* der_decoder() {
  static const OSSL_DISPATCH kFunctions[] = {
      {OSSL_FUNC_DECODER_NEWCTX, as_function(fresh_decoder)},
      {OSSL_FUNC_DECODER_FREECTX, as_function(release_decoder)},
      {OSSL_FUNC_DECODER_DECODE, as_function(decode_der<type>)},
      {0, nullptr}};
  return kFunctions;
}

}  // namespace

std::unique_ptr<Key> Context::load(const std::string& uri) const {
  const auto reference = parse_reference(uri);
  if (!reference) throw Error(Code::kUsage, "'" + uri + "' is not a URI of a key of the agent");
  const auto info = reference->which.empty() ? backend_->find_by_id(reference->cka_id)
                                             : backend_->find(reference->which);
  return std::make_unique<Key>(make_key(info, backend_));
}

const OSSL_ALGORITHM* store_algorithms() {
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"keyagent", "provider=keyagent", kStore, "keys of the agent by name"},
      {"pkcs11", "provider=keyagent", kStore, "keys of the agent by RFC 7512 URI"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

const OSSL_ALGORITHM* decoder_algorithms() {
  constexpr const char* kDer = "provider=keyagent,input=der,structure=pk11-uri";
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"DER", "provider=keyagent,input=pem", kPemDecoder, "PEM files that refer to a key"},
      {"RSA:rsaEncryption:1.2.840.113549.1.1.1", kDer, der_decoder<Type::kRsa>(),
       "references to RSA keys"},
      {"EC:id-ecPublicKey:1.2.840.10045.2.1", kDer, der_decoder<Type::kEc>(),
       "references to EC keys"},
      {"ED25519:1.3.101.112", kDer, der_decoder<Type::kEd25519>(), "references to Ed25519 keys"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

}  // namespace keyagent::openssl
