// SPDX-License-Identifier: Apache-2.0
// What recovers secrets: OAEP, ECDH, AES-GCM.

#include <botan/system_rng.h>

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"
#include "pkcs11/oaep.h"

namespace keyagent::pkcs11 {
namespace {

constexpr std::size_t kLargestModulus = 512;
constexpr CK_ULONG kTagBytes = 16;

SecretBytes random_bytes(std::size_t size) {
  SecretBytes bytes(size);
  Botan::system_rng().randomize(bytes.data(), bytes.size());
  return bytes;
}

// C_DecryptInit and C_Decrypt. The plaintext, at most `limit` bytes.
SecretBytes call_decrypt(Session& session, const KeyId& id, CK_MECHANISM& mechanism, ByteView data,
                         std::size_t limit) {
  check(session.c().C_DecryptInit(session.handle(), &mechanism, session.key(id)), "C_DecryptInit");
  SecretBytes plaintext(limit);
  CK_ULONG size = limit;
  check(session.c().C_Decrypt(session.handle(), const_cast<CK_BYTE*>(data.data()),
                              static_cast<CK_ULONG>(data.size()), plaintext.data(), &size),
        "C_Decrypt");
  if (size > limit)
    throw Error(Error::Kind::kOutput,
                "C_Decrypt: the token reports more bytes than the buffer holds");
  plaintext.resize(size);
  return plaintext;
}

SecretBytes raw_rsa(Session& session, const Bytes& cka_id, ByteView ciphertext) {
  CK_MECHANISM mechanism{CKM_RSA_X_509, nullptr, 0};
  SecretBytes block =
      call_decrypt(session, {cka_id, CKO_PRIVATE_KEY}, mechanism, ciphertext, ciphertext.size());
  // Some tokens strip leading zeros; the padding removal must not see by how many (Manger 2001).
  if (block.size() < ciphertext.size())
    block.insert(block.begin(), ciphertext.size() - block.size(), 0);
  return block;
}

SecretBytes native_oaep(Session& session, const Bytes& cka_id, Hash hash, ByteView ciphertext) {
  CK_RSA_PKCS_OAEP_PARAMS parameters{};
  parameters.hashAlg = hash == Hash::kSha1 ? CKM_SHA_1 : CKM_SHA256;
  parameters.mgf = hash == Hash::kSha1 ? CKG_MGF1_SHA1 : CKG_MGF1_SHA256;
  parameters.source = CKZ_DATA_SPECIFIED;
  CK_MECHANISM mechanism{CKM_RSA_PKCS_OAEP, &parameters, sizeof parameters};
  return call_decrypt(session, {cka_id, CKO_PRIVATE_KEY}, mechanism, ciphertext, ciphertext.size());
}

// The profile's way to OAEP with this hash; never kUnsupported.
OaepPath path_of(Session& session, Hash hash, ByteView ciphertext) {
  if (ciphertext.size() > kLargestModulus) check(CKR_ENCRYPTED_DATA_LEN_RANGE, "oaep_decrypt");
  const OaepPath path =
      hash == Hash::kSha1 ? session.profile().oaep_sha1 : session.profile().oaep_sha256;
  if (path != OaepPath::kUnsupported) return path;
  throw Error(Error::Kind::kUnsupported, std::string("profile ") + session.profile().name +
                                             ": this token has no RSA-OAEP with " +
                                             (hash == Hash::kSha1 ? "SHA-1" : "SHA-256"));
}

}  // namespace

SecretBytes oaep_decrypt(Session& session, const Bytes& cka_id, Hash hash, ByteView ciphertext,
                         std::size_t size) {
  if (path_of(session, hash, ciphertext) == OaepPath::kRawInToken)
    return oaep_decode(hash, raw_rsa(session, cka_id, ciphertext), size).message;
  SecretBytes rejected = random_bytes(size);
  SecretBytes message = native_oaep(session, cka_id, hash, ciphertext);
  return message.size() == size ? message : rejected;
}

std::optional<SecretBytes> oaep_decrypt(Session& session, const Bytes& cka_id, Hash hash,
                                        ByteView ciphertext) {
  if (path_of(session, hash, ciphertext) == OaepPath::kRawInToken)
    return oaep_decode(hash, raw_rsa(session, cka_id, ciphertext));
  try {
    return native_oaep(session, cka_id, hash, ciphertext);
  } catch (const Error& error) {
    if (error.rv_class() == RvClass::kInput) return std::nullopt;
    throw;
  }
}

SecretBytes ecdh(Session& session, const Bytes& cka_id, KeyKind kind, ByteView peer_point) {
  if (!session.profile().ecdh) {
    throw Error(Error::Kind::kUnsupported,
                "profile " + session.profile().name + ": this token has no CKM_ECDH1_DERIVE");
  }
  const CK_ULONG size = field_size(kind);
  // By position: p11-kit 0.24 and 0.25 name the fields differently.
  CK_ECDH1_DERIVE_PARAMS parameters{CKD_NULL, 0, nullptr, peer_point.size(),
                                    const_cast<CK_BYTE*>(peer_point.data())};
  CK_MECHANISM mechanism{CKM_ECDH1_DERIVE, &parameters, sizeof parameters};
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, CKO_SECRET_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_GENERIC_SECRET)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_SENSITIVE, false)
      .add_bool(CKA_EXTRACTABLE, true)
      .add_ulong(CKA_VALUE_LEN, size);
  CK_OBJECT_HANDLE secret = 0;
  check(
      session.c().C_DeriveKey(session.handle(), &mechanism, session.key({cka_id, CKO_PRIVATE_KEY}),
                              wanted.data(), wanted.size(), &secret),
      "C_DeriveKey");
  SecretBytes value(size);
  CK_ATTRIBUTE attribute{CKA_VALUE, value.data(), size};
  const CK_RV rv = session.c().C_GetAttributeValue(session.handle(), secret, &attribute, 1);
  session.c().C_DestroyObject(session.handle(), secret);
  check(rv, "C_GetAttributeValue");
  if (attribute.ulValueLen != size)
    throw Error(Error::Kind::kOutput, "C_DeriveKey: the shared secret has a wrong length");
  return value;
}

Gcm gcm_encrypt(Session& session, const Bytes& cka_id, ByteView iv, ByteView aad,
                const SecretBytes& plaintext) {
  if (!session.profile().aes_gcm)
    throw Error(Error::Kind::kUnsupported, "this token has no CKM_AES_GCM");
  CK_GCM_PARAMS parameters{const_cast<CK_BYTE*>(iv.data()),  iv.size(),  iv.size() * 8,
                           const_cast<CK_BYTE*>(aad.data()), aad.size(), kTagBytes * 8};
  CK_MECHANISM mechanism{CKM_AES_GCM, &parameters, sizeof parameters};
  check(session.c().C_EncryptInit(session.handle(), &mechanism,
                                  session.key({cka_id, CKO_SECRET_KEY})),
        "C_EncryptInit");
  Bytes out(plaintext.size() + kTagBytes);
  CK_ULONG size = out.size();
  check(session.c().C_Encrypt(session.handle(), const_cast<CK_BYTE*>(plaintext.data()),
                              plaintext.size(), out.data(), &size),
        "C_Encrypt");
  if (size != out.size())
    throw Error(Error::Kind::kOutput, "C_Encrypt: AES-GCM returned a wrong length");
  const auto tag_begin = out.end() - static_cast<std::ptrdiff_t>(kTagBytes);
  return {Bytes(out.begin(), tag_begin), Bytes(tag_begin, out.end())};
}

std::optional<SecretBytes> gcm_decrypt(Session& session, const Bytes& cka_id, ByteView iv,
                                       ByteView aad, ByteView ciphertext, ByteView tag) {
  if (!session.profile().aes_gcm)
    throw Error(Error::Kind::kUnsupported, "this token has no CKM_AES_GCM");
  CK_GCM_PARAMS parameters{const_cast<CK_BYTE*>(iv.data()),  iv.size(),  iv.size() * 8,
                           const_cast<CK_BYTE*>(aad.data()), aad.size(), kTagBytes * 8};
  CK_MECHANISM mechanism{CKM_AES_GCM, &parameters, sizeof parameters};
  Bytes sealed(ciphertext.begin(), ciphertext.end());
  sealed.insert(sealed.end(), tag.begin(), tag.end());
  try {
    return call_decrypt(session, {cka_id, CKO_SECRET_KEY}, mechanism, sealed, sealed.size());
  } catch (const Error& error) {
    if (error.rv_class() == RvClass::kInput) return std::nullopt;
    throw;
  }
}

}  // namespace keyagent::pkcs11
