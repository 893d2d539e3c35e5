// SPDX-License-Identifier: Apache-2.0
// Signatures: provider-signature(7) for RSA (PKCS#1 v1.5 and PSS), ECDSA and EdDSA. The default
// provider verifies with public keys; this one verifies when a program uses the agent's key object.

#include <botan/hash.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <openssl/rsa.h>

#include <charconv>
#include <cstring>

#include "agent/openssl/context.h"
#include "agent/openssl/params.h"
#include "agent/openssl/signature_encoding.h"
#include "agent/openssl/verification.h"

namespace keyagent::openssl {
namespace {

constexpr std::size_t kMaxMessage = 128 * 1024;  // of what is sent whole

struct Signing {
  const Context* context = nullptr;
  const Handle* handle = nullptr;
  DigestAlgorithm digest = DigestAlgorithm::kSha256;
  bool digest_named = false;
  bool pss = false;
  std::string mgf_digest;
  // While a message comes in parts: its hash, or the message where the agent must see it whole.
  std::shared_ptr<Botan::HashFunction> hash;
  SecretBytes message;
  bool whole = false;
};

const char* hash_name(DigestAlgorithm digest) {
  switch (digest) {
    case DigestAlgorithm::kSha384:
      return "SHA-384";
    case DigestAlgorithm::kSha512:
      return "SHA-512";
    default:
      return "SHA-256";
  }
}

// As OpenSSL calls it: without the hyphen.
std::string openssl_name(DigestAlgorithm digest) {
  return digest == DigestAlgorithm::kNone ? "" : "SHA" + std::to_string(digest_size(digest) * 8);
}

DigestAlgorithm digest_of_name(const std::string& name) {
  const std::pair<const char*, DigestAlgorithm> known[] = {
      {"SHA256", DigestAlgorithm::kSha256},   {"SHA2-256", DigestAlgorithm::kSha256},
      {"SHA-256", DigestAlgorithm::kSha256},  {"SHA384", DigestAlgorithm::kSha384},
      {"SHA2-384", DigestAlgorithm::kSha384}, {"SHA-384", DigestAlgorithm::kSha384},
      {"SHA512", DigestAlgorithm::kSha512},   {"SHA2-512", DigestAlgorithm::kSha512},
      {"SHA-512", DigestAlgorithm::kSha512}};
  for (const auto& [text, digest] : known) {
    if (OPENSSL_strcasecmp(text, name.c_str()) == 0) return digest;
  }
  throw Error(Code::kUnsupported, "keys of the agent sign with SHA-256, SHA-384 or SHA-512, not " +
                                      (name.empty() ? "without a digest" : name));
}

SignatureAlgorithm algorithm_of(const Signing& signing) {
  const Key& key = signing.handle->key;
  if (key.type == Type::kEd25519) return SignatureAlgorithm::kEdDsa;
  const std::size_t bits = digest_size(signing.digest) * 8;
  if (key.type == Type::kRsa)
    return *signature_algorithm_of((signing.pss ? "PS" : "RS") + std::to_string(bits));
  const auto algorithm = signature_algorithm_of("ES" + std::to_string(bits));
  if (!algorithm || !can_sign(key.info->algorithm, *algorithm))
    throw Error(Code::kUnsupported,
                "key " + key.info->name + " (" + key.group + ") signs with " +
                    (key.group == "secp384r1" ? "SHA-384" : "SHA-256") + " only, not with " +
                    openssl_name(signing.digest),
                key.info->kid.text());
  return *algorithm;
}

// --- life of a context
// -------------------------------------------------------------------------------------------------

void* fresh(void* provider, const char*) {
  auto* signing = new Signing;
  signing->context = static_cast<const Context*>(provider);
  return signing;
}

void release(void* data) {
  delete static_cast<Signing*>(data);
}

void* duplicate(void* data) {
  auto* copy = new Signing(*static_cast<Signing*>(data));
  if (copy->hash) copy->hash = std::shared_ptr<Botan::HashFunction>(copy->hash->copy_state());
  return copy;
}

void set_params_of(Signing& signing, const OSSL_PARAM params[]);

int begin(Signing& signing, void* key, const OSSL_PARAM params[]) {
  return signing.context->guarded([&] {
    if (key != nullptr) signing.handle = static_cast<const Handle*>(key);
    if (signing.handle == nullptr || !signing.handle->key.has_private())
      throw Error(Code::kUsage, "this is a public key; use the default provider");
    if (!signing.digest_named && signing.handle->key.group == "secp384r1")
      signing.digest = DigestAlgorithm::kSha384;
    if (params != nullptr) set_params_of(signing, params);
    return 1;
  });
}

int sign_init(void* data, void* key, const OSSL_PARAM params[]) {
  return begin(*static_cast<Signing*>(data), key, params);
}

// Copies out, or tells the size that is needed.
int give(const Bytes& signature, unsigned char* out, std::size_t* size, std::size_t room) {
  if (room < signature.size()) return 0;
  std::memcpy(out, signature.data(), signature.size());
  *size = signature.size();
  return 1;
}

Bytes as_openssl(const Signing& signing, Bytes signature) {
  return signing.handle->key.type == Type::kEc ? ecdsa_der(signature) : signature;
}

Bytes sign_input(const Signing& signing, ByteView input) {
  const Key& key = signing.handle->key;
  const auto algorithm = algorithm_of(signing);
  return as_openssl(signing, key.backend->sign(key.info->kid, algorithm, input));
}

Bytes sign_whole(const Signing& signing, ByteView message) {
  const Key& key = signing.handle->key;
  const auto algorithm = algorithm_of(signing);
  return as_openssl(signing, key.backend->sign_message(key.info->kid, algorithm, message));
}

int sign(void* data, unsigned char* out, std::size_t* size, std::size_t room,
         const unsigned char* input, std::size_t input_size) {
  auto& signing = *static_cast<Signing*>(data);
  if (out == nullptr) {
    *size = signing.handle->key.signature_size();
    return 1;
  }
  return signing.context->guarded([&] {
    return give(sign_input(signing, {input, input_size}), out, size, room);
  });
}

// --- a message, hashed here
// -------------------------------------------------------------------------------------------------

// An auth key needs the whole message for the agent's check, and Ed25519 takes no digest.
bool is_sent_whole(const Key& key) {
  return key.type == Type::kEd25519 || key.info->purpose == Purpose::kAuth;
}

int digest_sign_init(void* data, const char* digest, void* key, const OSSL_PARAM params[]) {
  auto& signing = *static_cast<Signing*>(data);
  return signing.context->guarded([&] {
    if (digest != nullptr && *digest != '\0') {
      signing.digest = digest_of_name(digest);
      signing.digest_named = true;
    }
    if (begin(signing, key, params) == 0) return 0;
    // TLS 1.2 ties no digest to a curve: OpenSSL tries here which ones a key can, and takes
    // another.
    static_cast<void>(algorithm_of(signing));
    signing.message.clear();
    signing.whole = is_sent_whole(signing.handle->key);
    signing.hash = Botan::HashFunction::create_or_throw(hash_name(signing.digest));
    return 1;
  });
}

int digest_sign_update(void* data, const unsigned char* part, std::size_t size) {
  auto& signing = *static_cast<Signing*>(data);
  return signing.context->guarded([&] {
    if (!signing.whole) {
      signing.hash->update(part, size);
      return 1;
    }
    if (signing.message.size() + size > kMaxMessage)
      throw Error(Code::kUsage, "this key signs messages of at most 128 KiB");
    signing.message.insert(signing.message.end(), part, part + size);
    return 1;
  });
}

int digest_sign_final(void* data, unsigned char* out, std::size_t* size, std::size_t room) {
  auto& signing = *static_cast<Signing*>(data);
  if (out == nullptr) {
    *size = signing.handle->key.signature_size();
    return 1;
  }
  return signing.context->guarded([&] {
    if (signing.whole) {
      const bool eddsa = signing.handle->key.type == Type::kEd25519 &&
                         signing.handle->key.info->purpose != Purpose::kAuth;
      return give(
          eddsa ? sign_input(signing, signing.message) : sign_whole(signing, signing.message), out,
          size, room);
    }
    const auto digest = signing.hash->final();
    return give(sign_input(signing, {digest.data(), digest.size()}), out, size, room);
  });
}

int digest_sign(void* data, unsigned char* out, std::size_t* size, std::size_t room,
                const unsigned char* message, std::size_t message_size) {
  if (out == nullptr) return digest_sign_final(data, out, size, room);
  return digest_sign_update(data, message, message_size) != 0 &&
                 digest_sign_final(data, out, size, room) != 0
             ? 1
             : 0;
}

// --- verification
// -------------------------------------------------------------------------------------------------

int verify(void* data, const unsigned char* signature, std::size_t size, const unsigned char* input,
           std::size_t input_size) {
  const auto& signing = *static_cast<Signing*>(data);
  return signing.context->guarded([&] {
    const bool good = verifies(signing.handle->key, algorithm_of(signing), {input, input_size},
                               {signature, size});
    return good ? 1 : 0;
  });
}

int digest_verify_final(void* data, const unsigned char* signature, std::size_t size) {
  auto& signing = *static_cast<Signing*>(data);
  if (signing.handle->key.type == Type::kEd25519)
    return verify(data, signature, size, signing.message.data(), signing.message.size());
  return signing.context->guarded([&] {
    if (signing.whole) signing.hash->update(signing.message.data(), signing.message.size());
    const auto digest = signing.hash->final();
    return verify(data, signature, size, digest.data(), digest.size());
  });
}

int digest_verify(void* data, const unsigned char* signature, std::size_t size,
                  const unsigned char* message, std::size_t message_size) {
  return digest_sign_update(data, message, message_size) != 0 &&
                 digest_verify_final(data, signature, size) != 0
             ? 1
             : 0;
}

// --- parameters
// -------------------------------------------------------------------------------------------------

bool names_pss(const OSSL_PARAM* param) {
  int mode = 0;
  if (param->data_type == OSSL_PARAM_INTEGER) {
    if (OSSL_PARAM_get_int(param, &mode) == 0) mode = 0;
  } else {
    const std::string name = text_of(param);
    mode = name == OSSL_PKEY_RSA_PAD_MODE_PSS       ? RSA_PKCS1_PSS_PADDING
           : name == OSSL_PKEY_RSA_PAD_MODE_PKCSV15 ? RSA_PKCS1_PADDING
                                                    : 0;
  }
  if (mode != RSA_PKCS1_PSS_PADDING && mode != RSA_PKCS1_PADDING)
    throw Error(Code::kUnsupported, "keys of the agent sign with PKCS#1 v1.5 or PSS padding only");
  return mode == RSA_PKCS1_PSS_PADDING;
}

// The salt is as long as the digest: what TLS 1.3, JWS and X.509 use, and what "digest", "max" and
// "auto" may mean; another number would be another signature than the one asked for.
void check_salt(const OSSL_PARAM* param, DigestAlgorithm digest) {
  int size = 0;
  if (param->data_type == OSSL_PARAM_INTEGER) {
    if (OSSL_PARAM_get_int(param, &size) == 0) size = 0;
  } else {
    const std::string name = text_of(param);
    if (name == OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST || name == OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO ||
        name == OSSL_PKEY_RSA_PSS_SALT_LEN_MAX || name == "auto-digestmax")
      return;
    std::from_chars(name.data(), name.data() + name.size(), size);
  }
  if (size >= 0 && static_cast<std::size_t>(size) != digest_size(digest))
    throw Error(Code::kUnsupported, "the PSS salt must be as long as the digest (" +
                                        std::to_string(digest_size(digest)) + " bytes), not " +
                                        std::to_string(size));
}

void set_params_of(Signing& signing, const OSSL_PARAM params[]) {
  if (const auto* digest = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST)) {
    signing.digest = digest_of_name(text_of(digest));
    signing.digest_named = true;
  }
  if (const auto* mode = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE))
    signing.pss = names_pss(mode);
  if (const auto* salt = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN))
    check_salt(salt, signing.digest);
  if (const auto* mgf = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) {
    if (digest_of_name(text_of(mgf)) != signing.digest)
      throw Error(Code::kUnsupported, "the MGF1 digest of PSS must be the signature digest");
  }
}

int set_params(void* data, const OSSL_PARAM params[]) {
  auto& signing = *static_cast<Signing*>(data);
  if (params == nullptr) return 1;
  return signing.context->guarded([&] {
    set_params_of(signing, params);
    return 1;
  });
}

const OSSL_PARAM* settable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

int get_params(void* data, OSSL_PARAM params[]) {
  const auto& signing = *static_cast<Signing*>(data);
  return signing.context->guarded([&] {
    if (auto* id = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID)) {
      if (signing.handle == nullptr) return 0;
      const Bytes der = algorithm_identifier(algorithm_of(signing));
      if (OSSL_PARAM_set_octet_string(id, der.data(), der.size()) == 0) return 0;
    }
    const std::string digest = openssl_name(signing.digest);
    for (const char* name : {OSSL_SIGNATURE_PARAM_DIGEST, OSSL_SIGNATURE_PARAM_MGF1_DIGEST}) {
      auto* wanted = OSSL_PARAM_locate(params, name);
      if (wanted != nullptr && OSSL_PARAM_set_utf8_string(wanted, digest.c_str()) == 0) return 0;
    }
    if (auto* mode = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) {
      const int number = signing.pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
      const int good =
          mode->data_type == OSSL_PARAM_INTEGER
              ? OSSL_PARAM_set_int(mode, number)
              : OSSL_PARAM_set_utf8_string(mode, signing.pss ? OSSL_PKEY_RSA_PAD_MODE_PSS
                                                             : OSSL_PKEY_RSA_PAD_MODE_PKCSV15);
      if (good == 0) return 0;
    }
    if (auto* salt = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) {
      const auto size = static_cast<int>(digest_size(signing.digest));
      const int good = salt->data_type == OSSL_PARAM_INTEGER
                           ? OSSL_PARAM_set_int(salt, size)
                           : OSSL_PARAM_set_utf8_string(salt, std::to_string(size).c_str());
      if (good == 0) return 0;
    }
    return 1;
  });
}

const OSSL_PARAM* gettable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

#define KEYAGENT_CONTEXT                                                       \
  {OSSL_FUNC_SIGNATURE_NEWCTX, as_function(fresh)},                            \
      {OSSL_FUNC_SIGNATURE_FREECTX, as_function(release)},                     \
      {OSSL_FUNC_SIGNATURE_DUPCTX, as_function(duplicate)},                    \
      {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, as_function(digest_sign_init)},   \
      {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, as_function(digest_sign)},             \
      {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, as_function(digest_sign_init)}, \
      {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, as_function(digest_verify)},         \
      {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, as_function(set_params)},           \
      {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, as_function(settable_params)}, \
      {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, as_function(get_params)}, {         \
    OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, as_function(gettable_params)      \
  }

const OSSL_DISPATCH kDigested[] = {
    KEYAGENT_CONTEXT,
    {OSSL_FUNC_SIGNATURE_SIGN_INIT, as_function(sign_init)},
    {OSSL_FUNC_SIGNATURE_SIGN, as_function(sign)},
    {OSSL_FUNC_SIGNATURE_VERIFY_INIT, as_function(sign_init)},
    {OSSL_FUNC_SIGNATURE_VERIFY, as_function(verify)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, as_function(digest_sign_update)},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, as_function(digest_sign_final)},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, as_function(digest_sign_update)},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, as_function(digest_verify_final)},
    {0, nullptr}};

// RFC 8032's Ed25519 takes the message once and whole, as OpenSSL's own does.
const OSSL_DISPATCH kEdwards[] = {KEYAGENT_CONTEXT, {0, nullptr}};

}  // namespace

const OSSL_ALGORITHM* signature_algorithms() {
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=keyagent", kDigested,
       "RSA signatures by the agent"},
      {"ECDSA", "provider=keyagent", kDigested, "ECDSA signatures by the agent"},
      {"ED25519:1.3.101.112", "provider=keyagent", kEdwards, "Ed25519 signatures by the agent"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

}  // namespace keyagent::openssl
