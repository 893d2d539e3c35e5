// SPDX-License-Identifier: Apache-2.0
#pragma once
// KeyOps on a PKCS#11 token, and the only place where a CK_RV becomes an agent's error.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/key_ops.h"
#include "agent/base/mutex.h"
#include "agent/vault/translate.h"
#include "pkcs11/error.h"
#include "pkcs11/object.h"
#include "pkcs11/token.h"

namespace keyagent::vault {

// How a key came into the token; decides which attributes are expected.
enum class Birth {
  kHere,          // made in the token, never to leave
  kExchangeable,  // made in the token, to leave wrapped for another one and in no other way
  kImported       // unwrapped from another token, never to leave
};

// A key of the token that the ledger attests.
struct VaultKey {
  PublicKeyInfo info;
  CkaId cka_id;
  Birth birth = Birth::kHere;
};

struct GenerateRequest {
  CkaId cka_id;  // journaled by the caller before this call
  std::string label;
  KeyAlgorithm algorithm = KeyAlgorithm::kEcP256;
  Purpose purpose = Purpose::kSign;
  bool exchangeable = false;  // storage keys only
};

// A storage key that another token wrapped for the RSA exchange key `unwrapping`, in the layout of
// CKM_RSA_AES_KEY_WRAP (pkcs11/transfer.h), or `oaep_alone`, without a one-time key.
struct Transferred {
  Kid unwrapping;
  OaepHash oaep = OaepHash::kSha1;
  Bytes wrapped;
  bool oaep_alone = false;
};

// What the token holds under one CKA_ID.
struct TokenObject {
  Bytes cka_id;
  std::string label;
  bool has_public = false, has_private = false, has_secret = false;
  int duplicates = 0;  // objects beyond one of a class
};

// Thread-safe. Knows exactly the keys that were adopted; holds no state of theirs.
class TokenVault final : public KeyOps {
 public:
  explicit TokenVault(std::shared_ptr<pkcs11::Token> token);

  // Makes a key usable by its kid. Throws Error{kKeyLost} when the token does not hold exactly the
  // objects of such a key, Error{kIntegrity} when its public key there differs from `key.info.spki`
  // (RELIABILITY 8, 54).
  void adopt(const VaultKey& key);
  void forget(const Kid& kid);

  // Generates, reads back usage and custody attributes, and refuses (and destroys) a key that is
  // not as asked. Returns the SPKI, empty for a secret key. After any throw the caller reconciles
  // by cka_id.
  Bytes generate(const GenerateRequest& request);
  // Throws Error{kIntegrity} when the token's key is not as generate() asks for it. To be called
  // before the first use of a key whose making was interrupted: a token may hold an object that is
  // only half written, and die of its use (SoftHSM does).
  void require_custody(const VaultKey& key);
  // One real operation with the key: sign and verify, seal and open. Throws Error{kIntegrity} or a
  // token code.
  void self_test(const VaultKey& key);
  // Destroys all objects under the id and checks again through a new session. Throws
  // Error{kTokenFault} while any is left.
  void destroy(const CkaId& cka_id);

  // Keys that travel (transfer.cpp). What of it this token lacks, by the names of mechanisms;
  // empty: nothing.
  std::string missing_for_transfer(OaepHash oaep) const;
  // Wraps `kid` for the holder of `recipient_spki`. REQUIRES: the caller has verified the recipient
  // (RELIABILITY 90). Throws Error{kKeyState} for a key that was not created exchangeable.
  Bytes wrap_for(const Kid& kid, ByteView recipient_spki, OaepHash hash);
  // Imports it as a key of this token: sensitive, not extractable, with the usage of a storage key.
  // All invalid bytes return the same Error{kIntegrity} (RELIABILITY 94), and no object is left
  // behind.
  void import(const CkaId& cka_id, const std::string& label, const Transferred& transferred);
  // Is it the storage key `known`, which is here? Throws as import() does.
  bool holds_same(const Kid& known, const Transferred& transferred);

  // What is missing is looked for in a fresh run of the module; false: there was one a moment ago.
  bool look_again();
  // Throws Error{kTokenFull} when the token's files cannot be written: call it before a change is
  // journaled.
  void require_writable();
  std::vector<TokenObject> objects();
  std::optional<TokenObject> find(const CkaId& cka_id);
  // The SPKI that the token holds under the id; nullopt where there is no readable public part.
  std::optional<Bytes> read_spki(const CkaId& cka_id);
  pkcs11::Custody prove_custody(const VaultKey& key);

  // A number and a short text that live in the token: the ledger's epoch, the owner marker. nullopt
  // when never written or when the token keeps no data objects.
  std::optional<std::string> read_fact(const std::string& label);
  void write_fact(const std::string& label, const std::string& value);
  void erase_fact(const std::string& label);
  bool keeps_facts() const;

  pkcs11::Token& token() { return *token_; }

  // KeyOps
  PublicKeyInfo public_key(const Kid& kid) override;
  Bytes sign(const Kid& kid, SignatureAlgorithm algorithm, ByteView input) override;
  SecretBytes decrypt_cek(const Kid& kid, OaepHash hash, ByteView ciphertext,
                          std::size_t cek_size) override;
  std::optional<SecretBytes> decrypt(const Kid& kid, OaepHash hash, ByteView ciphertext) override;
  SecretBytes agree(const Kid& kid, ByteView peer_point) override;
  WrappedCek wrap_cek(const Kid& kid, const SecretBytes& cek) override;
  SecretBytes unwrap_cek(const Kid& kid, const WrappedCek& wrapped, std::size_t cek_size) override;

 private:
  using Adopted = std::shared_ptr<const VaultKey>;
  // Throws Error{kKeyNotPresent}.
  Adopted find_adopted(const Kid& kid) const;

  Bytes sign_with(const VaultKey& key, SignatureAlgorithm algorithm, ByteView input);
  SecretBytes decrypt_with(const VaultKey& key, OaepHash hash, ByteView ciphertext,
                           std::size_t cek_size);
  std::optional<SecretBytes> decrypt_with(const VaultKey& key, OaepHash hash, ByteView ciphertext);
  // Throws what every RSA-OAEP refuses before the token is asked.
  void require_decrypts(const VaultKey& key, ByteView ciphertext) const;
  SecretBytes agree_with(const VaultKey& key, ByteView peer_point);
  WrappedCek wrap_with(const VaultKey& key, const SecretBytes& cek);
  SecretBytes unwrap_with(const VaultKey& key, const WrappedCek& wrapped, std::size_t cek_size);
  void test_unwrap(const VaultKey& key);
  std::vector<Bytes> read_objects(const std::string& label);
  // True when a failure that the token reported so can only come from the caller's bytes.
  bool blames_input(const pkcs11::Error& error) const;

  std::shared_ptr<pkcs11::Token> token_;
  mutable SharedMutex mutex_;
  std::map<Kid, Adopted> keys_ GUARDED_BY(mutex_);
};

}  // namespace keyagent::vault
