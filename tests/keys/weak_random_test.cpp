// SPDX-License-Identifier: Apache-2.0
// A token whose random numbers are not random (RELIABILITY 70): what it shows in its keys is found,
// and nothing of ours rests on it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <memory>
#include <set>

#include "agent/keys/key_store.h"
#include "agent/keys/ledger.h"
#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {
namespace {

using ::testing::HasSubstr;
namespace shim = test::shim;
using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;

// Two primes of an RSA-2048 key, as a token's generator would have drawn them.
struct Primes {
  Number p{nullptr, BN_free}, q{nullptr, BN_free};
};

Number copy(const Number& number) {
  return Number(BN_dup(number.get()), BN_free);
}

Primes draw() {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_RSA_gen(2048), EVP_PKEY_free);
  BIGNUM *p = nullptr, *q = nullptr;
  EVP_PKEY_get_bn_param(key.get(), OSSL_PKEY_PARAM_RSA_FACTOR1, &p);
  EVP_PKEY_get_bn_param(key.get(), OSSL_PKEY_PARAM_RSA_FACTOR2, &q);
  Primes primes;
  primes.p.reset(p);
  primes.q.reset(q);
  return primes;
}

pkcs11::Bytes bytes_of(const Number& number, int size) {
  pkcs11::Bytes bytes(static_cast<std::size_t>(size));
  BN_bn2binpad(number.get(), bytes.data(), size);
  return bytes;
}

// The CRT form of RFC 8017 §3.2.
struct Pair {
  Number n{BN_new(), BN_free}, d{BN_new(), BN_free}, dp{BN_new(), BN_free}, dq{BN_new(), BN_free},
      qinv{BN_new(), BN_free};
  explicit Pair(const Primes& primes) {
    const std::unique_ptr<BN_CTX, decltype(&BN_CTX_free)> c(BN_CTX_new(), BN_CTX_free);
    const Number e(BN_new(), BN_free), phi(BN_new(), BN_free), p1(BN_dup(primes.p.get()), BN_free),
        q1(BN_dup(primes.q.get()), BN_free);
    BN_set_word(e.get(), 65537);
    BN_sub_word(p1.get(), 1);
    BN_sub_word(q1.get(), 1);
    BN_mul(n.get(), primes.p.get(), primes.q.get(), c.get());
    BN_mul(phi.get(), p1.get(), q1.get(), c.get());
    BN_mod_inverse(d.get(), e.get(), phi.get(), c.get());
    BN_mod(dp.get(), d.get(), p1.get(), c.get());
    BN_mod(dq.get(), d.get(), q1.get(), c.get());
    BN_mod_inverse(qinv.get(), primes.q.get(), primes.p.get(), c.get());
  }
};

class WeakRandomTest : public ::testing::Test {
 protected:
  // What is imported here is not CKA_LOCAL, as it would be from a token's own generator.
  explicit WeakRandomTest(bool believes_imports = true)
      : token_(open(hsm_, believes_imports)), vault_(token_) {
    shim::clear();
  }
  static std::shared_ptr<pkcs11::Token> open(const test::SoftHsm& hsm, bool believes_imports) {
    auto profile = hsm.shimmed_profile();
    profile.always_sensitive = !believes_imports;
    return std::make_shared<pkcs11::Token>(profile, hsm.options());
  }
  ~WeakRandomTest() override { shim::clear(); }

  // The token was asked for a key, made this one, and we died before we saw it: the next start
  // takes it into use, or not.
  std::vector<Finding> token_makes(const char* name, const Primes& primes) {
    store_.reset();
    JournalStep step;
    step.cka_id = step.planned.cka_id = CkaId::random();
    step.planned.name = KeyName(name);
    step.planned.algorithm = KeyAlgorithm::kRsa2048;
    {
      std::filesystem::create_directories(state());
      std::filesystem::permissions(state(), std::filesystem::perms(0700));
      Ledger(state() / "ledger.db").begin_step(step);
    }
    import(step.cka_id, primes);
    store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
    store_->reconcile();
    return store_->findings();
  }

  void import(const CkaId& id, const Primes& primes) {
    const Pair pair(primes);
    pkcs11::Attributes open_half, secret_half;
    for (auto* half : {&open_half, &secret_half}) {
      half->add_ulong(CKA_KEY_TYPE, CKK_RSA)
          .add_bool(CKA_TOKEN, true)
          .add(CKA_ID, {id.bytes.data(), id.bytes.size()})
          .add(CKA_MODULUS, bytes_of(pair.n, 256))
          .add(CKA_PUBLIC_EXPONENT, pkcs11::Bytes{1, 0, 1});
    }
    open_half.add_ulong(CKA_CLASS, CKO_PUBLIC_KEY).add_bool(CKA_VERIFY, true);
    secret_half.add_ulong(CKA_CLASS, CKO_PRIVATE_KEY)
        .add_bool(CKA_SENSITIVE, true)
        .add_bool(CKA_EXTRACTABLE, false)
        .add_bool(CKA_SIGN, true)
        .add_bool(CKA_DECRYPT, false)
        .add_bool(CKA_UNWRAP, false)
        .add_bool(CKA_DERIVE, false)
        .add(CKA_PRIVATE_EXPONENT, bytes_of(pair.d, 256))
        .add(CKA_PRIME_1, bytes_of(primes.p, 128))
        .add(CKA_PRIME_2, bytes_of(primes.q, 128))
        .add(CKA_EXPONENT_1, bytes_of(pair.dp, 128))
        .add(CKA_EXPONENT_2, bytes_of(pair.dq, 128))
        .add(CKA_COEFFICIENT, bytes_of(pair.qinv, 128));
    token_->run(
        [&](pkcs11::Session& s) {
          CK_OBJECT_HANDLE handle = 0;
          for (auto* half : {&open_half, &secret_half})
            pkcs11::check(s.c().C_CreateObject(s.handle(), half->data(), half->size(), &handle),
                          "C_CreateObject");
        },
        true);
  }

  std::filesystem::path state() const { return folder_.path() / "state"; }

  test::SoftHsm hsm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  std::shared_ptr<pkcs11::Token> token_;
  vault::TokenVault vault_;
  std::unique_ptr<KeyStore> store_;
};

TEST_F(WeakRandomTest, Fault070_AModulusThatSharesAPrimeWithAnotherIsNotTakenIntoUse) {
  const Primes one = draw(), other = draw();
  EXPECT_TRUE(token_makes("first", one).empty());
  EXPECT_TRUE(token_makes("second", other).empty()) << "no prime in common";
  Primes mixed;
  mixed.p = copy(one.p);
  mixed.q = copy(other.p);
  const auto found = token_makes("third", mixed);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].kind, Finding::Kind::kOrphanRemoved);
  EXPECT_THAT(found[0].text, HasSubstr("shares a factor with key "));
  EXPECT_EQ(store_->list().size(), 2u);
  EXPECT_EQ(vault_.objects().size(), 2u) << "it was destroyed";
}

TEST_F(WeakRandomTest, Fault070_TheSameKeyMadeTwiceIsNotTakenIntoUse) {
  const Primes one = draw();
  EXPECT_TRUE(token_makes("first", one).empty());
  const auto found = token_makes("second", one);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0].text, HasSubstr("shares a factor with key first"));
  EXPECT_EQ(store_->list().size(), 1u);
}

class HalfMadeTest : public WeakRandomTest {
 protected:
  HalfMadeTest() : WeakRandomTest(false) {}
};

// SoftHSM writes a key's object first and its value after, and crashes when it uses one that a
// power cut left between the two: the agent would die of it at every start.
TEST_F(HalfMadeTest, R8_AKeyLeftByACrashIsNotUsedBeforeItsAttributesAreThoseAskedFor) {
  token_makes("first", draw());
  EXPECT_EQ(shim::count("C_SignInit"), 0u);
  EXPECT_TRUE(store_->list().empty());
  EXPECT_TRUE(vault_.objects().empty());
}

// The token's numbers are never ours: with C_GenerateRandom at zero nothing repeats.
TEST_F(WeakRandomTest, Fault070_Fault099_NothingOfOursRestsOnTheTokensRandomNumbers) {
  shim::set_faults("C_GenerateRandom:every=1:zero");
  store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
  store_->reconcile();
  const auto key =
      store_->create({KeyName("vault"), Purpose::kStorage, std::nullopt, std::nullopt}).record;
  std::set<Bytes> ivs;
  for (int i = 0; i < 20; ++i) {
    const auto wrapped = store_->ops().wrap_cek(key.kid, SecretBytes(32, 1));
    EXPECT_NE(wrapped.iv, Bytes(12));
    ivs.insert(wrapped.iv);
  }
  EXPECT_EQ(ivs.size(), 20u);
}

}  // namespace
}  // namespace keyagent::keys
