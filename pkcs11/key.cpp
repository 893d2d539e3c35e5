// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/key.h"

#include "pkcs11/error.h"
#include "pkcs11/key_template.h"
#include "pkcs11/object.h"

namespace keyagent::pkcs11 {
namespace {

void require_supported(const Profile& profile, KeyKind kind) {
  if (profile.algorithms.contains(kind_name(kind))) return;
  throw Error(
      Error::Kind::kUnsupported,
      "profile " + profile.name + ": this token cannot create a key of type " + kind_name(kind));
}

CK_MECHANISM_TYPE generation_mechanism(KeyKind kind) {
  constexpr CK_MECHANISM_TYPE kEdwardsPairGen =
      0x1055;  // CKM_EC_EDWARDS_KEY_PAIR_GEN, PKCS#11 v3.0
  if (modulus_bits(kind) != 0) return CKM_RSA_PKCS_KEY_PAIR_GEN;
  return kind == KeyKind::kEd25519 ? kEdwardsPairGen : CKM_EC_KEY_PAIR_GEN;
}

constexpr int kGenerateAttempts = 3;

void generate_secret(Session& session, const KeySpec& spec) {
  Attributes wanted;
  secret_template(wanted, spec, session.profile());
  wanted.add_ulong(CKA_VALUE_LEN, 32);
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE handle = 0;
  check(session.c().C_GenerateKey(session.handle(), &mechanism, wanted.data(), wanted.size(),
                                  &handle),
        "C_GenerateKey");
}

void generate_pair(Session& session, const KeySpec& spec) {
  Attributes public_part, private_part;
  public_template(public_part, spec, session.profile());
  private_template(private_part, spec, session.profile());
  CK_MECHANISM mechanism{generation_mechanism(spec.kind), nullptr, 0};
  CK_OBJECT_HANDLE public_key = 0, private_key = 0;
  check(session.c().C_GenerateKeyPair(session.handle(), &mechanism, public_part.data(),
                                      public_part.size(), private_part.data(), private_part.size(),
                                      &public_key, &private_key),
        "C_GenerateKeyPair");
}

}  // namespace

Bytes generate(Session& session, const KeySpec& spec) {
  require_supported(session.profile(), spec.kind);
  const bool secret = spec.kind == KeyKind::kAes256;
  for (int attempt = 1;; ++attempt) {
    try {
      secret ? generate_secret(session, spec) : generate_pair(session, spec);
      return secret ? Bytes{} : read_public_key(session, spec.cka_id);
    } catch (const Error& error) {
      // SoftHSM refuses a good template when another session searches at that moment: it reads the
      // object back while it is being written. A real refusal comes again, and as fast.
      if (error.rv() != CKR_TEMPLATE_INCONSISTENT || attempt == kGenerateAttempts) throw;
      destroy(session, spec.cka_id);
    }
  }
}

bool destroy(Session& session, const Bytes& cka_id) {
  // The private half first: a crash in between leaves only the harmless public key. By class, not
  // by attribute: the object must be removed even if no attribute can be read.
  for (const CK_OBJECT_CLASS object_class : {CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKO_PUBLIC_KEY}) {
    const KeyId id{cka_id, object_class};
    for (const CK_OBJECT_HANDLE handle : find_handles(session, id)) {
      check_expecting(session.c().C_DestroyObject(session.handle(), handle), "C_DestroyObject",
                      {CKR_OBJECT_HANDLE_INVALID});
    }
    session.forget(id);
  }
  return find_objects(session, cka_id).empty();
}

}  // namespace keyagent::pkcs11
