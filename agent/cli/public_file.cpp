#include "agent/cli/public_file.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/envelope/envelope.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kLargest = 64 * 1024;

KeyAlgorithm kind_of(EVP_PKEY* key, const std::string& name) {
  if (EVP_PKEY_is_a(key, "RSA") == 1) {
    const int bits = EVP_PKEY_get_bits(key);
    if (bits == 2048) return KeyAlgorithm::kRsa2048;
    if (bits == 3072) return KeyAlgorithm::kRsa3072;
    if (bits == 4096) return KeyAlgorithm::kRsa4096;
  }
  if (EVP_PKEY_is_a(key, "EC") == 1)
    return EVP_PKEY_get_bits(key) == 384 ? KeyAlgorithm::kEcP384 : KeyAlgorithm::kEcP256;
  if (EVP_PKEY_is_a(key, "ED25519") == 1) return KeyAlgorithm::kEd25519;
  throw Error(Code::kUsage, name +
                                " holds a key of a kind that is not used here (RSA 2048, 3072, "
                                "4096; P-256, P-384; Ed25519)");
}

PublicKeyInfo from_pem(const std::string& name, ByteView text) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  if (!key)
    throw Error(Code::kUsage, name + " is no public key: give PEM (BEGIN PUBLIC KEY) or a JWK");
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  PublicKeyInfo info;
  info.spki.assign(der, der + size);
  OPENSSL_free(der);
  info.algorithm = kind_of(key.get(), name);
  info.kid = Kid(jwk_thumbprint(info.spki));
  info.name = name;
  // Whether it signs or opens is not written in a PEM file; both halves of the check stay with the
  // caller.
  info.purpose = Purpose::kTransport;
  info.envelope = default_envelope(Purpose::kTransport, info.algorithm);
  return info;
}

}  // namespace

PublicKeyInfo read_public_file(const std::string& name) {
  const auto text = read_input(name, kLargest);
  const auto first = as_text(text).find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{')
    return envelope::from_jwk(as_text(text));
  return from_pem(name, text);
}

}  // namespace keyagent::cli
