// SPDX-License-Identifier: Apache-2.0
// Keys under keys: authenticated wrapping only (AES-KW and KWP of RFC 3394 and 5649, RSA-OAEP).

#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key.h"
#include "pkcs11/key_template.h"

namespace keyagent::pkcs11 {
namespace {

constexpr std::size_t kLargestWrapped = 8192;

// A mechanism and the parameters that it points to.
struct Wrapping {
  CK_MECHANISM mechanism{};
  CK_RSA_PKCS_OAEP_PARAMS oaep{};
};

void prepare(Wrapping& out, WrapScheme scheme, const Profile& profile) {
  switch (scheme) {
    case WrapScheme::kAesKw:
      if (!profile.aes_key_wrap)
        throw Error(Error::Kind::kUnsupported, "this token has no CKM_AES_KEY_WRAP");
      out.mechanism = {CKM_AES_KEY_WRAP, nullptr, 0};
      return;
    case WrapScheme::kAesKwp:
      if (profile.aes_kwp_mechanism == 0)
        throw Error(Error::Kind::kUnsupported, "this token has no CKM_AES_KEY_WRAP_KWP");
      out.mechanism = {profile.aes_kwp_mechanism, nullptr, 0};
      return;
    case WrapScheme::kRsaOaepSha1:
    case WrapScheme::kRsaOaepSha256:
      break;
  }
  const bool sha1 = scheme == WrapScheme::kRsaOaepSha1;
  const OaepPath path = sha1 ? profile.oaep_sha1 : profile.oaep_sha256;
  if (path != OaepPath::kNative) {
    // Padding removed in the agent's memory would put the key in the clear there.
    throw Error(Error::Kind::kUnsupported, std::string("this token has no native RSA-OAEP with ") +
                                               (sha1 ? "SHA-1" : "SHA-256"));
  }
  out.oaep = {sha1 ? CKM_SHA_1 : CKM_SHA256, sha1 ? CKG_MGF1_SHA1 : CKG_MGF1_SHA256,
              CKZ_DATA_SPECIFIED, nullptr, 0};
  out.mechanism = {CKM_RSA_PKCS_OAEP, &out.oaep, sizeof out.oaep};
}

void add_key_type(Attributes& wanted, KeyKind kind) {
  if (kind == KeyKind::kAes256) {
    wanted.add_ulong(CKA_CLASS, CKO_SECRET_KEY).add_ulong(CKA_KEY_TYPE, CKK_AES);
  } else {
    wanted.add_ulong(CKA_CLASS, CKO_PRIVATE_KEY)
        .add_ulong(CKA_KEY_TYPE, modulus_bits(kind) != 0     ? CKK_RSA
                                 : kind == KeyKind::kEd25519 ? CKK_EC_EDWARDS
                                                             : CKK_EC);
  }
}

}  // namespace

Bytes wrap(Session& session, const KeyId& wrapping, WrapScheme scheme, const KeyId& target) {
  Wrapping by;
  prepare(by, scheme, session.profile());
  Bytes out(kLargestWrapped);
  CK_ULONG size = out.size();
  check(session.c().C_WrapKey(session.handle(), &by.mechanism, session.key(wrapping),
                              session.key(target), out.data(), &size),
        "C_WrapKey");
  if (size > out.size())
    throw Error(Error::Kind::kOutput,
                "C_WrapKey: the token claims more bytes than it was given room for");
  out.resize(size);
  return out;
}

void unwrap(Session& session, const KeyId& unwrapping, WrapScheme scheme, ByteView wrapped,
            const KeySpec& spec) {
  Wrapping by;
  prepare(by, scheme, session.profile());
  Profile profile = session.profile();
  profile.modifiable_false = profile.modifiable_false && profile.unwrap_modifiable_false;
  // A key that was brought in does not leave again, whatever is asked (X16b, X16f: the default of
  // CKA_EXTRACTABLE for an unwrapped key is TRUE in the standard).
  KeySpec kept = spec;
  kept.extractable = false;
  Attributes forced;
  add_key_type(forced, spec.kind);
  if (spec.kind == KeyKind::kAes256) {
    secret_template(forced, kept, profile);
  } else {
    private_template(forced, kept, profile);
  }
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_UnwrapKey(session.handle(), &by.mechanism, session.key(unwrapping),
                                const_cast<CK_BYTE*>(wrapped.data()),
                                static_cast<CK_ULONG>(wrapped.size()), forced.data(), forced.size(),
                                &handle),
        "C_UnwrapKey");
}

}  // namespace keyagent::pkcs11
