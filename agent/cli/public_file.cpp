#include "agent/cli/public_file.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/error.h"
#include "agent/cli/files.h"
#include "agent/envelope/container.h"
#include "agent/envelope/envelope.h"
#include "agent/pki/certificate_file.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxFile = pki::kLargestCertificateFile;
constexpr std::string_view kPublicKey = "-----BEGIN PUBLIC KEY-----";

struct Free {
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
};

std::optional<Bytes> spki_of(const std::unique_ptr<EVP_PKEY, Free>& key) {
  unsigned char* der = nullptr;
  const int size = key ? i2d_PUBKEY(key.get(), &der) : 0;
  if (size <= 0) return std::nullopt;
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

std::optional<Bytes> from_pem(const std::string& name, std::string_view text) {
  const auto begin = text.find(kPublicKey);
  if (begin == std::string_view::npos) return std::nullopt;
  if (text.find(kPublicKey, begin + 1) != std::string_view::npos)
    throw Error(Code::kUsage, name + " holds several public keys: give one");
  const std::unique_ptr<BIO, Free> bio(
      BIO_new_mem_buf(text.data() + begin, static_cast<int>(text.size() - begin)));
  auto spki = spki_of(
      std::unique_ptr<EVP_PKEY, Free>(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr)));
  if (!spki) throw Error(Code::kUsage, "the public key in " + name + " is cut short or damaged");
  return spki;
}

std::optional<Bytes> from_der(ByteView bytes) {
  const unsigned char* at = bytes.data();
  const std::unique_ptr<EVP_PKEY, Free> key(
      d2i_PUBKEY(nullptr, &at, static_cast<long>(bytes.size())));
  if (at != bytes.data() + bytes.size()) return std::nullopt;
  return spki_of(key);
}

Bytes from_certificates(const std::string& name, ByteView bytes) {
  std::vector<pki::CertificateFacts> all;
  try {
    for (const auto& der : pki::read_certificates(bytes))
      all.push_back(pki::certificate_facts(der));
  } catch (const pki::ChainError& error) {
    throw Error(Code::kUsage, "cannot use " + name +
                                  ": it holds neither a public key (PEM, DER, JWK) "
                                  "nor a certificate that can be read: " +
                                  error.what());
  }
  std::vector<Bytes> ends;
  for (const auto& each : all) {
    const bool issued_another = std::any_of(all.begin(), all.end(), [&](const auto& other) {
      return &other != &each && other.issuer == each.subject;
    });
    if (!issued_another) ends.push_back(each.spki);
  }
  if (ends.size() != 1)
    throw Error(Code::kUsage, name + " holds several certificates: give the one of the key");
  return ends.front();
}

bool holds_private_key(std::string_view text) {
  return text.find("PRIVATE KEY-----") != std::string_view::npos;
}

}  // namespace

PublicKeyInfo read_public_file(const std::string& name, Purpose purpose) {
  const auto bytes = read_input(name, kMaxFile);
  const std::string_view text = envelope::trimmed(as_text(bytes));
  if (text.starts_with('{')) return envelope::from_jwk(text, purpose);
  if (holds_private_key(text))
    throw Error(Code::kUsage, name + " holds a private key: give the public key alone");
  auto spki = from_pem(name, text);
  if (!spki) spki = from_der(bytes);
  if (!spki) spki = from_certificates(name, bytes);
  ERR_clear_error();
  auto info = envelope::key_of_spki(*spki, purpose);
  info.name = name;
  return info;
}

}  // namespace keyagent::cli
