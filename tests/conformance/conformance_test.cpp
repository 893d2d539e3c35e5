// SPDX-License-Identifier: Apache-2.0
// Every claim of every tested profile on its real token: tests × tokens from one table.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "pkcs11/error.h"
#include "pkcs11/object.h"
#include "pkcs11/probe.h"
#include "tests/support/soft_hsm.h"
#include "tests/support/swtpm.h"

namespace keyagent::pkcs11 {
namespace {

constexpr const char* kDisposable = "keyagent-test";

// A token that this program made, and its end.
struct Bench {
  std::shared_ptr<void> owner;
  std::shared_ptr<Token> token;
};

struct Row {
  const char* profile;
  std::function<std::string()> missing;
  std::function<Bench()> make;
};

template <class Maker>
Bench make() {
  auto owner = std::make_shared<Maker>(kDisposable);
  return {owner, owner->open()};
}

const Row kTokens[] = {
    {"softhsm2", [] { return std::string(); }, make<test::SoftHsm>},
    {"tpm2", test::Swtpm::missing, make<test::Swtpm>},
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.profile;
}

// The suite writes and destroys: it runs on nothing but a token with this label.
void require_disposable(Token& token) {
  const auto label = token.status().label;
  if (label != kDisposable)
    throw std::runtime_error("token '" + label + "' is not a disposable one: nothing was done");
}

class Conformance : public ::testing::TestWithParam<Row> {
 protected:
  void SetUp() override {
    if (const auto missing = GetParam().missing(); !missing.empty()) GTEST_SKIP() << missing;
    bench_ = GetParam().make();
    bench_.token->run([](Session& session) { session.require_login(); });
    require_disposable(*bench_.token);
  }
  void TearDown() override { bench_.token.reset(); }
  Token& token() { return *bench_.token; }

  Bench bench_;
};

TEST_P(Conformance, EveryClaimOfTheProfileIsKept) {
  const auto report = probe(token());
  for (const auto& result : report.results) {
    if (!result.claimed) continue;
    EXPECT_TRUE(result.outcome == ProbeResult::Outcome::kWorks ||
                result.outcome == ProbeResult::Outcome::kRefused)
        << result.name << ": " << result.detail;
  }
  EXPECT_TRUE(report.sound());
  EXPECT_TRUE(token().run([](Session& session) { return list_objects(session); }).empty());
}

TEST_P(Conformance, Fault060_NoKeyComesOutByAnyAttempt) {
  const auto report = probe(token());
  const auto attempts =
      std::count_if(report.results.begin(), report.results.end(), [](const ProbeResult& result) {
        return result.name.starts_with("extract") && result.claimed;
      });
  EXPECT_GE(attempts, 2);
  for (const auto& result : report.results) {
    if (result.name.starts_with("extract") && result.claimed) {
      EXPECT_EQ(result.outcome, ProbeResult::Outcome::kRefused)
          << result.name << ": " << result.detail;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokens, Conformance, ::testing::ValuesIn(kTokens),
                         [](const auto& row) { return std::string(row.param.profile); });

TEST(ConformanceGuard, TokenWithoutOurLabelIsRefused) {
  test::SoftHsm production("production");
  const auto token = production.open();
  token->run([](Session& session) { session.require_login(); });
  EXPECT_THROW(require_disposable(*token), std::runtime_error);
}

}  // namespace
}  // namespace keyagent::pkcs11
