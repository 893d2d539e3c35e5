// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/commands/public_file.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/pem.h"
#include "agent/cli/files.h"
#include "agent/envelope/container.h"
#include "agent/envelope/envelope.h"
#include "agent/pki/certificate_file.h"

namespace keyagent::cli {
namespace {

constexpr std::size_t kMaxFile = pki::kMaxCertificateFile;

struct Free {
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

std::optional<Bytes> parse_spki(ByteView der) {
  const unsigned char* at = der.data();
  const std::unique_ptr<EVP_PKEY, Free> key(
      d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
  if (at != der.data() + der.size()) return std::nullopt;
  return spki_of(key);
}

// PKCS#1 (RFC 8017 A.1.1), which some programs still write.
std::optional<Bytes> parse_rsa(ByteView der) {
  const unsigned char* at = der.data();
  return spki_of(std::unique_ptr<EVP_PKEY, Free>(
      d2i_PublicKey(EVP_PKEY_RSA, nullptr, &at, static_cast<long>(der.size()))));
}

std::optional<Bytes> from_pem(const std::string& name, ByteView file) {
  const PemBlock* found = nullptr;
  const auto blocks = read_pem(file);
  for (const auto& block : blocks) {
    if (block.label.find("PRIVATE KEY") != std::string::npos)
      throw Error(Code::kUsage,
                  name + " contains a private key; give a file with only the public key");
    if (block.label != PEM_STRING_PUBLIC && block.label != PEM_STRING_RSA_PUBLIC) continue;
    if (found != nullptr)
      throw Error(Code::kUsage, name + " contains several public keys; give a file with one");
    found = &block;
  }
  if (found == nullptr) return std::nullopt;
  auto spki =
      found->label == PEM_STRING_PUBLIC ? parse_spki(found->content) : parse_rsa(found->content);
  if (!spki) throw Error(Code::kUsage, "the public key in " + name + " is truncated or corrupt");
  return spki;
}

std::optional<Bytes> from_der(ByteView file) {
  const auto der = whole_der(file);
  return der ? parse_spki(*der) : std::nullopt;
}

Bytes from_certificates(const std::string& name, ByteView bytes) {
  std::vector<pki::CertificateFacts> all;
  try {
    for (const auto& der : pki::read_certificates(bytes))
      all.push_back(pki::certificate_facts(der));
  } catch (const pki::ChainError& error) {
    throw Error(
        Code::kUsage,
        "cannot use " + name +
            ": it contains neither a public key (PEM, DER, JWK) nor a readable certificate: " +
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
    throw Error(Code::kUsage,
                name + " contains several certificates; give only the certificate of the key");
  return ends.front();
}

}  // namespace

PublicKeyInfo read_public_file(const std::string& name, Purpose purpose) {
  const auto bytes = read_input(name, kMaxFile);
  const std::string_view text = envelope::trimmed(as_text(bytes));
  if (text.starts_with('{')) return envelope::from_jwk(text, purpose);
  auto spki = from_pem(name, bytes);
  if (!spki) spki = from_der(bytes);
  if (!spki) spki = from_certificates(name, bytes);
  ERR_clear_error();
  auto info = envelope::key_of_spki(*spki, purpose);
  info.name = name;
  return info;
}

}  // namespace keyagent::cli
