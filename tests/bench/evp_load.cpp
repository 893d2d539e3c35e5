// SPDX-License-Identifier: Apache-2.0
// An OpenSSL provider in the program's own process (pkcs11-provider, keyagent), one EVP signature
// or decryption after another.
//   --provider NAME --uri PKCS11-URI (its PIN by pin-source) [--op sign|decrypt] [--threads N]
//   [--milliseconds N] [--name NAME]
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "measure.h"

namespace keyagent::bench {
namespace {

[[noreturn]] void fail(const char* what) {
  char text[200] = "";
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  throw std::runtime_error(std::string(what) + ": " + text);
}

std::shared_ptr<EVP_PKEY> private_key(const std::string& uri) {
  std::unique_ptr<OSSL_STORE_CTX, int (*)(OSSL_STORE_CTX*)> store(
      OSSL_STORE_open(uri.c_str(), nullptr, nullptr, nullptr, nullptr), OSSL_STORE_close);
  if (!store) fail("OSSL_STORE_open");
  while (!OSSL_STORE_eof(store.get())) {
    std::unique_ptr<OSSL_STORE_INFO, void (*)(OSSL_STORE_INFO*)> info(OSSL_STORE_load(store.get()),
                                                                      OSSL_STORE_INFO_free);
    if (info && OSSL_STORE_INFO_get_type(info.get()) == OSSL_STORE_INFO_PKEY)
      return {OSSL_STORE_INFO_get1_PKEY(info.get()), EVP_PKEY_free};
  }
  throw std::runtime_error("no private key under the URI");
}

void sign(EVP_PKEY* key) {
  std::unique_ptr<EVP_PKEY_CTX, void (*)(EVP_PKEY_CTX*)> context(
      EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr), EVP_PKEY_CTX_free);
  const unsigned char digest[32] = {0x5a};
  std::vector<unsigned char> signature(512);
  std::size_t size = signature.size();
  if (!context || EVP_PKEY_sign_init(context.get()) != 1) fail("EVP_PKEY_sign_init");
  if (EVP_PKEY_sign(context.get(), signature.data(), &size, digest, sizeof digest) != 1)
    fail("EVP_PKEY_sign");
}

using Context = std::unique_ptr<EVP_PKEY_CTX, void (*)(EVP_PKEY_CTX*)>;
using Text = std::vector<unsigned char>;

void take_oaep(EVP_PKEY_CTX* context) {
  if (EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) != 1) fail("OAEP");
}

// A key of 32 bytes under RSA-OAEP with SHA-1, as raw_cryptoki --op rsa-decrypt has it. Sealed in
// software, with the public half alone.
Text sealed_to(EVP_PKEY* key) {
  unsigned char* spki = nullptr;
  const int length = i2d_PUBKEY(key, &spki);
  const unsigned char* at = spki;
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> half(d2i_PUBKEY(nullptr, &at, length),
                                                            EVP_PKEY_free);
  OPENSSL_free(spki);
  const Context context(EVP_PKEY_CTX_new(half.get(), nullptr), EVP_PKEY_CTX_free);
  if (!context || EVP_PKEY_encrypt_init(context.get()) != 1) fail("EVP_PKEY_encrypt_init");
  take_oaep(context.get());
  const Text text(32, 0x17);
  Text sealed(512);
  std::size_t size = sealed.size();
  if (EVP_PKEY_encrypt(context.get(), sealed.data(), &size, text.data(), text.size()) != 1)
    fail("EVP_PKEY_encrypt");
  sealed.resize(size);
  return sealed;
}

void decrypt(EVP_PKEY* key, const Text& sealed) {
  const Context context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr), EVP_PKEY_CTX_free);
  if (!context || EVP_PKEY_decrypt_init(context.get()) != 1) fail("EVP_PKEY_decrypt_init");
  take_oaep(context.get());
  Text text(512);
  std::size_t size = text.size();
  if (EVP_PKEY_decrypt(context.get(), text.data(), &size, sealed.data(), sealed.size()) != 1)
    fail("EVP_PKEY_decrypt");
}

int body(const Arguments& arguments) {
  if (OSSL_PROVIDER_load(nullptr, arguments.text("provider", "pkcs11").c_str()) == nullptr ||
      OSSL_PROVIDER_load(nullptr, "default") == nullptr)
    fail("OSSL_PROVIDER_load");
  const unsigned threads = arguments.number("threads", 2);
  const auto key = private_key(arguments.text("uri"));
  const std::string op = arguments.text("op", "sign");
  if (op != "sign" && op != "decrypt") throw std::runtime_error("--op is sign or decrypt");
  const Text sealed = op == "decrypt" ? sealed_to(key.get()) : Text();
  const auto load = run(threads, std::chrono::milliseconds(arguments.number("milliseconds", 2000)),
                        [&](unsigned) -> Work {
                          if (op == "decrypt") return [&] { decrypt(key.get(), sealed); };
                          return [key] { sign(key.get()); };
                        });
  return print(arguments.text("name", "pkcs11-provider"), threads, load);
}

}  // namespace
}  // namespace keyagent::bench

int main(int argc, char** argv) {
  return keyagent::bench::guarded(argc, argv, keyagent::bench::body);
}
