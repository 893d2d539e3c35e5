// SPDX-License-Identifier: Apache-2.0
// The census as callers may report and read it.

#include <gtest/gtest.h>

#include "agent/base/encoding.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

constexpr const char* kCensusPolicy = R"(
rules:
  - name: admin
    allow: [create, rekey, public, status, audit, admin]
    who: {user: "1000"}
  - name: keeper
    allow: [rekey, public, status]
    keys: ["backup-*"]
    who: {user: "1002"}
  - name: other-keeper
    allow: [rekey, public, status]
    keys: ["other-*"]
    who: {user: "1003"}
)";

class GateCensusTest : public GateTest {
 protected:
  static constexpr std::uint32_t kKeeper = 1002, kOther = 1003;
  GateCensusTest() { policy_ = policy::parse_policy(kCensusPolicy, "policy.yml"); }

  wire::Response report(std::uint32_t uid, const std::string& source,
                        const std::vector<std::string>& kids, std::uint64_t count = 3) {
    wire::Request request;
    request.mutable_census_report()->set_source(source);
    for (const auto& kid : kids) {
      auto& entry = *request.mutable_census_report()->add_entries();
      entry.set_kid(kid);
      entry.set_count(count);
    }
    return ask(uid, request);
  }
  wire::CensusListReply list(std::uint32_t uid) {
    wire::Request request;
    request.mutable_census_list();
    return ask(uid, request).census_list();
  }
};

TEST_F(GateCensusTest, Fault154_CountsAboutForeignKeysAreRefusedKeyByKey) {
  const auto own = create("backup-1", "transport", "ec-p256").kid();
  const auto foreign = create("other-1", "transport", "ec-p256").kid();
  const std::string unknown = to_base64url(random_bytes(32));
  const auto refused = report(kKeeper, "/srv", {foreign, unknown});
  EXPECT_EQ(refused.failure().code(), wire::DENIED);
  EXPECT_EQ(report(kKeeper, "/srv", {foreign}).failure().text(),
            report(kKeeper, "/srv", {unknown}).failure().text())
      << "the same text for a missing key";
  const auto part = report(kKeeper, "/srv", {own, foreign, unknown, "no kid"});
  EXPECT_EQ(part.census_report().refused_size(), 3) << part.failure().text();
  EXPECT_EQ(keys_.sealed_count(Kid(own)), 3u);
  EXPECT_EQ(keys_.sealed_count(Kid(foreign)), 0u);
}

TEST_F(GateCensusTest, Fault154_CountsDoNotWrapAround) {
  const auto own = create("backup-1", "transport", "ec-p256").kid();
  EXPECT_EQ(report(kKeeper, "/srv", {own}, 1ULL << 63).failure().code(), wire::USAGE);
  EXPECT_FALSE(report(kKeeper, "/srv", {own, own, own}).has_failure());
  EXPECT_EQ(keys_.sealed_count(Kid(own)), 9u);
}

TEST_F(GateCensusTest, Fault154_SourcesAndTheirNamesAreBounded) {
  options_.census.sources_per_uid = 2;
  options_.census.source_bytes = 16;
  const auto own = create("backup-1", "transport", "ec-p256").kid();
  EXPECT_EQ(report(kKeeper, std::string(17, 's'), {own}).failure().code(), wire::USAGE);
  EXPECT_FALSE(report(kKeeper, "a", {own}).has_failure());
  EXPECT_FALSE(report(kKeeper, "b", {}).has_failure());
  EXPECT_EQ(report(kKeeper, "c", {}).failure().code(), wire::KEY_STATE);
  const auto foreign = create("other-1", "transport", "ec-p256").kid();
  EXPECT_FALSE(report(kOther, "c", {foreign}).has_failure()) << "another user's share";
}

TEST_F(GateCensusTest, Fault154_PathsAreShownToTheirReporterAndAdminsOnly) {
  const auto own = create("backup-1", "transport", "ec-p256").kid();
  report(kKeeper, "/srv/secret-project", {own});
  EXPECT_EQ(list(kKeeper).entries_size(), 1);
  EXPECT_EQ(list(kAdmin).entries_size(), 1);
  const auto hidden = list(kOther);
  EXPECT_EQ(hidden.entries_size(), 0);
  EXPECT_EQ(hidden.other_sources(), 1u);
  EXPECT_EQ(hidden.others_size(), 0) << "of a key that the caller may not see";
  EXPECT_EQ(hidden.SerializeAsString().find("secret-project"), std::string::npos);
}

// Anyone who may not count a key cannot have it destroyed by finding nothing elsewhere.
TEST_F(GateCensusTest, Fault154_AnEmptyScanCountsForTheCallersOwnKeysOnly) {
  create("backup-vault", "storage");
  const auto old = keys_.find("backup-vault").kid;
  runner_.begin({KeyName("backup-vault"), {}, {}, keys::Span(0)}, {"test"});
  runner_.run(keys::Span(0));
  EXPECT_FALSE(report(kOther, "/empty", {}).has_failure());
  EXPECT_FALSE(keys_.counted_since(old, WallTime{}));
  EXPECT_FALSE(report(kKeeper, "/looked-at", {}).has_failure());
  EXPECT_TRUE(keys_.counted_since(old, WallTime{}));
}

TEST_F(GateCensusTest, Fault154_TasksAreShownToWhoTookThem) {
  struct TasksOfTwo final : NoLink {
    void tasks(wire::TaskListReply& reply) const override {
      for (const std::uint32_t uid : {kKeeper, kOther, kOther}) {
        reply.add_tasks()->set_uid(uid);
        reply.mutable_tasks()->rbegin()->set_handler("handler of " + std::to_string(uid));
      }
    }
  } link;
  gate_ = std::make_unique<Gate>(options_, services(link), timer_.timer());
  wire::Request request;
  request.mutable_task_list();
  const auto own = ask(kKeeper, request).task_list();
  ASSERT_EQ(own.tasks_size(), 1);
  EXPECT_EQ(own.tasks(0).uid(), kKeeper);
  EXPECT_EQ(own.others(), 2u);
  EXPECT_EQ(ask(kAdmin, request).task_list().tasks_size(), 3);
}

}  // namespace
}  // namespace keyagent::gate
