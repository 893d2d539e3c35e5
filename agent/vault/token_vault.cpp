// SPDX-License-Identifier: Apache-2.0
#include "agent/vault/token_vault.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/mutex.h"
#include "agent/vault/boundary.h"
#include "agent/vault/mechanisms.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"

namespace keyagent::vault {
namespace {

constexpr const char* kApplication = "keyagent";
constexpr std::size_t kGcmIv = 12;

[[noreturn]] void throw_misfit(const VaultKey& key, std::string_view what) {
  throw Error(Code::kUnsupported,
              "key " + key.info.name + " (" + std::string(name_of(key.info.purpose)) + ", " +
                  std::string(name_of(key.info.algorithm)) + ") cannot " + std::string(what),
              key.info.kid.text());
}

void require_cek_size(std::size_t size) {
  if (size != 16 && size != 32) throw_input_error();
}

}  // namespace

TokenVault::TokenVault(std::shared_ptr<pkcs11::Token> token) : token_(std::move(token)) {}

TokenVault::Adopted TokenVault::find_adopted(const Kid& kid) const {
  const SharedLock lock(mutex_);
  const auto found = keys_.find(kid);
  if (found == keys_.end()) {
    throw Error(Code::kKeyNotPresent, "no key " + kid.text() + " is in use by this agent",
                kid.text());
  }
  return found->second;
}

void TokenVault::adopt(const VaultKey& key) {
  const std::string& kid = key.info.kid.text();
  const auto object = find(key.cka_id);
  const bool secret = key.info.algorithm == KeyAlgorithm::kAes256;
  const bool complete =
      object && (secret ? object->has_secret : object->has_private && object->has_public);
  if (!complete) {
    throw Error(
        Code::kKeyLost,
        "the token does not hold key " + key.info.name + " (CKA_ID " + key.cka_id.hex() + ")", kid);
  }
  if (object->duplicates > 0) {
    throw Error(Code::kIntegrity,
                "the token holds several objects under CKA_ID " + key.cka_id.hex() + ", so key " +
                    key.info.name + " is ambiguous",
                kid);
  }
  if (!secret && read_spki(key.cka_id) != key.info.spki) {
    throw Error(Code::kIntegrity,
                "the token's public key under CKA_ID " + key.cka_id.hex() + " is not key " +
                    key.info.name + "'s",
                kid);
  }
  MutexLock lock(mutex_);
  keys_[key.info.kid] = std::make_shared<const VaultKey>(key);
}

void TokenVault::forget(const Kid& kid) {
  MutexLock lock(mutex_);
  keys_.erase(kid);
}

Bytes TokenVault::generate(const GenerateRequest& request) {
  if (!allowed(request.purpose, request.algorithm)) {
    throw Error(Code::kUnsupported, "a " + std::string(name_of(request.purpose)) +
                                        " key cannot be " +
                                        std::string(name_of(request.algorithm)));
  }
  if (request.exchangeable && request.purpose != Purpose::kStorage)
    throw Error(Code::kUnsupported, "only storage keys are exchangeable");
  pkcs11::KeySpec spec;
  spec.kind = kind_of(request.algorithm);
  spec.usage = usage_of(request.purpose, request.algorithm);
  spec.cka_id = id_of(request.cka_id);
  spec.label = request.label;
  spec.extractable = request.exchangeable;
  return at_boundary({}, [&] {
    const Bytes spki = token_->change(
        [&](pkcs11::Session& session) { return pkcs11::generate(session, spec); }, true);
    VaultKey key;
    key.info.algorithm = request.algorithm;
    key.info.purpose = request.purpose;
    key.cka_id = request.cka_id;
    if (request.exchangeable) key.birth = Birth::kExchangeable;
    try {
      require_custody(key);
    } catch (const Error& error) {
      if (error.code() == Code::kIntegrity) destroy(request.cka_id);
      throw;
    }
    return spki;
  });
}

void TokenVault::require_custody(const VaultKey& key) {
  const std::string fault =
      custody_fault(prove_custody(key), usage_of(key.info.purpose, key.info.algorithm),
                    token_->profile(), key.birth);
  if (fault.empty()) return;
  throw Error(Code::kIntegrity,
              "the token created a key that differs from the request (" + fault + ")",
              key.info.kid.text());
}

void TokenVault::destroy(const CkaId& cka_id) {
  at_boundary({}, [&] {
    token_->change_without_room(
        [&](pkcs11::Session& session) { pkcs11::destroy(session, id_of(cka_id)); });
    // Session copies of the key live as long as the sessions that made them.
    token_->renew_sessions();
    // A second look through whatever session comes next: some tokens answer OK and keep the object
    // (RELIABILITY 57).
    if (find(cka_id)) {
      throw Error(Code::kTokenFault, "the token still holds objects under CKA_ID " + cka_id.hex() +
                                         " after it reported them as destroyed");
    }
  });
}

std::vector<TokenObject> TokenVault::objects() {
  return at_boundary({}, [&] {
    const auto infos =
        token_->run([](pkcs11::Session& session) { return pkcs11::list_objects(session); });
    return group_by_id(infos);
  });
}

std::optional<TokenObject> TokenVault::find(const CkaId& cka_id) {
  return at_boundary({}, [&]() -> std::optional<TokenObject> {
    const auto infos = token_->run(
        [&](pkcs11::Session& session) { return pkcs11::find_objects(session, id_of(cka_id)); });
    const auto objects = group_by_id(infos);
    if (objects.empty()) return std::nullopt;
    return objects.front();
  });
}

std::optional<Bytes> TokenVault::read_spki(const CkaId& cka_id) {
  return at_boundary({}, [&]() -> std::optional<Bytes> {
    try {
      return token_->run([&](pkcs11::Session& session) {
        return pkcs11::read_public_key(session, id_of(cka_id));
      });
    } catch (const pkcs11::Error& error) {
      if (error.kind() == pkcs11::Error::Kind::kObject) return std::nullopt;
      throw;
    }
  });
}

pkcs11::Custody TokenVault::prove_custody(const VaultKey& key) {
  const CK_OBJECT_CLASS object_class =
      key.info.algorithm == KeyAlgorithm::kAes256 ? CKO_SECRET_KEY : CKO_PRIVATE_KEY;
  return at_boundary(key.info.kid.text(), [&] {
    return token_->run([&](pkcs11::Session& session) {
      return pkcs11::prove_custody(session, {id_of(key.cka_id), object_class});
    });
  });
}

// An object that is damaged is named: another one is there after it was deleted.
std::vector<Bytes> TokenVault::read_objects(const std::string& label) {
  try {
    return token_->run(
        [&](pkcs11::Session& session) { return pkcs11::read_data(session, kApplication, label); });
  } catch (const pkcs11::Error& error) {
    const std::string text = "the token's data object " + std::string(kApplication) + "/" + label +
                             " cannot be read: " + error.what();
    const auto rv_class = error.rv_class();
    const bool damaged = error.kind() == pkcs11::Error::Kind::kRv &&
                         (rv_class == pkcs11::RvClass::kCall ||
                          rv_class == pkcs11::RvClass::kInput || rv_class == pkcs11::RvClass::kKey);
    if (damaged) throw Error(Code::kIntegrity, text + "; run: keyagent doctor");
    throw pkcs11::Error(error.kind(), text, error.rv());
  }
}

std::optional<std::string> TokenVault::read_fact(const std::string& label) {
  if (!keeps_facts()) return std::nullopt;
  return at_boundary({}, [&]() -> std::optional<std::string> {
    const auto values = read_objects(label);
    if (values.empty()) return std::nullopt;
    // A crash inside replace_data() leaves two; the greater text is the newer one for numbers of
    // one width.
    const auto newest =
        std::max_element(values.begin(), values.end(), [](const Bytes& a, const Bytes& b) {
          return a.size() != b.size() ? a.size() < b.size() : a < b;
        });
    return std::string(as_text(*newest));
  });
}

void TokenVault::write_fact(const std::string& label, const std::string& value) {
  if (!keeps_facts()) return;
  at_boundary({}, [&] {
    token_->change([&](pkcs11::Session& session) {
      pkcs11::replace_data(session, kApplication, label, as_bytes(value));
    });
    if (token_->profile().reload_after_destroy) token_->renew_sessions();
  });
}

void TokenVault::erase_fact(const std::string& label) {
  if (!keeps_facts()) return;
  at_boundary({}, [&] {
    token_->change_without_room(
        [&](pkcs11::Session& session) { pkcs11::destroy_data(session, kApplication, label); });
    if (token_->profile().reload_after_destroy) token_->renew_sessions();
  });
}

bool TokenVault::look_again() {
  return at_boundary({}, [&] { return token_->look_again(); });
}

void TokenVault::require_writable() {
  at_boundary({}, [&] { token_->require_writable(); });
}

bool TokenVault::keeps_facts() const {
  return token_->profile().data_objects;
}

PublicKeyInfo TokenVault::public_key(const Kid& kid) {
  return find_adopted(kid)->info;
}

Bytes TokenVault::sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) {
  return sign_with(*find_adopted(kid), algorithm, input);
}

SecretBytes TokenVault::decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                                    std::size_t cek_size) {
  return decrypt_with(*find_adopted(kid), hash, ciphertext, cek_size);
}

std::optional<SecretBytes> TokenVault::decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) {
  return decrypt_with(*find_adopted(kid), hash, ciphertext);
}

SecretBytes TokenVault::agree(const Kid& kid, ByteView peer_point) {
  return agree_with(*find_adopted(kid), peer_point);
}

WrappedCek TokenVault::wrap_cek(const Kid& kid, const SecretBytes& cek) {
  return wrap_with(*find_adopted(kid), cek);
}

SecretBytes TokenVault::unwrap_cek(const Kid& kid, const WrappedCek& wrapped,
                                   std::size_t cek_size) {
  return unwrap_with(*find_adopted(kid), wrapped, cek_size);
}

Bytes TokenVault::sign_with(const VaultKey& key, SignatureAlgorithm algorithm, ByteView input) {
  if (!signs(key.info.purpose) || !can_sign(key.info.algorithm, algorithm)) {
    throw_misfit(key, "sign " + std::string(name_of(algorithm)));
  }
  const auto digest = digest_of(algorithm);
  if (digest != DigestAlgorithm::kNone && input.size() != digest_size(digest)) {
    throw Error(Code::kUsage, std::string(name_of(algorithm)) + " needs a digest of " +
                                  std::to_string(digest_size(digest)) + " bytes, not " +
                                  std::to_string(input.size()));
  }
  const auto scheme = scheme_of(algorithm);
  const auto hash = hash_of(algorithm);
  return at_boundary(key.info.kid.text(), [&] {
    Bytes signature = token_->run([&](pkcs11::Session& session) {
      return pkcs11::sign(session, id_of(key.cka_id), kind_of(key.info.algorithm), scheme, hash,
                          input);
    });
    // Faulty signatures leak private keys: RSA-CRT (Boneh, DeMillo, Lipton 1997), EdDSA and
    // deterministic ECDSA (Poddebniak et al. 2018).
    const bool verify = is_rsa(key.info.algorithm) || token_->profile().verify_signatures;
    if (verify && !pkcs11::verify_signature(key.info.spki, scheme, hash, input, signature)) {
      throw Error(Code::kIntegrity,
                  "the token's signature does not verify with the public key of key " +
                      key.info.name + "; it was withheld; run: keyagent doctor",
                  key.info.kid.text());
    }
    return signature;
  });
}

bool TokenVault::blames_input(const pkcs11::Error& error) const {
  if (error.kind() != pkcs11::Error::Kind::kRv) return false;
  const auto rv_class = error.rv_class();
  if (rv_class == pkcs11::RvClass::kInput) return true;
  // Token::run() lets an ambiguous code out with the token still up only when its canary passed.
  return rv_class == pkcs11::RvClass::kAmbiguous &&
         token_->status().state == pkcs11::TokenState::kUp;
}

void TokenVault::require_decrypts(const VaultKey& key, ByteView ciphertext) const {
  if (key.info.purpose != Purpose::kTransport || !is_rsa(key.info.algorithm)) {
    throw_misfit(key, "decrypt RSA-OAEP");
  }
  if (ciphertext.size() != rsa_modulus_size(key.info.algorithm)) throw_input_error();
}

SecretBytes TokenVault::decrypt_with(const VaultKey& key, OaepHash hash, ByteView ciphertext,
                                     std::size_t cek_size) {
  require_decrypts(key, ciphertext);
  require_cek_size(cek_size);
  return at_boundary(key.info.kid.text(), [&] {
    // Drawn on every call, so that a refused ciphertext costs no more than a good one.
    SecretBytes rejected = random_secret(cek_size);
    try {
      return token_->run([&](pkcs11::Session& session) {
        return pkcs11::oaep_decrypt(session, id_of(key.cka_id), hash_of(hash), ciphertext,
                                    cek_size);
      });
    } catch (const pkcs11::Error& error) {
      if (!blames_input(error)) throw;
      return rejected;
    }
  });
}

std::optional<SecretBytes> TokenVault::decrypt_with(const VaultKey& key, OaepHash hash,
                                                    ByteView ciphertext) {
  require_decrypts(key, ciphertext);
  return at_boundary(key.info.kid.text(), [&]() -> std::optional<SecretBytes> {
    try {
      return token_->run([&](pkcs11::Session& session) {
        return pkcs11::oaep_decrypt(session, id_of(key.cka_id), hash_of(hash), ciphertext);
      });
    } catch (const pkcs11::Error& error) {
      if (!blames_input(error)) throw;
      return std::nullopt;
    }
  });
}

SecretBytes TokenVault::agree_with(const VaultKey& key, ByteView peer_point) {
  if (key.info.purpose != Purpose::kTransport || ec_field_size(key.info.algorithm) == 0) {
    throw_misfit(key, "agree on a secret (ECDH)");
  }
  if (!on_curve(key.info.algorithm, peer_point)) throw_input_error();
  return at_boundary(key.info.kid.text(), [&] {
    return token_->run([&](pkcs11::Session& session) {
      return pkcs11::ecdh(session, id_of(key.cka_id), kind_of(key.info.algorithm), peer_point);
    });
  });
}

WrappedCek TokenVault::wrap_with(const VaultKey& key, const SecretBytes& cek) {
  if (key.info.purpose != Purpose::kStorage) throw_misfit(key, "wrap");
  require_cek_size(cek.size());
  WrappedCek wrapped;
  wrapped.iv = random_bytes(kGcmIv);
  at_boundary(key.info.kid.text(), [&] {
    auto sealed = token_->run([&](pkcs11::Session& session) {
      return pkcs11::gcm_encrypt(session, id_of(key.cka_id), wrapped.iv, {}, cek);
    });
    wrapped.ciphertext = std::move(sealed.ciphertext);
    wrapped.tag = std::move(sealed.tag);
  });
  return wrapped;
}

SecretBytes TokenVault::unwrap_with(const VaultKey& key, const WrappedCek& wrapped,
                                    std::size_t cek_size) {
  if (key.info.purpose != Purpose::kStorage) throw_misfit(key, "unwrap");
  require_cek_size(cek_size);
  const bool well_formed = wrapped.iv.size() == kGcmIv && wrapped.tag.size() == 16 &&
                           wrapped.ciphertext.size() == cek_size;
  if (!well_formed) throw_input_error();
  return at_boundary(key.info.kid.text(), [&] {
    SecretBytes rejected = random_secret(cek_size);
    try {
      auto cek = token_->run([&](pkcs11::Session& session) {
        return pkcs11::gcm_decrypt(session, id_of(key.cka_id), wrapped.iv, {}, wrapped.ciphertext,
                                   wrapped.tag);
      });
      return cek ? std::move(*cek) : std::move(rejected);
    } catch (const pkcs11::Error& error) {
      if (!blames_input(error)) throw;
      return rejected;
    }
  });
}

}  // namespace keyagent::vault
