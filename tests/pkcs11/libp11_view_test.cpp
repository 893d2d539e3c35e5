// SPDX-License-Identifier: Apache-2.0
#include "pkcs11/libp11_view.h"

#include "tests/pkcs11/token_fixture.h"

namespace keyagent::pkcs11 {
namespace {

SecretBytes secret(const std::string& text) {
  return {text.begin(), text.end()};
}

class View : public TokenTest {
 protected:
  // The Token's module must be finalized before libp11 runs it.
  Libp11View view() {
    token_.reset();
    return Libp11View(hsm_.profile(), hsm_.folder());
  }
};

TEST_F(View, ListsTheTokenAndAFreeOne) {
  const auto tokens = view().tokens();
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].label, hsm_.label());
  EXPECT_EQ(tokens[0].serial, hsm_.serial());
  EXPECT_TRUE(tokens[0].user_pin_set);
  EXPECT_FALSE(tokens[1].initialized);
}

TEST_F(View, NewTokenTakesItsPin) {
  auto libp11 = view();
  const auto made = libp11.init_token("second", secret("so-pin-1"), secret("pin-1"));
  EXPECT_EQ(made.label, "second");
  EXPECT_TRUE(made.initialized);
  EXPECT_TRUE(made.user_pin_set);
  EXPECT_TRUE(libp11.keys({"second", made.serial}, secret("pin-1")).empty());
}

TEST_F(View, LabelOfAnotherTokenIsRefused) {
  auto libp11 = view();
  EXPECT_EQ(kind_of([&] { libp11.init_token(hsm_.label(), secret("so"), secret("pin")); }),
            Error::Kind::kExists);
  EXPECT_EQ(libp11.tokens().size(), 2u);
}

TEST_F(View, ChangedPinIsTheOnlyOne) {
  auto libp11 = view();
  const TokenSelector selector{hsm_.label(), hsm_.serial()};
  libp11.change_pin(selector, secret(hsm_.pin()), secret("new-pin"));
  EXPECT_TRUE(libp11.keys(selector, secret("new-pin")).empty());
  EXPECT_EQ(kind_of([&] { libp11.change_pin(selector, secret(hsm_.pin()), secret("third")); }),
            Error::Kind::kPinRefused);
}

TEST_F(View, SeesTheKeysThatWeMade) {
  open();
  generate_key();
  auto libp11 = view();
  const auto keys = libp11.keys({hsm_.label(), hsm_.serial()}, secret(hsm_.pin()));
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].id, id());
  EXPECT_TRUE(keys[0].is_private);
  EXPECT_FALSE(keys[1].is_private);
}

TEST_F(View, AbsentTokenIsNamed) {
  auto libp11 = view();
  EXPECT_EQ(kind_of([&] {
              libp11.keys({"nobody", ""}, secret("pin"));
            }),
            Error::Kind::kTokenAbsent);
}

}  // namespace
}  // namespace keyagent::pkcs11
