// SPDX-License-Identifier: Apache-2.0
// The end of a key's originator period, and the bounds on its generations, on a real token.

#include "agent/envelope/envelope.h"
#include "agent/keys/guarded_keys.h"
#include "pkcs11/attributes.h"
#include "pkcs11/error.h"
#include "pkcs11/key_template.h"
#include "tests/keys/rekey_fixture.h"

namespace keyagent::keys {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
constexpr auto kOneDay = std::chrono::hours(24);

class PeriodTest : public RekeyTest {
 protected:
  PeriodTest() {
    periods_.jitter_percent = 0;
    periods_.by_name["one"] = [](const Cryptoperiod& base) {
      return Cryptoperiod{90 * kOneDay, 30 * kOneDay, base.idle, false};
    };
    apply();
  }
  void apply() {
    periods_.enforced_since = store_->enforced_since();
    store_->set_periods(periods_);
    scheduler_->look();
  }
  Code sign(const KeyRecord& key) {
    return code_of(
        [&] { store_->ops().sign(key.kid, SignatureAlgorithm::kEs256, random_bytes(32)); });
  }
  int count(const std::string& what) const {
    return static_cast<int>(std::count_if(told_.begin(), told_.end(),
                                          [&](const auto& each) { return each.what == what; }));
  }
  // Days go by with a look each quarter of an hour, which warnings need; a look an hour does.
  void days(int number) {
    for (int hour = 0; hour < number * 24; ++hour) {
      clock_.advance(1h);
      scheduler_->look();
    }
  }
};

TEST_F(PeriodTest, Fault165_PastPeriodAndGraceAKeySignsNothingUntilItsRekey) {
  const auto old = make("one", Purpose::kSign);
  clock_.advance(97 * kOneDay - 1min);
  scheduler_->accept_clock();
  scheduler_->look();
  EXPECT_EQ(sign(old), Code::kOk);
  clock_.advance(1min);
  scheduler_->look();
  EXPECT_EQ(sign(old), Code::kKeyState);
  try {
    store_->ops().sign(old.kid, SignatureAlgorithm::kEs256, random_bytes(32));
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("keyagent rekey one"));
  }
  // After a restart too, before the scheduler has checked the clock.
  scheduler_->save();
  open();
  store_->set_periods(periods_);
  EXPECT_EQ(sign(old), Code::kKeyState);
  rekey("one");
  EXPECT_EQ(sign(store_->find("one")), Code::kOk);
}

// Control: a key whose CKA_END_DATE is long over, made and used past all of the agent's code.
bool token_signs_after_its_end_date(pkcs11::Token& token) {
  return token.run([](pkcs11::Session& session) {
    pkcs11::Attributes open, secret;
    open.add_bool(CKA_TOKEN, false).add(CKA_EC_PARAMS, pkcs11::ec_params(pkcs11::KeyKind::kEcP256));
    secret.add_bool(CKA_TOKEN, false)
        .add_bool(CKA_SIGN, true)
        .add_text(CKA_START_DATE, "20010101")
        .add_text(CKA_END_DATE, "20010102");
    CK_MECHANISM make{CKM_EC_KEY_PAIR_GEN, nullptr, 0}, sign{CKM_ECDSA, nullptr, 0};
    CK_OBJECT_HANDLE public_key = 0, key = 0;
    pkcs11::check(session.c().C_GenerateKeyPair(session.handle(), &make, open.data(), open.size(),
                                                secret.data(), secret.size(), &public_key, &key),
                  "C_GenerateKeyPair");
    pkcs11::check(session.c().C_SignInit(session.handle(), &sign, key), "C_SignInit");
    Bytes digest(32, 7), signature(64);
    CK_ULONG size = signature.size();
    return session.c().C_Sign(session.handle(), digest.data(), digest.size(), signature.data(),
                              &size) == CKR_OK;
  });
}

TEST_F(PeriodTest, Fault071_TheTokenIgnoresAnEndDateAndTheLedgerEndsTheKeyWithoutIt) {
  EXPECT_TRUE(token_signs_after_its_end_date(*token_)) << "it keeps its dates: drop the control";
  const auto old = make("one", Purpose::kSign);
  EXPECT_EQ(sign(old), Code::kOk);
  clock_.advance(97 * kOneDay);
  scheduler_->accept_clock();
  scheduler_->look();
  test::shim::reset_counts();
  EXPECT_EQ(sign(old), Code::kKeyState);
  EXPECT_EQ(test::shim::count("C_SignInit"), 0u) << "the token was not asked";
}

TEST_F(PeriodTest, Fault165_AnExpiredKeyOpensEnvelopesAndSealsNone) {
  const auto key = make("one", Purpose::kStorage);
  const SecretBytes text{'t', 'e', 'x', 't'};
  const auto content = envelope::ContentEncryption::kA256Gcm;
  const Bytes sealed = envelope::seal_jwe(store_->ops(), info_of(key), content, text);
  clock_.advance(98 * kOneDay);
  scheduler_->accept_clock();
  scheduler_->look();
  EXPECT_EQ(envelope::open(store_->ops(), info_of(key), sealed), text);
  EXPECT_EQ(code_of([&] { envelope::seal_jwe(store_->ops(), info_of(key), content, text); }),
            Code::kKeyState);
  EXPECT_EQ(code_of([&] { store_->require_use(key.kid, Use::kSeal); }), Code::kKeyState);
  EXPECT_EQ(code_of([&] { store_->require_use(key.kid, Use::kOpen); }), Code::kOk);
}

TEST_F(PeriodTest, Fault165_WarnsAt30And14And7And1DaysThenDailyInTheGraceThenAlarms) {
  make("one", Purpose::kSign);
  days(61);
  EXPECT_EQ(count("rekey.comes"), 1);
  days(16);
  EXPECT_EQ(count("rekey.comes"), 2);
  days(12);
  EXPECT_EQ(count("rekey.comes"), 4);
  EXPECT_EQ(count("key.past-period"), 0);
  days(7);
  EXPECT_GE(count("key.past-period"), 6);
  EXPECT_EQ(count("key.expired"), 0);
  days(2);
  EXPECT_GE(count("key.expired"), 1);
}

TEST_F(PeriodTest, Fault165_AClockThatJumpsExpiresNothing) {
  const auto key = make("one", Purpose::kSign);
  clock_.set(clock_.now() + 400 * kOneDay);
  EXPECT_EQ(sign(key), Code::kOk);
  scheduler_->look();
  EXPECT_EQ(sign(key), Code::kOk);
  pass(2h);
  EXPECT_EQ(sign(key), Code::kOk);
  EXPECT_FALSE(said("key.expired"));
  scheduler_->accept_clock();
  scheduler_->look();
  EXPECT_EQ(sign(key), Code::kKeyState);
}

TEST_F(PeriodTest, Fault165_AnOldStateFolderHasItsGraceFromTheFirstStart) {
  const auto key = make("one", Purpose::kSign);
  periods_.enforced_since = clock_.now() + 200 * kOneDay;
  store_->set_periods(periods_);
  clock_.advance(206 * kOneDay);
  scheduler_->accept_clock();
  scheduler_->look();
  EXPECT_EQ(sign(key), Code::kOk);
  clock_.advance(1 * kOneDay);
  scheduler_->accept_clock();
  scheduler_->look();
  EXPECT_EQ(sign(key), Code::kKeyState);
}

TEST_F(PeriodTest, Fault165_AuditKeysAndKeysWithoutAPeriodDoNotExpire) {
  const auto audit = make("audit", Purpose::kAudit);
  periods_.by_name["two"] = [](const Cryptoperiod&) { return Cryptoperiod{0ms, 1h, 0ms, false}; };
  apply();
  const auto endless = make("two", Purpose::kSign);
  clock_.advance(4000 * kOneDay);
  scheduler_->accept_clock();
  store_->believe(clock_.now());
  EXPECT_EQ(sign(audit), Code::kOk);
  EXPECT_EQ(sign(endless), Code::kOk);
}

TEST_F(PeriodTest, Fault165_WhileItIsReplacedTheOldKeySignsForItsSuccessorOnly) {
  peer_ = &the_peer_;
  open();
  apply();
  const auto old = make("one", Purpose::kAuth);
  store_->believe(clock_.now() + 98 * kOneDay);
  const auto sign_with = [&](KeyOps& ops) {
    return code_of([&] { ops.sign(old.kid, SignatureAlgorithm::kEs256, random_bytes(32)); });
  };
  EXPECT_EQ(sign_with(store_->ops_while_rekeying(old.kid)), Code::kKeyState);
  the_peer_.proof = {Confirmation::Answer::kLater, "away"};
  begin("one");
  runner_->run(Span(0));
  EXPECT_EQ(sign_with(store_->ops_while_rekeying(old.kid)), Code::kOk);
  EXPECT_EQ(sign_with(store_->ops()), Code::kKeyState);
  runner_->abort(KeyName("one"), {"test", "tester"});
  EXPECT_EQ(sign_with(store_->ops_while_rekeying(old.kid)), Code::kKeyState);
}

TEST_F(PeriodTest, Fault153_AnInstanceOrdersTwoRekeysADayAlsoAcrossARestart) {
  make("one", Purpose::kSign);
  const auto order = [&] {
    const auto code = code_of([&] {
      runner_->begin({KeyName("one"), {}, {}, Span(0)}, {"order", kInstanceActor});
    });
    runner_->run(Span(0));
    return code;
  };
  EXPECT_EQ(order(), Code::kOk);
  EXPECT_EQ(order(), Code::kOk);
  EXPECT_EQ(order(), Code::kKeyState);
  EXPECT_EQ(count("rekey.order-refused"), 1);
  open();
  EXPECT_EQ(order(), Code::kKeyState);
  EXPECT_EQ(order(), Code::kKeyState);
  EXPECT_EQ(count("rekey.order-refused"), 2);  // once a run of the agent and hour
  EXPECT_EQ(store_->find("one").generation, 3);
  rekey("one");  // an operator's rekey does not count as an order
  EXPECT_EQ(store_->find("one").generation, 4);
  clock_.advance(kOneDay + 1s);
  EXPECT_EQ(order(), Code::kOk);
}

TEST_F(PeriodTest, Fault153_GenerationsInTheTokenAreBoundedUnlessOverridden) {
  periods_.rekeys.generations = 3;
  make("one", Purpose::kSign);
  rekey("one");
  rekey("one");
  EXPECT_EQ(code_of([&] { begin("one"); }), Code::kKeyState);
  EXPECT_EQ(private_keys(), 3u);
  RekeyRequest override{KeyName("one"), {}, {}, Span(0)};
  override.beyond_limits = true;
  runner_->begin(override, {"test", "tester"});
  runner_->run(Span(0));
  EXPECT_EQ(private_keys(), 4u);
}

// A key that cannot be rekeyed stops only itself.
TEST_F(PeriodTest, Fault153_AKeyAtItsBoundDoesNotHoldUpOthers) {
  periods_.rekeys.generations = 2;
  periods_.by_name["one"] = periods_.by_name["two"] = [](const Cryptoperiod&) {
    return Cryptoperiod{10 * kOneDay, 300 * kOneDay, 0ms, true};
  };
  apply();
  make("one", Purpose::kSign);
  rekey("one");
  const auto two = make("two", Purpose::kSign);
  days(11);
  EXPECT_TRUE(said("rekey.refused"));
  EXPECT_NE(store_->find("two").kid, two.kid);
}

}  // namespace
}  // namespace keyagent::keys
