// SPDX-License-Identifier: Apache-2.0
// RSA-OAEP: provider-asym_cipher(7). The agent decrypts; what is encrypted to a key of the agent is
// encrypted here, with its public half.

#include <botan/pubkey.h>
#include <botan/rsa.h>
#include <botan/system_rng.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>

#include <cstring>

#include "agent/openssl/context.h"
#include "agent/openssl/params.h"

namespace keyagent::openssl {
namespace {

struct Cipher {
  const Context* context = nullptr;
  const Handle* handle = nullptr;
  bool oaep = false;  // OpenSSL's own default is PKCS#1 v1.5
  OaepHash hash = OaepHash::kSha1;
  std::optional<OaepHash> mask_hash;  // MGF1's, where it was named
};

void* fresh(void* provider) {
  auto* cipher = new Cipher;
  cipher->context = static_cast<const Context*>(provider);
  return cipher;
}

void release(void* data) {
  delete static_cast<Cipher*>(data);
}

void* duplicate(void* data) {
  return new Cipher(*static_cast<Cipher*>(data));
}

// --- parameters
// -------------------------------------------------------------------------------------------------

OaepHash hash_named(const std::string& name) {
  for (const char* known : {"SHA1", "SHA-1", "SSL3-SHA1"}) {
    if (OPENSSL_strcasecmp(known, name.c_str()) == 0) return OaepHash::kSha1;
  }
  for (const char* known : {"SHA256", "SHA2-256", "SHA-256"}) {
    if (OPENSSL_strcasecmp(known, name.c_str()) == 0) return OaepHash::kSha256;
  }
  throw Error(Code::kUnsupported,
              "keys of the agent support RSA-OAEP with SHA-256 or SHA-1, not " + name);
}

const char* openssl_name(OaepHash hash) {
  return hash == OaepHash::kSha1 ? "SHA1" : "SHA256";
}

// An answer to PKCS#1 v1.5 is an oracle whatever is done about it (RELIABILITY 101), raw RSA is one
// that computes.
[[noreturn]] void refuse_padding() {
  throw Error(Code::kUnsupported,
              "keys of the agent decrypt RSA-OAEP only, neither PKCS#1 v1.5 nor unpadded RSA; use "
              "rsa_padding_mode:oaep");
}

bool names_oaep(const OSSL_PARAM* param) {
  int mode = 0;
  if (param->data_type == OSSL_PARAM_INTEGER) {
    if (OSSL_PARAM_get_int(param, &mode) == 0) mode = 0;
  } else if (text_of(param) == OSSL_PKEY_RSA_PAD_MODE_OAEP) {
    mode = RSA_PKCS1_OAEP_PADDING;
  }
  return mode == RSA_PKCS1_OAEP_PADDING;
}

void set_params_of(Cipher& cipher, const OSSL_PARAM params[]) {
  if (const auto* mode = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE)) {
    if (!names_oaep(mode)) refuse_padding();
    cipher.oaep = true;
  }
  if (const auto* hash = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST))
    cipher.hash = hash_named(text_of(hash));
  if (const auto* mask = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST))
    cipher.mask_hash = hash_named(text_of(mask));
  const auto* label = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL);
  if (label != nullptr && label->data_size > 0)
    throw Error(Code::kUnsupported, "keys of the agent support RSA-OAEP without a label only");
}

int set_params(void* data, const OSSL_PARAM params[]) {
  auto& cipher = *static_cast<Cipher*>(data);
  if (params == nullptr) return 1;
  return cipher.context->guarded([&] {
    set_params_of(cipher, params);
    return 1;
  });
}

const OSSL_PARAM* settable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST_PROPS, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST_PROPS, nullptr, 0),
      OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

int get_params(void* data, OSSL_PARAM params[]) {
  const auto& cipher = *static_cast<Cipher*>(data);
  if (auto* mode = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE)) {
    const bool good =
        mode->data_type == OSSL_PARAM_INTEGER
            ? OSSL_PARAM_set_int(mode, cipher.oaep ? RSA_PKCS1_OAEP_PADDING : RSA_PKCS1_PADDING) !=
                  0
            : OSSL_PARAM_set_utf8_string(mode, cipher.oaep ? OSSL_PKEY_RSA_PAD_MODE_OAEP
                                                           : OSSL_PKEY_RSA_PAD_MODE_PKCSV15) != 0;
    if (!good) return 0;
  }
  if (auto* label = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL)) {
    if (OSSL_PARAM_set_octet_ptr(label, nullptr, 0) == 0) return 0;
  }
  return put_text(params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, openssl_name(cipher.hash)) &&
                 put_text(params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST,
                          openssl_name(cipher.mask_hash.value_or(cipher.hash)))
             ? 1
             : 0;
}

const OSSL_PARAM* gettable_params(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, nullptr, 0),
      OSSL_PARAM_DEFN(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, OSSL_PARAM_OCTET_PTR, nullptr, 0),
      OSSL_PARAM_END};
  return kParams;
}

// --- the two operations
// -------------------------------------------------------------------------------------------------

int begin(void* data, void* key, const OSSL_PARAM params[], bool with_private) {
  auto& cipher = *static_cast<Cipher*>(data);
  return cipher.context->guarded([&] {
    if (key != nullptr) cipher.handle = static_cast<const Handle*>(key);
    if (cipher.handle == nullptr || (with_private && !cipher.handle->key.has_private()))
      throw Error(Code::kUsage, "a public key cannot decrypt");
    if (params != nullptr) set_params_of(cipher, params);
    return 1;
  });
}

int decrypt_init(void* data, void* key, const OSSL_PARAM params[]) {
  return begin(data, key, params, true);
}

int encrypt_init(void* data, void* key, const OSSL_PARAM params[]) {
  return begin(data, key, params, false);
}

void require_oaep(const Cipher& cipher) {
  if (!cipher.oaep) refuse_padding();
  if (cipher.mask_hash.value_or(cipher.hash) != cipher.hash)
    throw Error(Code::kUnsupported, "the MGF1 digest of RSA-OAEP must be the OAEP digest");
}

int give(ByteView text, unsigned char* out, std::size_t* size, std::size_t room) {
  if (room < text.size())
    throw Error(Code::kUsage, "the output buffer is too small for the plaintext");
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  *size = text.size();
  return 1;
}

int decrypt(void* data, unsigned char* out, std::size_t* size, std::size_t room,
            const unsigned char* input, std::size_t input_size) {
  const auto& cipher = *static_cast<Cipher*>(data);
  const Key& key = cipher.handle->key;
  return cipher.context->guarded([&] {
    require_oaep(cipher);
    if (out == nullptr) {
      *size = key.modulus.size();
      return 1;
    }
    const auto text = key.backend->decrypt(key.info->kid, cipher.hash, {input, input_size});
    if (!text) throw Error(Code::kInput, "decryption failed with key " + key.info->name);
    return give(*text, out, size, room);
  });
}

int encrypt(void* data, unsigned char* out, std::size_t* size, std::size_t room,
            const unsigned char* input, std::size_t input_size) {
  const auto& cipher = *static_cast<Cipher*>(data);
  const Key& key = cipher.handle->key;
  return cipher.context->guarded([&] {
    require_oaep(cipher);
    if (out == nullptr) {
      *size = key.modulus.size();
      return 1;
    }
    const Botan::RSA_PublicKey rsa(Botan::BigInt(key.modulus.data(), key.modulus.size()),
                                   Botan::BigInt(key.exponent.data(), key.exponent.size()));
    const Botan::PK_Encryptor_EME encryptor(
        rsa, Botan::system_rng(), cipher.hash == OaepHash::kSha1 ? "OAEP(SHA-1)" : "OAEP(SHA-256)");
    if (input_size > encryptor.maximum_input_size())
      throw Error(Code::kUsage, "this RSA key can encrypt at most " +
                                    std::to_string(encryptor.maximum_input_size()) + " bytes");
    return give(encryptor.encrypt(input, input_size, Botan::system_rng()), out, size, room);
  });
}

const OSSL_DISPATCH kRsa[] = {
    {OSSL_FUNC_ASYM_CIPHER_NEWCTX, as_function(fresh)},
    {OSSL_FUNC_ASYM_CIPHER_FREECTX, as_function(release)},
    {OSSL_FUNC_ASYM_CIPHER_DUPCTX, as_function(duplicate)},
    {OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, as_function(decrypt_init)},
    {OSSL_FUNC_ASYM_CIPHER_DECRYPT, as_function(decrypt)},
    {OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, as_function(encrypt_init)},
    {OSSL_FUNC_ASYM_CIPHER_ENCRYPT, as_function(encrypt)},
    {OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, as_function(set_params)},
    {OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, as_function(settable_params)},
    {OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS, as_function(get_params)},
    {OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS, as_function(gettable_params)},
    {0, nullptr}};

}  // namespace

const OSSL_ALGORITHM* asym_cipher_algorithms() {
  static const OSSL_ALGORITHM kAlgorithms[] = {
      {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=keyagent", kRsa,
       "RSA-OAEP decryption by the agent"},
      {nullptr, nullptr, nullptr, nullptr}};
  return kAlgorithms;
}

}  // namespace keyagent::openssl
