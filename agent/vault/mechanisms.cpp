// SPDX-License-Identifier: Apache-2.0
#include "agent/vault/mechanisms.h"

#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include <map>
#include <memory>
#include <utility>

namespace keyagent::vault {

pkcs11::KeyKind kind_of(KeyAlgorithm algorithm) {
  switch (algorithm) {
    case KeyAlgorithm::kRsa2048:
      return pkcs11::KeyKind::kRsa2048;
    case KeyAlgorithm::kRsa3072:
      return pkcs11::KeyKind::kRsa3072;
    case KeyAlgorithm::kRsa4096:
      return pkcs11::KeyKind::kRsa4096;
    case KeyAlgorithm::kEcP256:
      return pkcs11::KeyKind::kEcP256;
    case KeyAlgorithm::kEcP384:
      return pkcs11::KeyKind::kEcP384;
    case KeyAlgorithm::kEd25519:
      return pkcs11::KeyKind::kEd25519;
    case KeyAlgorithm::kAes256:
      break;
  }
  return pkcs11::KeyKind::kAes256;
}

pkcs11::Usage usage_of(Purpose purpose, KeyAlgorithm algorithm) {
  const bool rsa = is_rsa(algorithm);
  switch (purpose) {
    case Purpose::kTransport:
      return rsa ? pkcs11::Usage::kDecrypt : pkcs11::Usage::kDerive;
    case Purpose::kExchange:
      return rsa ? pkcs11::Usage::kUnwrap : pkcs11::Usage::kDerive;
    case Purpose::kStorage:
      return pkcs11::Usage::kEncrypt;
    case Purpose::kAuth:
    case Purpose::kSign:
    case Purpose::kAudit:
    case Purpose::kIdentity:
    case Purpose::kCa:
    case Purpose::kConfirm:
      break;
  }
  return pkcs11::Usage::kSign;
}

pkcs11::SignScheme scheme_of(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::kRs256:
    case SignatureAlgorithm::kRs384:
    case SignatureAlgorithm::kRs512:
      return pkcs11::SignScheme::kPkcs1;
    case SignatureAlgorithm::kPs256:
    case SignatureAlgorithm::kPs384:
    case SignatureAlgorithm::kPs512:
      return pkcs11::SignScheme::kPss;
    case SignatureAlgorithm::kEs256:
    case SignatureAlgorithm::kEs384:
      return pkcs11::SignScheme::kEcdsa;
    case SignatureAlgorithm::kEdDsa:
      break;
  }
  return pkcs11::SignScheme::kEdDsa;
}

pkcs11::Hash hash_of(SignatureAlgorithm algorithm) {
  switch (digest_of(algorithm)) {
    case DigestAlgorithm::kSha256:
      return pkcs11::Hash::kSha256;
    case DigestAlgorithm::kSha384:
      return pkcs11::Hash::kSha384;
    case DigestAlgorithm::kSha512:
      return pkcs11::Hash::kSha512;
    case DigestAlgorithm::kNone:
      break;
  }
  return pkcs11::Hash::kNone;
}

pkcs11::Hash hash_of(OaepHash hash) {
  return hash == OaepHash::kSha1 ? pkcs11::Hash::kSha1 : pkcs11::Hash::kSha256;
}

bool on_curve(KeyAlgorithm algorithm, ByteView point) {
  const std::size_t field = ec_field_size(algorithm);
  if (field == 0 || point.size() != 2 * field + 1 || point[0] != 0x04) return false;
  const int nid = field == 32 ? NID_X9_62_prime256v1 : NID_secp384r1;
  const std::unique_ptr<EC_GROUP, decltype(&EC_GROUP_free)> group(EC_GROUP_new_by_curve_name(nid),
                                                                  EC_GROUP_free);
  const std::unique_ptr<EC_POINT, decltype(&EC_POINT_free)> parsed(EC_POINT_new(group.get()),
                                                                   EC_POINT_free);
  // EC_POINT_oct2point() refuses what is not on the curve (SEC 1 §2.3.4).
  return EC_POINT_oct2point(group.get(), parsed.get(), point.data(), point.size(), nullptr) == 1;
}

std::vector<TokenObject> group_by_id(const std::vector<pkcs11::ObjectInfo>& infos) {
  std::map<Bytes, TokenObject> grouped;
  for (const auto& info : infos) {
    if (info.cka_id.empty()) continue;
    bool TokenObject::*part = info.object_class == CKO_PUBLIC_KEY    ? &TokenObject::has_public
                              : info.object_class == CKO_PRIVATE_KEY ? &TokenObject::has_private
                              : info.object_class == CKO_SECRET_KEY  ? &TokenObject::has_secret
                                                                     : nullptr;
    if (part == nullptr) continue;
    TokenObject& object = grouped[info.cka_id];
    object.cka_id = info.cka_id;
    if (object.label.empty()) object.label = info.label;
    if (object.*part) ++object.duplicates;
    object.*part = true;
  }
  std::vector<TokenObject> objects;
  objects.reserve(grouped.size());
  for (auto& [id, object] : grouped) objects.push_back(std::move(object));
  return objects;
}

namespace {

// Checks the key's origin, if the token reports it truthfully.
std::string origin_fault(const pkcs11::Custody& custody, Birth birth) {
  const bool here = birth != Birth::kImported;
  if (custody.local != here) return here ? "CKA_LOCAL is not TRUE" : "CKA_LOCAL is not FALSE";
  if (here && custody.always_sensitive != true) return "CKA_ALWAYS_SENSITIVE is not TRUE";
  if (birth == Birth::kHere && custody.never_extractable != true)
    return "CKA_NEVER_EXTRACTABLE is not TRUE";
  return {};
}

}  // namespace

std::string custody_fault(const pkcs11::Custody& custody, pkcs11::Usage usage,
                          const pkcs11::Profile& profile, Birth birth) {
  const bool leaves = birth == Birth::kExchangeable;
  if (custody.sensitive != true) return "CKA_SENSITIVE is not TRUE";
  if (custody.extractable != leaves)
    return leaves ? "CKA_EXTRACTABLE is not TRUE" : "CKA_EXTRACTABLE is not FALSE";
  if (profile.always_sensitive) {
    if (auto fault = origin_fault(custody, birth); !fault.empty()) return fault;
  }
  if (!custody.read_refused) return "its value could be read";
  if (leaves && !custody.copy_refused) return "it could be copied as readable";
  if (!leaves && !custody.wrap_refused) return "it could be extracted by wrapping";
  using pkcs11::Usage;
  const std::pair<const std::optional<bool>&, bool> usages[] = {
      {custody.sign, usage == Usage::kSign},
      {custody.decrypt, usage == Usage::kDecrypt || usage == Usage::kEncrypt},
      {custody.derive, usage == Usage::kDerive},
      {custody.unwrap, usage == Usage::kUnwrap || usage == Usage::kWrap},
      {custody.encrypt, usage == Usage::kEncrypt},
      {custody.wrap, usage == Usage::kWrap}};
  for (const auto& [reported, asked] : usages) {
    if (reported && *reported != asked && (asked || profile.deny_usages))
      return "its usage flags differ from the request";
  }
  return {};
}

}  // namespace keyagent::vault
