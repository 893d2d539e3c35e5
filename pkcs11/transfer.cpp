// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/transfer.h"

#include <botan/system_rng.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key_template.h"

namespace keyagent::pkcs11 {
namespace {

constexpr CK_ULONG kKeySize = 32;            // of the key and of the one-time key
constexpr CK_ULONG kKwpSize = kKeySize + 8;  // RFC 5649 §4.1
constexpr std::size_t kSmallestModulus = 256;

Bytes random_bytes(std::size_t size) {
  Bytes bytes(size);
  Botan::system_rng().randomize(bytes.data(), bytes.size());
  return bytes;
}

// As the standard has it; p11-kit's header has the mechanism alone.
struct RsaAesKeyWrapParams {
  CK_ULONG aes_key_bits;
  CK_RSA_PKCS_OAEP_PARAMS* oaep;
};

// An object of the session that does not outlive its use.
class ScopedObject {
 public:
  ScopedObject(Session& session, CK_OBJECT_HANDLE handle) : session_(session), handle_(handle) {}
  ScopedObject(const ScopedObject&) = delete;
  ~ScopedObject() {
    // What cannot be destroyed goes with its session.
    if (session_.c().C_DestroyObject(session_.handle(), handle_) != CKR_OK)
      session_.mark_unusable();
  }
  CK_OBJECT_HANDLE handle() const { return handle_; }

 private:
  Session& session_;
  const CK_OBJECT_HANDLE handle_;
};

CK_RSA_PKCS_OAEP_PARAMS oaep_params(Hash hash) {
  const bool sha1 = hash == Hash::kSha1;
  return {sha1 ? CKM_SHA_1 : CKM_SHA256, sha1 ? CKG_MGF1_SHA1 : CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED,
          nullptr, 0};
}

void require_transfer(const Profile& profile, Hash oaep) {
  const std::string missing = missing_for_transfer(profile, oaep);
  if (missing.empty()) return;
  throw Error(Error::Kind::kUnsupported,
              "profile " + profile.name +
                  ": keys cannot be wrapped for or by this token: it lacks " + missing);
}

// The template of a single-use session key that cannot be read.
void one_time_template(Attributes& out, bool wraps) {
  out.add_bool(CKA_TOKEN, false)
      .add_bool(CKA_PRIVATE, true)
      .add_bool(CKA_SENSITIVE, true)
      .add_bool(CKA_EXTRACTABLE, wraps)
      .add_bool(CKA_WRAP, wraps)
      .add_bool(CKA_UNWRAP, !wraps)
      .add_bool(CKA_ENCRYPT, false)
      .add_bool(CKA_DECRYPT, false)
      .add_bool(CKA_SIGN, false)
      .add_bool(CKA_VERIFY, false)
      .add_bool(CKA_DERIVE, false);
}

CK_OBJECT_HANDLE make_one_time_key(Session& session) {
  Attributes wanted;
  one_time_template(wanted, true);
  wanted.add_ulong(CKA_VALUE_LEN, kKeySize);
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_GenerateKey(session.handle(), &mechanism, wanted.data(), wanted.size(),
                                  &handle),
        "C_GenerateKey");
  return handle;
}

Bytes rsa_number(EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &number) != 1)
    throw Error(Error::Kind::kUnsupported, "the recipient's key is not an RSA public key");
  Bytes out(static_cast<std::size_t>(BN_num_bytes(number)));
  BN_bn2bin(number, out.data());
  BN_free(number);
  return out;
}

struct Recipient {
  CK_OBJECT_HANDLE handle;
  std::size_t modulus;
};

// The recipient's public key as an object of the session that may only wrap.
Recipient bring_recipient(Session& session, ByteView spki) {
  const unsigned char* der = spki.data();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  if (!key) throw Error(Error::Kind::kUnsupported, "the recipient's key does not parse");
  const Bytes modulus = rsa_number(key.get(), OSSL_PKEY_PARAM_RSA_N);
  if (modulus.size() < kSmallestModulus)
    throw Error(Error::Kind::kUnsupported, "the recipient's RSA key has fewer than 2048 bits");
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, CKO_PUBLIC_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_RSA)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_PRIVATE, false)
      .add_bool(CKA_WRAP, true)
      .add_bool(CKA_ENCRYPT, false)
      .add_bool(CKA_VERIFY, false)
      .add(CKA_MODULUS, modulus)
      .add(CKA_PUBLIC_EXPONENT, rsa_number(key.get(), OSSL_PKEY_PARAM_RSA_E));
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_CreateObject(session.handle(), wanted.data(), wanted.size(), &handle),
        "C_CreateObject");
  return {handle, modulus.size()};
}

// Exactly `size` bytes, or Error{kOutput}.
Bytes wrap_exactly(Session& session, CK_MECHANISM mechanism, CK_OBJECT_HANDLE under,
                   CK_OBJECT_HANDLE target, std::size_t size) {
  Bytes out(size + 64);
  CK_ULONG got = out.size();
  check(session.c().C_WrapKey(session.handle(), &mechanism, under, target, out.data(), &got),
        "C_WrapKey");
  if (got != size) throw Error(Error::Kind::kOutput, "C_WrapKey: the result has an invalid size");
  out.resize(size);
  return out;
}

CK_OBJECT_HANDLE unwrap_by(Session& session, CK_MECHANISM mechanism, CK_OBJECT_HANDLE under,
                           ByteView wrapped, Attributes& forced) {
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_UnwrapKey(
            session.handle(), &mechanism, under, const_cast<CK_BYTE*>(wrapped.data()),
            static_cast<CK_ULONG>(wrapped.size()), forced.data(), forced.size(), &handle),
        "C_UnwrapKey");
  return handle;
}

[[noreturn]] void throw_wrong_size() {
  throw Error(Error::Kind::kRv, "C_UnwrapKey: the key is not an AES-256 key",
              CKR_WRAPPED_KEY_LEN_RANGE);
}

// A shorter key would be weaker than its type states (RELIABILITY 93). SoftHSM reports the length
// of an unwrapped key as 0.
void require_size(Session& session, CK_OBJECT_HANDLE key) {
  CK_ULONG size = 0;
  CK_ATTRIBUTE attribute{CKA_VALUE_LEN, &size, sizeof size};
  check(session.c().C_GetAttributeValue(session.handle(), key, &attribute, 1),
        "C_GetAttributeValue");
  if (size != 0 && size != kKeySize) throw_wrong_size();
}

CK_OBJECT_HANDLE unwrap_one_time_key(Session& session, CK_OBJECT_HANDLE under, Hash oaep,
                                     ByteView wrapped) {
  Attributes forced;
  forced.add_ulong(CKA_CLASS, CKO_SECRET_KEY).add_ulong(CKA_KEY_TYPE, CKK_AES);
  one_time_template(forced, false);
  auto params = oaep_params(oaep);
  return unwrap_by(session, {CKM_RSA_PKCS_OAEP, &params, sizeof params}, under, wrapped, forced);
}

CK_OBJECT_HANDLE unwrap_here(Session& session, const KeyId& unwrapping, std::size_t modulus,
                             Hash oaep, ByteView wrapped, Attributes& forced) {
  const CK_OBJECT_HANDLE under = session.key(unwrapping);
  auto params = oaep_params(oaep);
  if (wrapped.size() == modulus) {  // Layout::kOaepAlone
    return unwrap_by(session, {CKM_RSA_PKCS_OAEP, &params, sizeof params}, under, wrapped, forced);
  }
  if (session.profile().rsa_aes_key_wrap) {
    RsaAesKeyWrapParams both{kKeySize * 8, &params};
    return unwrap_by(session, {CKM_RSA_AES_KEY_WRAP, &both, sizeof both}, under, wrapped, forced);
  }
  const ScopedObject one_time(session,
                              unwrap_one_time_key(session, under, oaep, wrapped.first(modulus)));
  require_size(session, one_time.handle());
  return unwrap_by(session, {session.profile().aes_kwp_mechanism, nullptr, 0}, one_time.handle(),
                   wrapped.subspan(modulus), forced);
}

// One usage, and never out again whatever is asked (X16b, X16f). `lasting`: into the token at once.
void transferred_template(Attributes& out, const KeySpec& spec, const Profile& profile,
                          bool lasting) {
  const bool encrypts = spec.usage == Usage::kEncrypt;
  out.add_ulong(CKA_CLASS, CKO_SECRET_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_AES)
      .add_bool(CKA_TOKEN, lasting)
      .add_bool(CKA_PRIVATE, true)
      .add_bool(CKA_SENSITIVE, true)
      .add_bool(CKA_EXTRACTABLE, false)
      .add_bool(CKA_ENCRYPT, encrypts)
      .add_bool(CKA_DECRYPT, encrypts)
      .add_bool(CKA_WRAP, false)
      .add_bool(CKA_UNWRAP, false)
      .add_bool(CKA_SIGN, false)
      .add_bool(CKA_VERIFY, false)
      .add_bool(CKA_DERIVE, false);
  if (!lasting) return;
  out.add(CKA_ID, spec.cka_id).add_text(CKA_LABEL, spec.label);
  if (profile.modifiable_false) out.add_bool(CKA_MODIFIABLE, false);
  if (profile.copyable_false) out.add_bool(CKA_COPYABLE, false);
}

// Where C_UnwrapKey makes nothing that is not modifiable (SoftHSM), the lasting key is a copy of
// one of the session: write-once all the same. (CKA_COPYABLE it does not take there; it copies
// nothing that is not modifiable.)
bool settles_by_copy(const Profile& profile) {
  return profile.modifiable_false && !profile.unwrap_modifiable_false;
}

CK_OBJECT_HANDLE settle(Session& session, CK_OBJECT_HANDLE key, const KeySpec& spec) {
  Attributes lasting;
  lasting.add_bool(CKA_TOKEN, true)
      .add(CKA_ID, spec.cka_id)
      .add_text(CKA_LABEL, spec.label)
      .add_bool(CKA_MODIFIABLE, false);
  const MutexLock searching(session.searching());
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_CopyObject(session.handle(), key, lasting.data(), lasting.size(), &handle),
        "C_CopyObject");
  return handle;
}

Bytes encrypt_under(Session& session, CK_OBJECT_HANDLE key, Bytes iv, Bytes text) {
  CK_GCM_PARAMS parameters{iv.data(), iv.size(), iv.size() * 8, nullptr, 0, 128};
  CK_MECHANISM mechanism{CKM_AES_GCM, &parameters, sizeof parameters};
  check(session.c().C_EncryptInit(session.handle(), &mechanism, key), "C_EncryptInit");
  Bytes out(text.size() + 64);
  CK_ULONG size = out.size();
  check(session.c().C_Encrypt(session.handle(), text.data(), text.size(), out.data(), &size),
        "C_Encrypt");
  out.resize(std::min<std::size_t>(size, out.size()));
  return out;
}

// The layout has room for 25 to 32 bytes, and AES takes only 32 of them: a key that encrypts is
// whole.
void require_whole_key(Session& session, CK_OBJECT_HANDLE key) {
  require_size(session, key);
  try {
    encrypt_under(session, key, random_bytes(12), random_bytes(32));
  } catch (const Error& error) {
    const bool of_the_key = error.rv_class() == RvClass::kKey || error.rv_class() == RvClass::kCall;
    if (of_the_key) throw_wrong_size();
    throw;
  }
}

}  // namespace

std::string missing_for_transfer(const Profile& profile, Hash oaep) {
  std::string missing;
  const auto lacks = [&](bool there, const char* what) {
    if (!there) missing.append(missing.empty() ? "" : ", ").append(what);
  };
  lacks(profile.algorithms.contains(kind_name(KeyKind::kAes256)), "CKM_AES_KEY_GEN");
  const OaepPath path = oaep == Hash::kSha1 ? profile.oaep_sha1 : profile.oaep_sha256;
  // Padding removed in the agent's memory would put the one-time key in the clear there.
  lacks(path == OaepPath::kNative,
        oaep == Hash::kSha1 ? "CKM_RSA_PKCS_OAEP (SHA-1)" : "CKM_RSA_PKCS_OAEP (SHA-256)");
  lacks(profile.rsa_aes_key_wrap || profile.aes_kwp_mechanism != 0, "CKM_AES_KEY_WRAP_KWP");
  return missing;
}

Bytes wrap_for(Session& session, ByteView spki, Hash oaep, const KeyId& target) {
  require_transfer(session.profile(), oaep);
  const CK_OBJECT_HANDLE key = session.key(target);
  const Recipient recipient = bring_recipient(session, spki);
  const ScopedObject wrapping(session, recipient.handle);
  auto params = oaep_params(oaep);
  if (session.profile().rsa_aes_key_wrap) {
    RsaAesKeyWrapParams both{kKeySize * 8, &params};
    return wrap_exactly(session, {CKM_RSA_AES_KEY_WRAP, &both, sizeof both}, wrapping.handle(), key,
                        recipient.modulus + kKwpSize);
  }
  const ScopedObject one_time(session, make_one_time_key(session));
  Bytes out = wrap_exactly(session, {CKM_RSA_PKCS_OAEP, &params, sizeof params}, wrapping.handle(),
                           one_time.handle(), recipient.modulus);
  const Bytes inner = wrap_exactly(session, {session.profile().aes_kwp_mechanism, nullptr, 0},
                                   one_time.handle(), key, kKwpSize);
  out.insert(out.end(), inner.begin(), inner.end());
  return out;
}

CK_OBJECT_HANDLE unwrap_from(Session& session, const KeyId& unwrapping, KeyKind pair, Hash oaep,
                             ByteView wrapped, const KeySpec& spec, Persistence stay,
                             Layout layout) {
  require_transfer(session.profile(), oaep);
  const std::size_t modulus = modulus_bits(pair) / 8;
  const std::size_t expected = modulus + (layout == Layout::kOneTimeKey ? kKwpSize : 0);
  if (modulus == 0 || wrapped.size() != expected)
    throw Error(Error::Kind::kRv, "C_UnwrapKey: the size does not match this layout",
                CKR_WRAPPED_KEY_LEN_RANGE);
  const bool copied = stay == Persistence::kToken && settles_by_copy(session.profile());
  Attributes forced;
  transferred_template(forced, spec, session.profile(), stay == Persistence::kToken && !copied);
  const CK_OBJECT_HANDLE key = unwrap_here(session, unwrapping, modulus, oaep, wrapped, forced);
  if (copied) {
    const ScopedObject here(session, key);
    require_whole_key(session, key);
    return settle(session, key, spec);
  }
  try {
    require_whole_key(session, key);
  } catch (...) {
    const ScopedObject gone(session, key);
    throw;
  }
  return key;
}

bool holds_same(Session& session, const KeyId& unwrapping, KeyKind pair, Hash oaep,
                ByteView wrapped, const Bytes& known) {
  KeySpec spec;
  spec.kind = KeyKind::kAes256;
  spec.usage = Usage::kEncrypt;
  const ScopedObject other(
      session, unwrap_from(session, unwrapping, pair, oaep, wrapped, spec, Persistence::kSession));
  // One text under one IV, so that nothing is learned of a key by its using an IV twice.
  const Bytes iv = random_bytes(12), text = random_bytes(32);
  return encrypt_under(session, other.handle(), iv, text) ==
         encrypt_under(session, session.key({known, CKO_SECRET_KEY}), iv, text);
}

}  // namespace keyagent::pkcs11
