// SPDX-License-Identifier: Apache-2.0
// Attacks that take keys out of tokens (Clulow, CHES 2003; Tookan A1 to A5b, CCS 2010; measured on
// SoftHSM as X16): the attacker has the PIN and a raw Cryptoki session. Each is run twice: against
// a key as careless programs make them, where it gives the key in the clear (so it is a real
// attack), and against keys as this agent makes them, where not a byte comes out.

#include <gmock/gmock.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <memory>

#include "tests/vault/raw_cryptoki.h"

namespace keyagent::vault {
namespace {

// --- the attacks: the bytes of `target` in the clear, or none
// -------------------------------------------------------------------------------------------------

// Under a key of the attacker's own, or under `wrapping`, which the token's owner made.
struct Victim {
  Handle target;
  Handle wrapping;
};

Bytes read_it(Session& s, const Victim& v) {
  return read_value(s, v.target);
}

Bytes wrap_under_a_known_secret_key(Session& s, const Victim& v) {
  const Handle known = import_aes(s, kKnown, {CKA_WRAP});
  return unwrap_in_software(kKnown, wrap_with(s, CKM_AES_KEY_WRAP, known, v.target));
}

// X16a: an RSA public key object of the attacker's, whose private half is his.
Bytes wrap_under_a_public_key_of_ones_own(Session& s, const Victim& v) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pair(EVP_RSA_gen(2048), EVP_PKEY_free);
  BIGNUM* n = nullptr;
  EVP_PKEY_get_bn_param(pair.get(), OSSL_PKEY_PARAM_RSA_N, &n);
  Bytes modulus(256);
  BN_bn2binpad(n, modulus.data(), 256);
  BN_free(n);
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, CKO_PUBLIC_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_RSA)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_WRAP, true)
      .add(CKA_MODULUS, modulus)
      .add(CKA_PUBLIC_EXPONENT, Bytes{1, 0, 1});
  Handle own = 0;
  if (s.c().C_CreateObject(s.handle(), wanted.data(), wanted.size(), &own) != CKR_OK) return {};
  const Bytes wrapped = wrap_with(s, CKM_RSA_PKCS_OAEP, own, v.target);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
      EVP_PKEY_CTX_new(pair.get(), nullptr), EVP_PKEY_CTX_free);
  Bytes out(256);
  std::size_t size = out.size();
  const bool opened =
      EVP_PKEY_decrypt_init(context.get()) == 1 &&
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1 &&
      EVP_PKEY_decrypt(context.get(), out.data(), &size, wrapped.data(), wrapped.size()) == 1;
  out.resize(opened ? size : 0);
  return out;
}

// Clulow §2.3: the same key wraps and decrypts.
Bytes wrap_then_decrypt(Session& s, const Victim& v) {
  const Bytes wrapped = wrap_with(s, CKM_AES_KEY_WRAP, v.wrapping, v.target);
  return key_unwrap(wrapped, [&](const Bytes& in) { return ecb_decrypt(s, v.wrapping, in); });
}

// X16b: unwrapped again with SENSITIVE=FALSE.
Bytes wrap_then_unwrap_readable(Session& s, const Victim& v) {
  Attributes readable;
  readable.add_ulong(CKA_CLASS, CKO_SECRET_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_AES)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_SENSITIVE, false)
      .add_bool(CKA_EXTRACTABLE, true);
  const Handle out =
      unwrap_with(s, v.wrapping, wrap_with(s, CKM_AES_KEY_WRAP, v.wrapping, v.target), readable);
  return out == 0 ? Bytes{} : read_value(s, out);
}

// X16c: a wrapping key is made to decrypt later on.
Bytes give_the_wrapping_key_decrypt(Session& s, const Victim& v) {
  set_bool(s, v.wrapping, CKA_DECRYPT, true);
  return wrap_then_decrypt(s, v);
}

// The target itself is made to wrap and to decrypt: it wraps itself.
Bytes make_the_target_wrap_itself(Session& s, const Victim& v) {
  set_bool(s, v.target, CKA_WRAP, true);
  set_bool(s, v.target, CKA_DECRYPT, true);
  return wrap_then_decrypt(s, {v.target, v.target});
}

Bytes make_it_readable(Session& s, const Victim& v) {
  set_bool(s, v.target, CKA_EXTRACTABLE, true);
  set_bool(s, v.target, CKA_SENSITIVE, false);
  const Bytes read = read_value(s, v.target);
  return read.empty() ? wrap_under_a_known_secret_key(s, v) : read;
}

// A copy with attributes of the attacker's choice, then every way to read that.
Bytes copy_it(Session& s, const Victim& v) {
  for (const bool sensitive : {false, true}) {
    Attributes wanted;
    wanted.add_bool(CKA_TOKEN, false).add_bool(CKA_EXTRACTABLE, true);
    if (!sensitive) wanted.add_bool(CKA_SENSITIVE, false);
    Handle copy = 0;
    if (s.c().C_CopyObject(s.handle(), v.target, wanted.data(), wanted.size(), &copy) != CKR_OK)
      continue;
    const Bytes read = read_value(s, copy);
    return read.empty() ? wrap_under_a_known_secret_key(s, {copy, 0}) : read;
  }
  return {};
}

// A wrapping key whose value the attacker knows, brought in under the owner's unwrapping key: what
// wraps for the owner wraps for him.
Bytes unwrap_a_known_wrapping_key(Session& s, const Victim& v) {
  const Handle known = import_aes(s, kKnown, {});
  const Bytes brought = wrap_with(s, CKM_AES_KEY_WRAP, v.wrapping, known);
  Attributes wanted;
  wanted.add_ulong(CKA_CLASS, CKO_SECRET_KEY)
      .add_ulong(CKA_KEY_TYPE, CKK_AES)
      .add_bool(CKA_TOKEN, false)
      .add_bool(CKA_WRAP, true);
  const Handle trojan = unwrap_with(s, v.wrapping, brought, wanted);
  if (trojan == 0) return {};
  return unwrap_in_software(kKnown, wrap_with(s, CKM_AES_KEY_WRAP, trojan, v.target));
}

struct Attack {
  const char* name;
  int entry;
  Bytes (*run)(Session&, const Victim&);
};
const Attack kAttacks[] = {{"ReadValue", 92, read_it},
                           {"WrapThenDecrypt", 89, wrap_then_decrypt},
                           {"TargetWrapsItself", 89, make_the_target_wrap_itself},
                           {"KnownSecretKeyWraps", 90, wrap_under_a_known_secret_key},
                           {"OwnPublicKeyWraps", 90, wrap_under_a_public_key_of_ones_own},
                           {"UnwrapReadable", 91, wrap_then_unwrap_readable},
                           {"UnwrapKnownWrappingKey", 91, unwrap_a_known_wrapping_key},
                           {"SetDecryptOnWrappingKey", 92, give_the_wrapping_key_decrypt},
                           {"SetReadable", 92, make_it_readable},
                           {"CopyReadable", 92, copy_it}};

class ExtractionTest : public ::testing::TestWithParam<Attack>, protected AgentKeys {
 protected:
  static void SetUpTestSuite() { start(); }
  static void TearDownTestSuite() { end(); }
};

// A careless program's keys: SENSITIVE, but extractable and modifiable, and a wrapping key that may
// do everything (OpenSC's default template; X16).
Bytes against_careless_keys(Session& s, const Attack& attack) {
  const bool sensitive = attack.run != read_it;  // which is what keeps a value from being read
  const Handle all =
      import_aes(s, Bytes(32, 0x77), {CKA_WRAP, CKA_UNWRAP, CKA_ENCRYPT, CKA_DECRYPT}, true);
  const Handle wraps_only = import_aes(s, Bytes(32, 0x77), {CKA_WRAP}, true);
  const Handle target = import_aes(s, kVictim, {}, sensitive);
  return attack.run(s, {target, attack.run == give_the_wrapping_key_decrypt ? wraps_only : all});
}

TEST_P(ExtractionTest, Fault089_Fault090_Fault091_Fault092_ControlTakesACarelessKeyInTheClear) {
  const Bytes out =
      token_->run([&](Session& s) { return against_careless_keys(s, GetParam()); }, true);
  EXPECT_EQ(out, kVictim);
}

TEST_P(ExtractionTest, Fault089_Fault090_Fault091_Fault092_NotAByteOfAnAgentsKeyComesOut) {
  const VaultKey ours[] = {make(Purpose::kStorage, KeyAlgorithm::kAes256),
                           make(Purpose::kTransport, KeyAlgorithm::kRsa2048),
                           make(Purpose::kTransport, KeyAlgorithm::kEcP256),
                           make(Purpose::kSign, KeyAlgorithm::kEcP256),
                           make(Purpose::kExchange, KeyAlgorithm::kRsa2048)};
  for (const auto& key : ours) {
    SCOPED_TRACE(std::string(name_of(key.info.purpose)) + " " +
                 std::string(name_of(key.info.algorithm)));
    token_->run(
        [&](Session& s) {
          const Handle target = handle_of(s, key);
          // The owner's wrapping key, and the worst one that the attacker can make himself.
          for (const Handle wrapping :
               {handle_of(s, ours[0]),
                import_aes(s, Bytes(32, 0x77), {CKA_WRAP, CKA_UNWRAP, CKA_ENCRYPT, CKA_DECRYPT})}) {
            EXPECT_THAT(GetParam().run(s, {target, wrapping}), ::testing::IsEmpty());
            EXPECT_THAT(read_value(s, target, CKA_PRIVATE_EXPONENT), ::testing::IsEmpty());
            EXPECT_THAT(read_value(s, target, CKA_PRIME_1), ::testing::IsEmpty());
            EXPECT_THAT(read_value(s, target), ::testing::IsEmpty());
          }
          s.mark_unusable();
        },
        true);
    EXPECT_TRUE(vault_->prove_custody(key).holds()) << "after the attack";
  }
}

INSTANTIATE_TEST_SUITE_P(Attacks, ExtractionTest, ::testing::ValuesIn(kAttacks),
                         [](const auto& attack) {
                           return std::to_string(attack.param.entry) + attack.param.name;
                         });

}  // namespace
}  // namespace keyagent::vault
