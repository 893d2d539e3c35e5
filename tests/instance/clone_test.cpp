// SPDX-License-Identifier: Apache-2.0
// MISSION.md X12: an instance, the copy of its data at another one, and every record read there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/instance/instance_process.h"
#include "tests/instance/simulated_agent.h"
#include "tests/support/postgres.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

constexpr int kRecords = 5;  // of each specification

class Clone : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "postgresql") {
      if (!Postgres::missing().empty()) GTEST_SKIP() << Postgres::missing() << " is not installed";
      for (auto* each : {&source_, &copy_}) each->store_url = Postgres::shared().new_database();
    }
    source_.extra += "credentials: {exchangeable: true}\n";
    source_.start();
    copy_.write_config();
    source_.add_user("crypto", "cryptographic-manager");
    source_.add_user("ops", "operator");
    for (const char* user : {"crypto", "ops"}) {
      ASSERT_EQ(source_.log_in(user).status, 0);
      std::filesystem::copy(source_.work.path() / (std::string(user) + ".pw"), copy_.work.path());
    }
    for (const char* specification : {"cards", "pay"}) fill(specification);
    put_credential(source_, "db", "s3cr3t");
    identity_ = source_.json("crypto", "exchange identity").at("identity");
    // What a copy must not inherit: a peer with automatic approval.
    const std::string third(43, 'A');
    ASSERT_EQ(source_.keyagent("crypto", "peer add third --identity=" + third).status, 0);
    ASSERT_EQ(source_.keyagent("crypto", "peer automatic third --frequency recurring-clone").status,
              0);
    copy_.allow_exchange_with(identity_);
  }

  void fill(const std::string& specification) {
    std::ofstream(source_.work.path() / "access.json") << Json{
        {{"rule", "all"},
         {"effect", "allow"},
         {"uses", {"encrypt", "decrypt", "exchange"}},
         {"roles", {"operator"}}},
        {{"rule", "away"},
         {"effect", "allow"},
         {"uses", {"exchange"}},
         {"roles", {"cryptographic-manager"}}}}.dump();
    source_.json("crypto",
                 "specification create " + specification + " --exchangeable --access access.json");
    for (int i = 0; i < kRecords; ++i) {
      std::ofstream(source_.work.path() / "value") << value(specification, i);
      ASSERT_EQ(source_
                    .keyagent("ops", "record put " + specification + " " + std::to_string(i) +
                                         " --from value")
                    .status,
                0);
    }
  }
  static void put_credential(const InstanceProcess& at, const std::string& name,
                             const std::string& token) {
    std::ofstream(at.work.path() / "value.json") << Json{{"token", token}}.dump();
    const auto put = at.keyagent(
        "ops", "credential put " + name + " --type api-token --from value.json --agent web1");
    ASSERT_EQ(put.status, 0) << put.output;
  }
  static std::string value(const std::string& specification, int i) {
    return specification + " secret " + std::to_string(i);
  }
  CommandResult clone(const std::string& more = {}, const std::string& store = {}) const {
    return copy_.keyinstanced("clone '" + (store.empty() ? source_.store_url : store) +
                              "' --peer source --identity=" + identity_ + " --url " +
                              source_.api_url() + " --ca=" + source_.fingerprint + " " + more);
  }
  static std::string after(const std::string& text, const std::string& what) {
    std::smatch found;
    return std::regex_search(text, found, std::regex(what + "([\\w-]+)")) ? found[1].str() : "";
  }
  // Serves, and its people are logged in.
  void serve() {
    copy_.start();
    for (const char* user : {"crypto", "ops"}) ASSERT_EQ(copy_.log_in(user).status, 0);
  }
  CommandResult get(const std::string& specification, int i) const {
    return copy_.keyagent("ops", "record get " + specification + " " + std::to_string(i));
  }

  InstanceProcess source_, copy_;
  std::string identity_;
};
INSTANTIATE_TEST_SUITE_P(On, Clone, testing::Values("sqlite", "postgresql"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(Clone, X12_EveryRecordIsThereAtOnceAndIsReadWhenTheKeysHaveCome) {
  const auto cloned = clone("--with-users");
  ASSERT_EQ(cloned.status, 0) << cloned.output;
  EXPECT_THAT(cloned.output, HasSubstr("specifications 3, records 11 (credentials 1), users 2"));
  EXPECT_THAT(cloned.output, HasSubstr("specification create --exchangeable"));
  const auto request = after(cloned.output, "request: "), own = after(cloned.output, "identity: ");
  ASSERT_NE(own, identity_);
  const auto again = clone("--with-users");
  EXPECT_EQ(again.status, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("already exists here"));
  EXPECT_EQ(after(again.output, "request: "), request);

  serve();
  const auto before = get("pay", 3);
  EXPECT_EQ(before.status, 3);
  EXPECT_THAT(before.output, HasSubstr("cannot be read"));
  EXPECT_THAT(before.output, HasSubstr(identity_));
  const auto listed = copy_.json("ops", "record list pay").at("records");
  ASSERT_EQ(listed.size(), static_cast<std::size_t>(kRecords));
  EXPECT_EQ(listed.at(0).at("readable"), false);
  SimulatedAgent web1(copy_, "web1");  // the copy's own
  ASSERT_EQ(web1.enrol(copy_.json("crypto", "token").at("token")).at("state"), "trusted");
  EXPECT_EQ(code_of([&] { web1.fetch("db"); }), Code::kDenied) << "assigned to no agent";
  ASSERT_EQ(copy_.keyagent("ops", "credential assign db --agent web1").status, 0);
  try {
    web1.fetch("db");
    ADD_FAILURE() << "without its key";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kKeyNotPresent);
    EXPECT_THAT(error.what(), HasSubstr(identity_));
  }
  put_credential(copy_, "own", "0wn");  // the other one is not in its way
  EXPECT_EQ(web1.fetch("own").at("token"), "0wn");
  const auto peers = copy_.json("crypto", "peer list").at("peers");
  ASSERT_EQ(peers.size(), 1u);  // `third` is not a peer of the copy
  EXPECT_EQ(peers.at(0).at("automatic"), nullptr);

  ASSERT_EQ(source_.keyagent("crypto", "peer add copy --identity=" + own).status, 0);
  ASSERT_EQ(source_
                .keyagent("crypto",
                          "peer automatic copy --frequency one-time-clone "
                          "--specification cards --specification pay "
                          "--specification instance-credentials")
                .status,
            0);
  source_.allow_exchange_with(own);
  ASSERT_EQ(copy_.keyagent("crypto", "exchange retry " + request).status, 0);
  const auto waited = copy_.keyagent("crypto", "exchange show " + request + " --wait --timeout 60");
  ASSERT_EQ(waited.status, 0) << waited.output << read_text(copy_.log());
  for (const char* specification : {"cards", "pay"}) {
    for (int i = 0; i < kRecords; ++i)
      EXPECT_EQ(get(specification, i).output, value(specification, i));
  }
  EXPECT_EQ(web1.fetch("db").at("token"), "s3cr3t");
  // The copy writes under its own key, once it has one.
  std::ofstream(copy_.work.path() / "value") << "new";
  const auto early = copy_.keyagent("ops", "record put pay new --from value");
  EXPECT_THAT(early.output, HasSubstr("specification create pay"));
  ASSERT_EQ(copy_.keyagent("crypto", "specification create pay").status, 0);
  ASSERT_EQ(copy_.keyagent("ops", "record put pay new --from value").status, 0);
  EXPECT_EQ(copy_.keyagent("ops", "record get pay new").output, "new");
  // What the source had allowed is used up, and its data are as they were.
  EXPECT_EQ(source_.json("crypto", "peer list").dump().find("one-time-clone"), std::string::npos);
  EXPECT_EQ(source_.keyagent("ops", "record get cards 0").output, value("cards", 0));
}

TEST_P(Clone, X12_InvalidClonesAreRefusedAndWithoutUsersNoUserOfTheSourceLogsIn) {
  const auto absent = clone("", "sqlite:///nowhere/instance.db");
  EXPECT_EQ(absent.status, 2) << absent.output;
  EXPECT_THAT(absent.output, HasSubstr("there is no store /nowhere/instance.db"));
  EXPECT_EQ(clone("", "mysql://somewhere").status, 2);
  EXPECT_EQ(clone("--frequency adhoc").status, 2);
  // Into a store that has data: its own.
  const auto full = source_.keyinstanced("clone '" + source_.store_url +
                                         "' --peer other --identity=" + std::string(43, 'A') +
                                         " --url https://other:1 --ca=" + source_.fingerprint);
  EXPECT_EQ(full.status, 3);
  EXPECT_THAT(full.output, HasSubstr("has records already"));
  EXPECT_EQ(source_.keyagent("ops", "record get cards 0").output, value("cards", 0));

  ASSERT_EQ(clone("--frequency recurring-clone --rekey").status, 0);
  copy_.start();
  EXPECT_NE(copy_.log_in("crypto").status, 0);
  copy_.add_user("boss", "admin");
  ASSERT_EQ(copy_.log_in("boss").status, 0);
  const auto asked = copy_.json("boss", "exchange list").at("exchanges").at(0);
  EXPECT_EQ(asked.at("frequency"), "recurring-clone");
  EXPECT_EQ(copy_.json("boss", "exchange show " + asked.at("id").get<std::string>()).at("rekey"),
            true);
  EXPECT_THAT(copy_.json("boss", "events").dump(), HasSubstr("instance.clone"));
}

}  // namespace
}  // namespace keyagent::test
