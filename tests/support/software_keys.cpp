// SPDX-License-Identifier: Apache-2.0
#include "tests/support/software_keys.h"

#include <botan/aead.h>
#include <botan/exceptn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <map>
#include <mutex>
#include <shared_mutex>

#include "agent/base/encoding.h"
#include "agent/base/error.h"

namespace keyagent::test {

namespace {

struct Free {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(EVP_PKEY_CTX* p) const { EVP_PKEY_CTX_free(p); }
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
  void operator()(PKCS8_PRIV_KEY_INFO* p) const { PKCS8_PRIV_KEY_INFO_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

void must(bool ok, const char* what) {
  if (ok) return;
  ERR_clear_error();
  throw Error(Code::kInternal, std::string("software key: ") + what);
}

Owned<EVP_PKEY> generate(KeyAlgorithm algorithm) {
  EVP_PKEY* key = nullptr;
  if (is_rsa(algorithm)) {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", rsa_modulus_size(algorithm) * 8);
  } else if (algorithm == KeyAlgorithm::kEd25519) {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  } else {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC",
                            algorithm == KeyAlgorithm::kEcP256 ? "P-256" : "P-384");
  }
  must(key != nullptr, "cannot be generated");
  return Owned<EVP_PKEY>(key);
}

Bytes spki_of(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  must(size > 0, "has no public key");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

// AES-256-GCM; `text` is in and out. False when the tag is wrong.
bool gcm(bool encrypt, const SecretBytes& key, ByteView iv, SecretBytes& text) {
#if BOTAN_VERSION_MAJOR >= 3
  const auto direction = encrypt ? Botan::Cipher_Dir::Encryption : Botan::Cipher_Dir::Decryption;
#else
  const auto direction = encrypt ? Botan::ENCRYPTION : Botan::DECRYPTION;
#endif
  auto mode = Botan::AEAD_Mode::create_or_throw("AES-256/GCM(16)", direction);
  mode->set_key(key.data(), key.size());
  mode->start(iv.data(), iv.size());
  try {
    mode->finish(text);
  } catch (const Botan::Invalid_Authentication_Tag&) {
    return false;
  }
  return true;
}

const EVP_MD* digest_md(DigestAlgorithm digest) {
  switch (digest) {
    case DigestAlgorithm::kSha256:
      return EVP_sha256();
    case DigestAlgorithm::kSha384:
      return EVP_sha384();
    case DigestAlgorithm::kSha512:
      return EVP_sha512();
    case DigestAlgorithm::kNone:
      break;
  }
  return nullptr;
}

bool is_pss(SignatureAlgorithm a) {
  return a == SignatureAlgorithm::kPs256 || a == SignatureAlgorithm::kPs384 ||
         a == SignatureAlgorithm::kPs512;
}

Bytes sign_message(EVP_PKEY* key, ByteView message) {
  Owned<EVP_MD_CTX> ctx(EVP_MD_CTX_new());
  Bytes out(64);
  std::size_t size = out.size();
  must(EVP_DigestSignInit(ctx.get(), nullptr, nullptr, nullptr, key) > 0 &&
           EVP_DigestSign(ctx.get(), out.data(), &size, message.data(), message.size()) > 0,
       "cannot sign");
  return out;
}

Bytes sign_digest(EVP_PKEY* key, KeyAlgorithm kind, SignatureAlgorithm algorithm, ByteView digest) {
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(key, nullptr));
  must(EVP_PKEY_sign_init(ctx.get()) > 0, "cannot sign");
  if (is_rsa(kind)) {
    must(EVP_PKEY_CTX_set_rsa_padding(
             ctx.get(), is_pss(algorithm) ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) > 0,
         "refuses the padding");
  }
  must(EVP_PKEY_CTX_set_signature_md(ctx.get(), digest_md(digest_of(algorithm))) > 0,
       "refuses the digest");
  if (is_pss(algorithm)) {
    must(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx.get(), RSA_PSS_SALTLEN_DIGEST) > 0,
         "refuses the salt length");
  }
  std::size_t size = 0;
  must(EVP_PKEY_sign(ctx.get(), nullptr, &size, digest.data(), digest.size()) > 0, "cannot sign");
  Bytes out(size);
  must(EVP_PKEY_sign(ctx.get(), out.data(), &size, digest.data(), digest.size()) > 0,
       "cannot sign");
  out.resize(size);
  return is_rsa(kind) ? out : ecdsa_from_der(out, ec_field_size(kind));
}

// The peer's public key on the curve of `own`; null when the point is not on it.
Owned<EVP_PKEY> peer_key(EVP_PKEY* own, ByteView point) {
  Owned<EVP_PKEY> peer(EVP_PKEY_new());
  const bool ok = EVP_PKEY_copy_parameters(peer.get(), own) > 0 &&
                  EVP_PKEY_set1_encoded_public_key(peer.get(), point.data(), point.size()) > 0;
  ERR_clear_error();
  return ok ? std::move(peer) : nullptr;
}

}  // namespace

struct SoftwareKeys::Impl {
  struct Entry {
    PublicKeyInfo info;
    Owned<EVP_PKEY> key;  // null for a secret key
    SecretBytes secret;
  };

  std::shared_ptr<const Entry> find(const Kid& kid) const {
    std::shared_lock lock(mutex);
    const auto it = entries.find(kid);
    if (it == entries.end()) {
      throw Error(Code::kKeyNotPresent, "no key with this kid", kid.text());
    }
    return it->second;
  }

  PublicKeyInfo keep(Entry entry) {
    std::unique_lock lock(mutex);
    PublicKeyInfo info = entry.info;
    entries[info.kid] = std::make_shared<const Entry>(std::move(entry));
    return info;
  }

  PublicKeyInfo keep_pair(const std::string& name, Purpose purpose, KeyAlgorithm algorithm,
                          EnvelopeAlgorithm envelope, Owned<EVP_PKEY> key) {
    Entry entry;
    if (envelope == EnvelopeAlgorithm::kNone) envelope = default_envelope(purpose, algorithm);
    Bytes spki = spki_of(key.get());
    const Kid kid(jwk_thumbprint(spki));
    entry.info = PublicKeyInfo{kid, name, algorithm, purpose, envelope, std::move(spki)};
    entry.key = std::move(key);
    return keep(std::move(entry));
  }

  static std::optional<SecretBytes> oaep_decrypt(const Entry& entry, OaepHash hash,
                                                 ByteView ciphertext) {
    const std::size_t modulus = rsa_modulus_size(entry.info.algorithm);
    if (modulus == 0) throw Error(Code::kUnsupported, "not an RSA key", entry.info.kid.text());
    if (ciphertext.size() != modulus) throw_input_error();
    const EVP_MD* md = hash == OaepHash::kSha1 ? EVP_sha1() : EVP_sha256();
    Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(entry.key.get(), nullptr));
    must(EVP_PKEY_decrypt_init(ctx.get()) > 0 &&
             EVP_PKEY_CTX_set_rsa_padding(ctx.get(), RSA_PKCS1_OAEP_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_oaep_md(ctx.get(), md) > 0 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(ctx.get(), md) > 0,
         "cannot decrypt");
    SecretBytes out(modulus);
    std::size_t size = out.size();
    const bool ok =
        EVP_PKEY_decrypt(ctx.get(), out.data(), &size, ciphertext.data(), ciphertext.size()) > 0;
    ERR_clear_error();
    if (!ok) return std::nullopt;
    out.resize(size);
    return out;
  }

  mutable std::shared_mutex mutex;
  std::map<Kid, std::shared_ptr<const Entry>> entries;
};

SoftwareKeys::SoftwareKeys() : impl_(std::make_unique<Impl>()) {}
SoftwareKeys::~SoftwareKeys() = default;

PublicKeyInfo SoftwareKeys::add(const std::string& name, Purpose purpose, KeyAlgorithm algorithm,
                                EnvelopeAlgorithm envelope) {
  if (algorithm == KeyAlgorithm::kAes256) return add_secret(name, random_secret(32));
  return impl_->keep_pair(name, purpose, algorithm, envelope, generate(algorithm));
}

PublicKeyInfo SoftwareKeys::add_pkcs8(const std::string& name, Purpose purpose,
                                      KeyAlgorithm algorithm, EnvelopeAlgorithm envelope,
                                      ByteView der) {
  const unsigned char* at = der.data();
  Owned<PKCS8_PRIV_KEY_INFO> info(
      d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, static_cast<long>(der.size())));
  must(info != nullptr, "is not PKCS#8");
  Owned<EVP_PKEY> key(EVP_PKCS82PKEY(info.get()));
  must(key != nullptr, "cannot be read");
  return impl_->keep_pair(name, purpose, algorithm, envelope, std::move(key));
}

PublicKeyInfo SoftwareKeys::add_secret(const std::string& name, const SecretBytes& key) {
  Impl::Entry entry;
  entry.info =
      PublicKeyInfo{Kid(to_hex(random_bytes(16))), name, KeyAlgorithm::kAes256, Purpose::kStorage,
                    EnvelopeAlgorithm::kA256GcmKw, {}};
  entry.secret = key;
  return impl_->keep(std::move(entry));
}

void SoftwareKeys::forget(const Kid& kid) {
  std::unique_lock lock(impl_->mutex);
  impl_->entries.erase(kid);
}

Bytes SoftwareKeys::pkcs8(const Kid& kid) {
  const auto entry = impl_->find(kid);
  must(entry->key != nullptr, "is a secret key");
  Owned<PKCS8_PRIV_KEY_INFO> info(EVP_PKEY2PKCS8(entry->key.get()));
  unsigned char* der = nullptr;
  const int size = i2d_PKCS8_PRIV_KEY_INFO(info.get(), &der);
  must(size > 0, "has no PKCS#8 form");
  Bytes out(der, der + size);
  OPENSSL_clear_free(der, static_cast<std::size_t>(size));
  return out;
}

PublicKeyInfo SoftwareKeys::public_key(const Kid& kid) {
  return impl_->find(kid)->info;
}

Bytes SoftwareKeys::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  ++calls_.sign;
  const auto entry = impl_->find(kid);
  const std::size_t size = digest_size(digest_of(algorithm));
  if (!entry->key || !can_sign(entry->info.algorithm, algorithm) ||
      (size != 0 && input.size() != size)) {
    throw Error(Code::kUnsupported, "this key does not sign so", kid.text());
  }
  if (algorithm == SignatureAlgorithm::kEdDsa) return sign_message(entry->key.get(), input);
  return sign_digest(entry->key.get(), entry->info.algorithm, algorithm, input);
}

SecretBytes SoftwareKeys::decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                                      std::size_t cek_size) {
  ++calls_.decrypt;
  const auto entry = impl_->find(kid);
  if (cek_size != 16 && cek_size != 32) throw_input_error();
  auto cek = Impl::oaep_decrypt(*entry, hash, ciphertext);
  return cek && cek->size() == cek_size ? std::move(*cek) : random_secret(cek_size);
}

std::optional<SecretBytes> SoftwareKeys::decrypt(const Kid& kid, OaepHash hash,
                                                 ByteView ciphertext) {
  ++calls_.decrypt;
  return Impl::oaep_decrypt(*impl_->find(kid), hash, ciphertext);
}

SecretBytes SoftwareKeys::agree(const Kid& kid, ByteView peer_point) {
  ++calls_.agree;
  const auto entry = impl_->find(kid);
  const std::size_t field = ec_field_size(entry->info.algorithm);
  if (field == 0) throw Error(Code::kUnsupported, "not an EC key", kid.text());
  if (peer_point.size() != 2 * field + 1 || peer_point[0] != 4) throw_input_error();
  const auto peer = peer_key(entry->key.get(), peer_point);
  if (!peer) throw_input_error();
  Owned<EVP_PKEY_CTX> ctx(EVP_PKEY_CTX_new(entry->key.get(), nullptr));
  SecretBytes out(field);
  std::size_t size = out.size();
  must(EVP_PKEY_derive_init(ctx.get()) > 0 && EVP_PKEY_derive_set_peer(ctx.get(), peer.get()) > 0 &&
           EVP_PKEY_derive(ctx.get(), out.data(), &size) > 0 && size == field,
       "cannot agree");
  return out;
}

WrappedCek SoftwareKeys::wrap_cek(const Kid& kid, const SecretBytes& cek) {
  ++calls_.wrap;
  const auto entry = impl_->find(kid);
  if (entry->secret.empty()) throw Error(Code::kUnsupported, "not a storage key", kid.text());
  WrappedCek out;
  out.iv = random_bytes(12);
  SecretBytes text = cek;
  gcm(true, entry->secret, out.iv, text);
  out.ciphertext.assign(text.begin(), text.end() - 16);
  out.tag.assign(text.end() - 16, text.end());
  return out;
}

SecretBytes SoftwareKeys::unwrap_cek(const Kid& kid, const WrappedCek& wrapped,
                                     std::size_t cek_size) {
  ++calls_.unwrap;
  const auto entry = impl_->find(kid);
  if (entry->secret.empty()) throw Error(Code::kUnsupported, "not a storage key", kid.text());
  if (wrapped.iv.size() != 12 || wrapped.tag.size() != 16 ||
      wrapped.ciphertext.size() != cek_size) {
    throw_input_error();
  }
  SecretBytes text(wrapped.ciphertext.begin(), wrapped.ciphertext.end());
  text.insert(text.end(), wrapped.tag.begin(), wrapped.tag.end());
  if (!gcm(false, entry->secret, wrapped.iv, text)) return random_secret(cek_size);
  return text;
}

}  // namespace keyagent::test
