// SPDX-License-Identifier: Apache-2.0
// A clone's data and keys, by each frequency, with and without a rekey, on both databases.

#include <gtest/gtest.h>

#include "agent/store/records.h"
#include "tests/instance/exchange_pair.h"
#include "tests/support/postgres.h"

namespace keyagent::test {
namespace {

class ExchangeFrequencies
    : public ExchangePair,
      public testing::WithParamInterface<std::tuple<const char*, const char*>> {
 protected:
  void SetUp() override {
    if (std::string(std::get<0>(GetParam())) == "postgresql") {
      if (!Postgres::missing().empty()) GTEST_SKIP() << Postgres::missing() << " is not installed";
      start(Postgres::shared().new_database(), Postgres::shared().new_database());
    } else {
      start();
    }
    introduce();
  }
  void TearDown() override {
    if (!IsSkipped()) end();
  }

  static std::string rekey() { return std::get<1>(GetParam()); }
  // At the source, and as a clone has it at the target.
  static void put(const std::string& specification, const std::string& record) {
    std::ofstream(source_->work.path() / "value") << value(specification, record);
    const auto done =
        source_->keyagent("ops", "record put " + specification + " " + record + " --from value");
    ASSERT_EQ(done.status, 0) << done.output;
    copy(specification, record);
    EXPECT_EQ(get(specification, record).status, 3) << "without its key";
  }
  static std::string value(const std::string& specification, const std::string& record) {
    return "secret of " + specification + " " + record;
  }
  static CommandResult get(const std::string& specification, const std::string& record) {
    return target_->keyagent("ops", "record get " + specification + " " + record);
  }
  static void allow(const std::string& frequency, const std::string& specification) {
    const auto done = source_->keyagent("crypto", "peer automatic target --frequency " + frequency +
                                                      " --specification " + specification);
    ASSERT_EQ(done.status, 0) << done.output;
  }
  static void expect_complete(const std::string& id) {
    const auto waited = target_->keyagent("crypto", "exchange show " + id + " --wait --timeout 60");
    EXPECT_EQ(waited.status, 0) << waited.output << read_text(source_->log())
                                << read_text(target_->log());
    EXPECT_EQ(show(*source_, id).at("transcript"), show(*target_, id).at("transcript"));
  }
  // Under a key of the target's own where that was asked for, else under the source's.
  static void expect_read(const std::string& specification, const std::string& record,
                          const std::string& kid) {
    EXPECT_EQ(get(specification, record).output, value(specification, record));
    store::Store store({target_->store_url});
    const auto is_own = [&] { return store.records().find(specification, record)->kid != kid; };
    if (rekey().empty())
      EXPECT_FALSE(is_own());
    else
      EXPECT_TRUE(wait_until(is_own)) << read_text(target_->log());
    EXPECT_EQ(get(specification, record).output, value(specification, record));
  }
  static void by_a_person() {
    const auto kid = make_key("cards");
    put("cards", "1");
    const auto id = ask("cards --frequency adhoc " + rekey());
    ASSERT_EQ(approve(id).status, 0);
    expect_complete(id);
    expect_read("cards", "1", kid);
  }
  static void once() {
    const auto kid = make_key("pay");
    put("pay", "1");
    allow("one-time-clone", "pay");
    expect_complete(ask("pay --frequency one-time-clone " + rekey()));
    expect_read("pay", "1", kid);
    const auto again = ask("pay --frequency one-time-clone " + rekey());
    ASSERT_TRUE(wait_until(
        [&] { return source_->keyagent("crypto", "exchange show " + again).status == 0; }));
    EXPECT_EQ(show(*source_, again).at("state"), "pending") << "it was allowed once";
  }
  static void again_and_again() {
    const auto first = make_key("pins");
    put("pins", "1");
    allow("recurring-clone", "pins");
    const auto id = ask("pins --frequency recurring-clone " + rekey());
    expect_complete(id);
    expect_read("pins", "1", first);
    const std::string second =
        source_->json("crypto", "specification rekey pins --wait --timeout 60").at("active");
    ASSERT_NE(second, first);
    put("pins", "2");
    const auto next = next_of(id);
    expect_complete(next);
    expect_read("pins", "2", second);
    expect_read("pins", "1", first);
  }
};
INSTANTIATE_TEST_SUITE_P(On, ExchangeFrequencies,
                         testing::Combine(testing::Values("sqlite", "postgresql"),
                                          testing::Values("", "--rekey")),
                         [](const auto& each) {
                           return std::string(std::get<0>(each.param)) +
                                  (*std::get<1>(each.param) == 0 ? "" : "_rekey");
                         });

// Of an instance's start and logins there is one for all of them.
TEST_P(ExchangeFrequencies, X3_X5_EachBringsWhatTheRecordsNeed) {
  by_a_person();
  once();
  again_and_again();
}

}  // namespace
}  // namespace keyagent::test
