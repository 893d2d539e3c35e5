// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/key_template.h"

namespace keyagent::pkcs11 {
namespace {

// A usage that the key is to have is TRUE. Every other one is FALSE, or left out where the token
// derives them itself and takes no FALSE (profile.deny_usages).
void add_usage(Attributes& out, const Profile& profile, CK_ATTRIBUTE_TYPE type, bool wanted) {
  if (wanted || profile.deny_usages) out.add_bool(type, wanted);
}

// Exactly one usage is TRUE; AES keys that encrypt also decrypt, those that wrap also unwrap.
void add_private_usage(Attributes& out, Usage usage, const Profile& profile) {
  add_usage(out, profile, CKA_SIGN, usage == Usage::kSign);
  add_usage(out, profile, CKA_DECRYPT, usage == Usage::kDecrypt || usage == Usage::kEncrypt);
  add_usage(out, profile, CKA_UNWRAP, usage == Usage::kUnwrap || usage == Usage::kWrap);
  add_usage(out, profile, CKA_DERIVE, usage == Usage::kDerive);
}

void add_custody(Attributes& out, const KeySpec& spec, const Profile& profile) {
  const bool copies = profile.session_copies && spec.usage == Usage::kSign;
  out.add_bool(CKA_TOKEN, true)
      .add_bool(CKA_PRIVATE, true)
      .add_bool(CKA_SENSITIVE, true)
      .add_bool(CKA_EXTRACTABLE, spec.extractable)
      .add(CKA_ID, spec.cka_id)
      .add_text(CKA_LABEL, spec.label);
  if (profile.modifiable_false && !copies) out.add_bool(CKA_MODIFIABLE, false);
  if (profile.copyable_false && !copies) out.add_bool(CKA_COPYABLE, false);
}

}  // namespace

Bytes ec_params(KeyKind kind) {
  switch (kind) {
    case KeyKind::kEcP256:  // 1.2.840.10045.3.1.7
      return {0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};
    case KeyKind::kEcP384:  // 1.3.132.0.34
      return {0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22};
    case KeyKind::kEd25519:  // 1.3.101.112
      return {0x06, 0x03, 0x2B, 0x65, 0x70};
    default:
      return {};
  }
}

CK_ULONG modulus_bits(KeyKind kind) {
  switch (kind) {
    case KeyKind::kRsa2048:
      return 2048;
    case KeyKind::kRsa3072:
      return 3072;
    case KeyKind::kRsa4096:
      return 4096;
    default:
      return 0;
  }
}

std::size_t field_size(KeyKind kind) {
  switch (kind) {
    case KeyKind::kEcP256:
    case KeyKind::kEd25519:
      return 32;
    case KeyKind::kEcP384:
      return 48;
    default:
      return 0;
  }
}

const char* kind_name(KeyKind kind) {
  switch (kind) {
    case KeyKind::kRsa2048:
      return "rsa-2048";
    case KeyKind::kRsa3072:
      return "rsa-3072";
    case KeyKind::kRsa4096:
      return "rsa-4096";
    case KeyKind::kEcP256:
      return "ec-p256";
    case KeyKind::kEcP384:
      return "ec-p384";
    case KeyKind::kEd25519:
      return "ed25519";
    case KeyKind::kAes256:
      break;
  }
  return "aes-256";
}

void public_template(Attributes& out, const KeySpec& spec, const Profile& profile) {
  out.add_bool(CKA_TOKEN, true)
      .add_bool(CKA_PRIVATE, false)
      .add(CKA_ID, spec.cka_id)
      .add_text(CKA_LABEL, spec.label);
  add_usage(out, profile, CKA_VERIFY, spec.usage == Usage::kSign);
  add_usage(out, profile, CKA_ENCRYPT, spec.usage == Usage::kDecrypt);
  add_usage(out, profile, CKA_WRAP, spec.usage == Usage::kUnwrap);
  if (modulus_bits(spec.kind) != 0) {
    static constexpr std::uint8_t kExponent[] = {0x01, 0x00, 0x01};
    out.add_ulong(CKA_MODULUS_BITS, modulus_bits(spec.kind)).add(CKA_PUBLIC_EXPONENT, kExponent);
  } else {
    out.add(CKA_EC_PARAMS, ec_params(spec.kind));
  }
}

void private_template(Attributes& out, const KeySpec& spec, const Profile& profile) {
  add_custody(out, spec, profile);
  add_private_usage(out, spec.usage, profile);
}

void secret_template(Attributes& out, const KeySpec& spec, const Profile& profile) {
  add_custody(out, spec, profile);
  add_private_usage(out, spec.usage, profile);
  out.add_bool(CKA_VERIFY, false)
      .add_bool(CKA_ENCRYPT, spec.usage == Usage::kEncrypt)
      .add_bool(CKA_WRAP, spec.usage == Usage::kWrap);
}

}  // namespace keyagent::pkcs11
