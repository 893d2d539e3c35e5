// SPDX-License-Identifier: Apache-2.0
// Keys of every kind on a real token: made, used, checked with OpenSSL, destroyed.

#include "pkcs11/key.h"

#include <gmock/gmock.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <memory>

#include "pkcs11/attributes.h"
#include "pkcs11/key_template.h"
#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

class KeyTest : public TokenTest {
 protected:
  KeyTest() { open(); }

  Bytes make(KeyKind kind, Usage usage, std::uint8_t number = 1, bool extractable = false) {
    const KeySpec spec{kind, usage, id(number), "keyagent-test", extractable};
    return token_->run([&](Session& session) { return generate(session, spec); }, true);
  }
  Bytes sign_with(KeyKind kind, SignScheme scheme, Hash hash, const Bytes& input) {
    return token_->run(
        [&](Session& session) { return sign(session, id(), kind, scheme, hash, input); });
  }
};

// RSAES-OAEP with OpenSSL, the other side's implementation.
Bytes oaep_encrypt(const Bytes& spki, const EVP_MD* md, const Bytes& message) {
  const unsigned char* der = spki.data();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      d2i_PUBKEY(nullptr, &der, static_cast<long>(spki.size())), EVP_PKEY_free);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
      EVP_PKEY_CTX_new(key.get(), nullptr), EVP_PKEY_CTX_free);
  EVP_PKEY_encrypt_init(context.get());
  EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING);
  EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), md);
  EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), md);
  std::size_t size = 512;
  Bytes out(size);
  EXPECT_EQ(EVP_PKEY_encrypt(context.get(), out.data(), &size, message.data(), message.size()), 1);
  out.resize(size);
  return out;
}

struct Signing {
  const char* name;
  KeyKind kind;
  SignScheme scheme;
  Hash hash;
  std::size_t input, signature;
};
void PrintTo(const Signing& signing, std::ostream* out) {
  *out << signing.name;
}

class SigningTest : public KeyTest, public ::testing::WithParamInterface<Signing> {};

TEST_P(SigningTest, SignatureHasItsSizeAndVerifiesAndASpoiledOneDoesNot) {
  const auto& how = GetParam();
  const Bytes spki = make(how.kind, Usage::kSign);
  const Bytes input(how.input, 0x42);
  Bytes signature = sign_with(how.kind, how.scheme, how.hash, input);
  EXPECT_EQ(signature.size(), how.signature);
  EXPECT_TRUE(verify_signature(spki, how.scheme, how.hash, input, signature));
  signature[signature.size() / 2] ^= 1;
  EXPECT_FALSE(verify_signature(spki, how.scheme, how.hash, input, signature));
}

INSTANTIATE_TEST_SUITE_P(
    Schemes, SigningTest,
    ::testing::Values(
        Signing{"RS256", KeyKind::kRsa2048, SignScheme::kPkcs1, Hash::kSha256, 32, 256},
        Signing{"RS512", KeyKind::kRsa3072, SignScheme::kPkcs1, Hash::kSha512, 64, 384},
        Signing{"PS256", KeyKind::kRsa2048, SignScheme::kPss, Hash::kSha256, 32, 256},
        Signing{"PS384", KeyKind::kRsa2048, SignScheme::kPss, Hash::kSha384, 48, 256},
        Signing{"ES256", KeyKind::kEcP256, SignScheme::kEcdsa, Hash::kSha256, 32, 64},
        Signing{"ES384", KeyKind::kEcP384, SignScheme::kEcdsa, Hash::kSha384, 48, 96},
        Signing{"EdDSA", KeyKind::kEd25519, SignScheme::kEdDsa, Hash::kNone, 100, 64}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(KeyTest, OaepOpensWhatOpenSslSealedByEachPath) {
  const Bytes spki = make(KeyKind::kRsa2048, Usage::kDecrypt);
  const Bytes cek(32, 0x17);
  for (const Hash hash : {Hash::kSha1, Hash::kSha256}) {
    const auto sealed = oaep_encrypt(spki, hash == Hash::kSha1 ? EVP_sha1() : EVP_sha256(), cek);
    const auto opened = token_->run(
        [&](Session& session) { return oaep_decrypt(session, id(), hash, sealed, 32); });
    EXPECT_EQ(Bytes(opened.begin(), opened.end()), cek);
  }
}

TEST_F(KeyTest, OaepAnswersWithRandomBytesForAMessageOfAnotherSize) {
  const Bytes spki = make(KeyKind::kRsa2048, Usage::kDecrypt);
  for (const Hash hash : {Hash::kSha1, Hash::kSha256}) {
    const auto sealed =
        oaep_encrypt(spki, hash == Hash::kSha1 ? EVP_sha1() : EVP_sha256(), Bytes(31, 0x17));
    const auto once = token_->run(
        [&](Session& session) { return oaep_decrypt(session, id(), hash, sealed, 32); });
    const auto again = token_->run(
        [&](Session& session) { return oaep_decrypt(session, id(), hash, sealed, 32); });
    EXPECT_EQ(once.size(), 32u);
    EXPECT_NE(once, again);
  }
}

TEST_F(KeyTest, OaepOfUnknownLengthIsTheMessageOrNothing) {
  const Bytes spki = make(KeyKind::kRsa2048, Usage::kDecrypt);
  for (const Hash hash : {Hash::kSha1, Hash::kSha256}) {
    for (const std::size_t size : {0UL, 1UL, 32UL, 190UL}) {
      auto sealed = oaep_encrypt(spki, hash == Hash::kSha1 ? EVP_sha1() : EVP_sha256(),
                                 Bytes(size, 0x01));  // looks like a separator
      const auto opened =
          token_->run([&](Session& session) { return oaep_decrypt(session, id(), hash, sealed); });
      ASSERT_TRUE(opened);
      EXPECT_EQ(Bytes(opened->begin(), opened->end()), Bytes(size, 0x01));
    }
  }
}

TEST_F(KeyTest, TwoTokenKeysAgreeOnOneSecret) {
  for (const KeyKind kind : {KeyKind::kEcP256, KeyKind::kEcP384}) {
    const Bytes one = make(kind, Usage::kDerive, 1), other = make(kind, Usage::kDerive, 2);
    const std::size_t point = kind == KeyKind::kEcP256 ? 65 : 97;
    const auto agree = [&](std::uint8_t number, const Bytes& peer) {
      return token_->run([&](Session& session) {
        return ecdh(session, id(number), kind, ByteView(peer).last(point));
      });
    };
    EXPECT_EQ(agree(1, other), agree(2, one));
    token_->run(
        [&](Session& session) { return destroy(session, id(1)) && destroy(session, id(2)); });
    token_->renew_sessions();
  }
}

TEST_F(KeyTest, GcmOpensItsOwnAndNothingElse) {
  make(KeyKind::kAes256, Usage::kEncrypt);
  const Bytes iv(12, 3), aad(5, 4);
  const SecretBytes message(32, 0x33);
  auto sealed =
      token_->run([&](Session& session) { return gcm_encrypt(session, id(), iv, aad, message); });
  const auto open_it = [&] {
    return token_->run([&](Session& session) {
      return gcm_decrypt(session, id(), iv, aad, sealed.ciphertext, sealed.tag);
    });
  };
  EXPECT_EQ(open_it(), message);
  sealed.tag[0] ^= 1;
  try {
    EXPECT_EQ(open_it(), std::nullopt);
  } catch (const Error& error) {
    EXPECT_EQ(error.rv_class(), RvClass::kAmbiguous);  // SoftHSM: CKR_GENERAL_ERROR
  }
  EXPECT_EQ(token_->status().state, TokenState::kUp);
}

TEST_F(KeyTest, X2_AWrappedKeyComesInSensitiveAndNotExtractable) {
  make(KeyKind::kAes256, Usage::kWrap, 1);
  make(KeyKind::kAes256, Usage::kEncrypt, 2, true);
  for (const WrapScheme scheme : {WrapScheme::kAesKw, WrapScheme::kAesKwp}) {
    const auto wrapped = token_->run([&](Session& session) {
      return wrap(session, {id(1), CKO_SECRET_KEY}, scheme, {id(2), CKO_SECRET_KEY});
    });
    const KeySpec spec{KeyKind::kAes256, Usage::kEncrypt, id(3), "keyagent-test", false};
    token_->run([&](Session& session) {
      unwrap(session, {id(1), CKO_SECRET_KEY}, scheme, wrapped, spec);
    });
    const auto custody = token_->run([&](Session& session) {
      return prove_custody(session, {id(3), CKO_SECRET_KEY});
    });
    EXPECT_TRUE(custody.holds());
    EXPECT_EQ(custody.sensitive, true);
    EXPECT_EQ(custody.extractable, false);
    EXPECT_TRUE(token_->run([&](Session& session) { return destroy(session, id(3)); }));
    token_->renew_sessions();
  }
}

TEST_F(KeyTest, Fault060_AKeyThatMayNotLeaveCannotBeWrapped) {
  make(KeyKind::kAes256, Usage::kWrap, 1);
  make(KeyKind::kAes256, Usage::kEncrypt, 2);
  EXPECT_EQ(kind_of([&] {
              token_->run([&](Session& session) {
                return wrap(session, {id(1), CKO_SECRET_KEY}, WrapScheme::kAesKw,
                            {id(2), CKO_SECRET_KEY});
              });
            }),
            Error::Kind::kRv);
}

TEST_F(KeyTest, Fault032_AKeyThatDemandsThePinForEachUseIsRefusedByName) {
  token_->run([&](Session& session) {
    // Made by another program: CKA_ALWAYS_AUTHENTICATE is not in any template of ours.
    CK_BBOOL yes = CK_TRUE;
    Bytes cka_id = id();
    std::uint8_t curve[] = {0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};
    CK_ATTRIBUTE open_part[] = {
        {CKA_TOKEN, &yes, 1}, {CKA_EC_PARAMS, curve, sizeof curve}, {CKA_ID, cka_id.data(), 16}};
    CK_ATTRIBUTE secret_part[] = {{CKA_TOKEN, &yes, 1},
                                  {CKA_PRIVATE, &yes, 1},
                                  {CKA_SIGN, &yes, 1},
                                  {CKA_ALWAYS_AUTHENTICATE, &yes, 1},
                                  {CKA_ID, cka_id.data(), 16}};
    CK_MECHANISM mechanism{CKM_EC_KEY_PAIR_GEN, nullptr, 0};
    CK_OBJECT_HANDLE one = 0, other = 0;
    check(session.c().C_GenerateKeyPair(session.handle(), &mechanism, open_part, 3, secret_part, 5,
                                        &one, &other),
          "C_GenerateKeyPair");
  });
  try {
    sign_digest();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kUnsupported);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("CKA_ALWAYS_AUTHENTICATE"));
  }
}

TEST_F(KeyTest, Fault062_AnEcdhPointThatIsNotOnTheCurveGivesNoSecret) {
  make(KeyKind::kEcP256, Usage::kDerive);
  Bytes point(65, 0x01);
  point[0] = 0x04;
  EXPECT_EQ(
      kind_of([&] {
        token_->run([&](Session& session) { return ecdh(session, id(), KeyKind::kEcP256, point); });
      }),
      Error::Kind::kRv);
  EXPECT_EQ(token_->status().recoveries, 0u);
}

class EcPointTest : public KeyTest {
 protected:
  // A public key object with this CKA_EC_POINT, as a token might report it.
  void put_point(std::uint8_t number, Bytes point) {
    token_->run([&](Session& session) {
      Attributes object;
      object.add_ulong(CKA_CLASS, CKO_PUBLIC_KEY)
          .add_ulong(CKA_KEY_TYPE, CKK_EC)
          .add_bool(CKA_TOKEN, true)
          .add(CKA_ID, id(number))
          .add(CKA_EC_PARAMS, ec_params(KeyKind::kEcP256))
          .add(CKA_EC_POINT, point);
      CK_OBJECT_HANDLE handle = 0;
      check(session.c().C_CreateObject(session.handle(), object.data(), object.size(), &handle),
            "C_CreateObject");
    });
  }
  Bytes read_spki(std::uint8_t number) {
    return token_->run([&](Session& session) { return read_public_key(session, id(number)); });
  }
};

TEST_F(EcPointTest, Fault062_APointIsReadRawOrInDerByItsLength) {
  const Bytes spki = make(KeyKind::kEcP256, Usage::kSign);
  const Bytes raw(spki.end() - 65, spki.end());
  put_point(2, raw);
  EXPECT_EQ(read_spki(2), spki);
  Bytes der{0x04, 65};
  der.insert(der.end(), raw.begin(), raw.end());
  put_point(3, der);
  EXPECT_EQ(read_spki(3), spki);
}

TEST_F(EcPointTest, Fault062_APointOfAnotherLengthOrOffTheCurveIsRefused) {
  const Bytes spki = make(KeyKind::kEcP256, Usage::kSign);
  Bytes raw(spki.end() - 65, spki.end());
  put_point(2, Bytes(raw.begin(), raw.end() - 1));
  EXPECT_EQ(kind_of([&] { read_spki(2); }), Error::Kind::kOutput);
  raw.back() ^= 1;
  put_point(3, raw);
  EXPECT_EQ(kind_of([&] { read_spki(3); }), Error::Kind::kOutput);
}

TEST_F(KeyTest, Fault058_NoSearchInSteadyState) {
  make(KeyKind::kEcP256, Usage::kSign);
  sign_digest();
  shim::reset_counts();
  for (int i = 0; i < 100; ++i) sign_digest();
  EXPECT_EQ(shim::count("C_FindObjectsInit"), 0u);
  EXPECT_EQ(shim::count("C_OpenSession"), 0u);
  EXPECT_EQ(shim::count("C_Sign"), 100u);
}

TEST_F(KeyTest, AGoodTemplateThatIsRefusedOnceIsTriedAgain) {
  open();
  shim::set_faults("C_GenerateKeyPair:n=1:rv=0xD1:after");
  const auto spki = generate_key();
  EXPECT_TRUE(verifies(spki, sign_digest()));
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 2u);
  shim::reset_counts();
  shim::set_faults("C_GenerateKeyPair:every=1:rv=0xD1");
  EXPECT_EQ(kind_of([&] { generate_key(7); }), Error::Kind::kRv);
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 3u) << "and then believed";
}

TEST_F(KeyTest, WhatTheProfileLacksIsRefusedBeforeTheCall) {
  profile_.algorithms.erase("ed25519");
  restart();
  EXPECT_EQ(kind_of([&] { make(KeyKind::kEd25519, Usage::kSign); }), Error::Kind::kUnsupported);
  EXPECT_EQ(shim::count("C_GenerateKeyPair"), 0u);
}

}  // namespace
}  // namespace keyagent::pkcs11
