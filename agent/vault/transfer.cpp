// SPDX-License-Identifier: Apache-2.0
// Storage keys that leave a token wrapped for another one, and come in so.

#include "pkcs11/transfer.h"

#include "agent/vault/boundary.h"
#include "agent/vault/mechanisms.h"
#include "agent/vault/token_vault.h"
#include "pkcs11/error.h"

namespace keyagent::vault {
namespace {

[[noreturn]] void throw_not_whole(const VaultKey& under) {
  throw Error(Code::kIntegrity,
              "the package does not unwrap under key " + under.info.name + " of this token",
              under.info.kid.text());
}

void require_unwraps(const VaultKey& key) {
  if (key.info.purpose == Purpose::kExchange && is_rsa(key.info.algorithm)) return;
  throw Error(Code::kUnsupported, "key " + key.info.name + " is not an RSA exchange key",
              key.info.kid.text());
}

pkcs11::KeyId private_id(const VaultKey& key) {
  return {id_of(key.cka_id), CKO_PRIVATE_KEY};
}

}  // namespace

std::string TokenVault::missing_for_transfer(OaepHash oaep) const {
  return pkcs11::missing_for_transfer(token_->profile(), hash_of(oaep));
}

Bytes TokenVault::wrap_for(const Kid& kid, ByteView recipient_spki, OaepHash hash) {
  const auto key = find_adopted(kid);
  if (key->birth != Birth::kExchangeable) {
    throw Error(Code::kKeyState,
                "key " + key->info.name +
                    " is not exchangeable and never leaves its token; create exchangeable keys "
                    "with --exchangeable",
                kid.text());
  }
  return at_boundary(kid.text(), [&] {
    return token_->run([&](pkcs11::Session& session) {
      return pkcs11::wrap_for(session, recipient_spki, hash_of(hash),
                              {id_of(key->cka_id), CKO_SECRET_KEY});
    });
  });
}

void TokenVault::import(const CkaId& cka_id, const std::string& label,
                        const Transferred& transferred) {
  const auto under = find_adopted(transferred.unwrapping);
  require_unwraps(*under);
  pkcs11::KeySpec spec;
  spec.kind = pkcs11::KeyKind::kAes256;
  spec.usage = pkcs11::Usage::kEncrypt;
  spec.cka_id = id_of(cka_id);
  spec.label = label;
  at_boundary(under->info.kid.text(), [&] {
    try {
      token_->run(
          [&](pkcs11::Session& session) {
            pkcs11::unwrap_from(
                session, private_id(*under), kind_of(under->info.algorithm),
                hash_of(transferred.oaep), transferred.wrapped, spec, pkcs11::Persistence::kToken,
                transferred.oaep_alone ? pkcs11::Layout::kOaepAlone : pkcs11::Layout::kOneTimeKey);
          },
          true);
    } catch (const pkcs11::Error& error) {
      if (!blames_input(error)) throw;
      throw_not_whole(*under);
    }
  });
  VaultKey key;
  key.info.algorithm = KeyAlgorithm::kAes256;
  key.info.purpose = Purpose::kStorage;
  key.cka_id = cka_id;
  key.birth = Birth::kImported;
  require_custody(key);
}

bool TokenVault::holds_same(const Kid& known, const Transferred& transferred) {
  const auto here = find_adopted(known);
  const auto under = find_adopted(transferred.unwrapping);
  require_unwraps(*under);
  return at_boundary(under->info.kid.text(), [&] {
    try {
      return token_->run([&](pkcs11::Session& session) {
        return pkcs11::holds_same(session, private_id(*under), kind_of(under->info.algorithm),
                                  hash_of(transferred.oaep), transferred.wrapped,
                                  id_of(here->cka_id));
      });
    } catch (const pkcs11::Error& error) {
      if (!blames_input(error)) throw;
      throw_not_whole(*under);
    }
  });
}

}  // namespace keyagent::vault
