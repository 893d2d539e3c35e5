// SPDX-License-Identifier: Apache-2.0
// Specifications and their records, through the command, of a real keyinstanced with its agent.

#include "agent/store/records.h"

#include "agent/store/data_keys.h"
#include "agent/store/events.h"
#include "agent/store/specifications.h"
#include "tests/instance/data_instance.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class RecordsTest : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { shared().clear(); }
  void SetUp() override {
    const std::string engine = GetParam();
    if (engine == "postgresql" && !Postgres::missing().empty())
      GTEST_SKIP() << Postgres::missing() << " is not installed";
    auto& found = shared()[engine];
    if (!found) {
      found = std::make_unique<DataInstance>(
          engine == "postgresql" ? Postgres::shared().new_database() : std::string(),
          std::map<std::string, std::string>{{"ops", "operator"}, {"root", "admin"}});
      found->specify();
    }
    instance_ = found.get();
  }
  // One an engine: its start costs more than the tests.
  static std::map<std::string, std::unique_ptr<DataInstance>>& shared() {
    static std::map<std::string, std::unique_ptr<DataInstance>> instances;
    return instances;
  }
  DataInstance& it() { return *instance_; }
  int count(const std::string& action, const std::string& outcome, const std::string& subject) {
    int found = 0;
    for (const auto& each : it().store->events().list(0, 10000))
      found += each.action == action && each.outcome == outcome && each.subject == subject ? 1 : 0;
    return found;
  }

  DataInstance* instance_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(On, RecordsTest, testing::Values("sqlite", "postgresql"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(RecordsTest, AValueComesBackAndIsNowhereInTheClear) {
  ASSERT_EQ(it().put("a:1", "not to be seen").status, 0);
  const auto got = it().get("a:1");
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(got.output, "not to be seen");
  const auto record = it().store->records().find("pay", "a:1").value();
  EXPECT_EQ(record.kid, it().active());
  EXPECT_THAT(record.envelope, Not(HasSubstr("not to be seen")));
  const Json header = Json::parse(
      as_text(from_base64url(record.envelope.substr(0, record.envelope.find('.'))).value()));
  EXPECT_EQ(header.at("kid"), record.kid);
  EXPECT_EQ(header.at("enc"), "A256GCM");
  EXPECT_EQ(it().get("a:2").status, 2);
}

TEST_P(RecordsTest, AVersionIsWrittenOnlyOverTheOneThatIsNamed) {
  EXPECT_EQ(it().put("v", "one", " --version 0").status, 0);
  const auto lost = it().put("v", "lost", " --version 0");
  EXPECT_NE(lost.status, 0);
  EXPECT_THAT(lost.output, HasSubstr("version 1"));
  EXPECT_EQ(it().put("v", "two", " --version 1").status, 0);
  EXPECT_EQ(it().get("v").output, "two");
  EXPECT_EQ(it().run("app", "record remove pay v").status, 0);
  EXPECT_EQ(it().get("v").status, 2);
  EXPECT_EQ(it().put("v", "three", " --version 0").status, 0);
  EXPECT_EQ(it().get("v").output, "three");
}

TEST_P(RecordsTest, X13_OnlyUsersThatTheSpecificationNamesHaveAccessAndTrackedUsesAreEvents) {
  ASSERT_EQ(it().put("x", "secret").status, 0);
  EXPECT_EQ(it().get("x", "root").status, 3);
  EXPECT_EQ(it().get("x", "crypto").status, 3);
  EXPECT_EQ(count("data.decrypt", "refused", "pay/x"), 2);
  const auto tracked = it().get("x", "ops");
  EXPECT_EQ(tracked.output, "secret");
  EXPECT_EQ(count("data.decrypt", "done", "pay/x"), 1);
  it().get("x");
  EXPECT_EQ(count("data.decrypt", "done", "pay/x"), 1);
  EXPECT_EQ(it().run("ops", "record put pay x --from value").status, 3);
  EXPECT_EQ(it().run("ops", "record remove pay x").status, 3);
  EXPECT_EQ(it().process.json("root", "specification why pay decrypt").at("allowed"), false);
  const Json why = it().process.json("root", "specification why pay decrypt --user ops");
  EXPECT_EQ(why.at("rule"), "desk");
  EXPECT_EQ(why.at("tracked"), true);
  EXPECT_EQ(it().run("ops", "specification create mine").status, 3);
  EXPECT_EQ(it().run("ops", "specification access pay --from access.json").status, 3);
}

TEST_P(RecordsTest, X13_OnlyUsersThatTheSpecificationNamesMayExportItsKeys) {
  it().write("exchange.json", R"([{"rule":"managers","effect":"track","uses":["exchange"],)"
                              R"("roles":["cryptographic-manager"]}])");
  ASSERT_EQ(it().run("crypto", "specification create sent --access exchange.json").status, 0);
  DataParts parts(it());
  const auto asked = [&](const std::string& name, const std::string& user) {
    try {
      parts.specifications.require_exchange(name, user);
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kOk;
  };
  EXPECT_EQ(asked("sent", "crypto"), Code::kOk);
  EXPECT_EQ(count("data.exchange", "done", "sent"), 1);
  for (const char* user : {"app", "root", "nobody"}) EXPECT_EQ(asked("sent", user), Code::kDenied);
  EXPECT_EQ(asked("pay", "crypto"), Code::kDenied);
}

// Where one person decides alone, that person gives access to others only.
TEST_P(RecordsTest, Fault159_WhoDecidesAloneGivesNoAccessToThemselves) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"("roles":["cryptographic-manager"])", "your own role"},
      {R"("users":["crypto"])", "yourself"}};
  for (const auto& [whom, said] : kCases) {
    it().write("own.json",
               std::string(R"([{"rule":"own","effect":"allow","uses":["decrypt"],)") + whom + "}]");
    for (const char* words : {"specification access pay --from own.json",
                              "specification create own --access own.json"}) {
      const auto refused = it().run("crypto", words);
      EXPECT_EQ(refused.status, 3) << words;
      EXPECT_THAT(refused.output, HasSubstr(said));
    }
  }
  EXPECT_THAT(it().run("app", "specification list").output, ::testing::Not(HasSubstr("own")));
}

TEST_P(RecordsTest, ASpecificationShowsItsKeyAndCryptoperiodAndIsMadeOnce) {
  it().specify("once");
  const auto again = it().run("crypto", "specification create once");
  EXPECT_NE(again.status, 0);
  EXPECT_THAT(again.output, HasSubstr("EXISTS"));
  const Json shown = it().process.json("app", "specification show once").at("specifications").at(0);
  EXPECT_EQ(shown.at("key"), "data.once");
  ASSERT_EQ(shown.at("keys").size(), 1U);
  const Json key = shown.at("keys").at(0);
  EXPECT_EQ(key.at("state"), "active");
  EXPECT_EQ(key.at("kid"), shown.at("active"));
  EXPECT_EQ(key.at("exchangeable"), false) << "unless it is requested";
  EXPECT_EQ(key.at("period_s"), 365 * 24 * 3600);
  EXPECT_TRUE(key.at("next_rekey").is_string());
  for (const char* name : {"UPPER", "-a", "a/b", "0123456789012345678901234567890123456789012"})
    EXPECT_EQ(it().run("crypto", std::string("specification create -- ") + name).status, 2) << name;
}

TEST_P(RecordsTest, ARecordThatWasGivenTheEnvelopeOfAnotherIsRefused) {
  ASSERT_EQ(it().put("mine", "1").status, 0);
  ASSERT_EQ(it().put("theirs", "1000000").status, 0);
  it().sql(
      "UPDATE records SET envelope = (SELECT envelope FROM records WHERE specification = 'pay' "
      "AND id = 'theirs') WHERE specification = 'pay' AND id = 'mine'");
  const auto got = it().get("mine");
  EXPECT_EQ(got.status, 6);
  EXPECT_THAT(got.output, HasSubstr("another version of this record"));
  EXPECT_THAT(got.output, Not(HasSubstr("1000000")));
  it().sql("UPDATE records SET envelope = 'e30.a.b.c.d' WHERE id = 'mine'");
  EXPECT_NE(it().get("mine").status, 0);
}

TEST_P(RecordsTest, Fault158_ARecordThatWasGivenItsOwnEnvelopeOfBeforeIsRefused) {
  ASSERT_EQ(it().put("limit", "100").status, 0);
  const auto old = it().store->records().find("pay", "limit").value();
  ASSERT_EQ(it().put("limit", "5").status, 0);
  it().sql("UPDATE records SET envelope = '" + old.envelope + "' WHERE id = 'limit'");
  const auto got = it().get("limit");
  EXPECT_EQ(got.status, 6);
  EXPECT_THAT(got.output, HasSubstr("another version"));
  EXPECT_THAT(got.output, Not(HasSubstr("100")));
  // Its versions continue after it was removed, so that nothing of before comes back.
  ASSERT_EQ(it().run("app", "record remove pay limit").status, 0);
  ASSERT_EQ(it().put("limit", "7").status, 0);
  EXPECT_EQ(it().get("limit").output, "7");
  it().sql("UPDATE records SET envelope = '" + old.envelope + "' WHERE id = 'limit'");
  EXPECT_EQ(it().get("limit").status, 6);
}

TEST_P(RecordsTest, Fault158_ARecordOfBeforeWithoutItsVersionIsReadAndSealedWithIt) {
  ASSERT_EQ(it().put("old", "now").status, 0);
  const std::string text = "keyagent record 1\npay\nold\nbefore";
  const auto sealed = it().keys->seal("pay", SecretBytes(text.begin(), text.end()));
  it().sql("UPDATE records SET envelope = '" + sealed.envelope + "' WHERE id = 'old'");
  EXPECT_EQ(it().get("old").output, "before");
  const auto bound = it().store->records().find("pay", "old").value();
  EXPECT_NE(bound.envelope, sealed.envelope);
  EXPECT_EQ(bound.version, 1);
  EXPECT_EQ(it().get("old").output, "before");
}

TEST_P(RecordsTest, X11_ARecordUnderAKeyOfAnotherTokenIsUnreadableAndNamesTheKeyAndItsSource) {
  const std::string kid(32, 'a');
  ASSERT_EQ(it().put("here", "value").status, 0);
  auto record = it().store->records().find("pay", "here").value();
  // The same envelope, as it would be under a key of another token.
  const std::string header =
      R"({"alg":"A256GCMKW","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","kid":")" + kid +
      R"(","tag":"AAAAAAAAAAAAAAAAAAAAAA"})";
  record.id = "elsewhere";
  record.kid = kid;
  record.envelope =
      to_base64url(as_bytes(header)) + record.envelope.substr(record.envelope.find('.'));
  it().store->data_keys().add(
      {kid, "pay", R"({"instance":"keys-source","identity":"THE-IDENTITY"})", {}});
  it().store->records().put(record, 0);
  const auto got = it().get("elsewhere");
  EXPECT_EQ(got.status, 3);
  for (const auto& what : {std::string("KEY_NOT_PRESENT"), "kid=" + kid,
                           std::string("source=keys-source"), std::string("THE-IDENTITY")})
    EXPECT_THAT(got.output, HasSubstr(what));
  const Json listed = it().process.json("app", "record list pay").at("records");
  for (const auto& each : listed) EXPECT_EQ(each.at("readable"), each.at("id") != "elsewhere");
  bool shown = false;
  const Json keys = it().specification().at("keys");
  for (const auto& key : keys)
    shown |= key.at("kid") == kid && key.at("state") == "not_present" && key.at("records") == 1 &&
             key.at("source").at("instance") == "keys-source";
  EXPECT_TRUE(shown) << keys.dump();
  it().run("app", "record remove pay elsewhere");
}

TEST_P(RecordsTest, X11_ASpecificationWithoutAKeyHereTakesNothingUntilOneIsMade) {
  it().store->specifications().add(
      {"copied", it().store->specifications().find("pay")->access, "x", "x", {}, {}, 0}, {});
  const auto put = it().run("app", "record put copied 1 --from value");
  EXPECT_EQ(put.status, 3);
  EXPECT_THAT(put.output, HasSubstr("specification create copied"));
  EXPECT_EQ(it().run("crypto", "reencrypt start copied").status, 3);
  EXPECT_EQ(it().run("crypto", "specification create copied").status, 0);
  EXPECT_EQ(it().run("app", "record put copied 1 --from value").status, 0);
}

TEST_P(RecordsTest, R12_AKeyWithRecordsIsNotDestroyedByItsAgent) {
  it().specify("kept");
  ASSERT_EQ(it().run("crypto", "specification access kept --from access.json").status, 0);
  it().write("value", "v");
  ASSERT_EQ(it().run("app", "record put kept 1 --from value").status, 0);
  const Json shown = it().process.json("app", "specification show kept").at("specifications").at(0);
  const std::string kid = shown.at("active");
  EXPECT_EQ(it().reported(kid), 1);
  EXPECT_EQ(it().destroy(kid), Code::kKeyState);
}

}  // namespace
}  // namespace keyagent::test
