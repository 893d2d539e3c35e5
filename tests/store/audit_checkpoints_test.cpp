// SPDX-License-Identifier: Apache-2.0
// Checkpoints of the days: what a newer one does not replace.

#include "agent/store/audit_checkpoints.h"

#include <gtest/gtest.h>

#include "agent/store/agents.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

class CheckpointDays : public BothTest {
 protected:
  void SetUp() override {
    BothTest::SetUp();
    if (IsSkipped()) return;
    for (const auto* id : {"host-1", "host-2"}) {
      auto agent = sample_agent(id);
      agent.state = "trusted";
      store().agents().add(agent);
    }
  }
  // The size that is the newest afterwards; 0: not taken.
  std::int64_t keep(std::int64_t size, const std::string& time, const std::string& agent = "host-1",
                    const std::string& hash = "hash") {
    const auto kept =
        store().audit_checkpoints().keep({.agent = agent,
                                          .enrolled = store().agents().find(agent).value().enrolled,
                                          .size = size,
                                          .hash = hash,
                                          .kid = "kid",
                                          .text = "{\"size\":" + std::to_string(size) + "}",
                                          .noted = parse_rfc3339(time + ".000Z")});
    return kept ? kept->size : 0;
  }
  std::optional<store::AuditCheckpoint> newest() {
    return store().audit_checkpoints().find("host-1",
                                            store().agents().find("host-1").value().enrolled);
  }
  // "TIME SIZE" of each, the newest first.
  std::vector<std::string> days(const std::string& agent = "host-1") {
    std::vector<std::string> out;
    for (const auto& each : store().audit_checkpoints().days(agent)) {
      EXPECT_EQ(each.text, "{\"size\":" + std::to_string(each.size) + "}");
      EXPECT_EQ(each.agent, agent);
      out.push_back(rfc3339(each.noted).substr(0, 16) + " " + std::to_string(each.size));
    }
    return out;
  }
  using List = std::vector<std::string>;
};
KEYAGENT_ON_BOTH(CheckpointDays);

TEST_P(CheckpointDays, Fault138_TheFirstOfEachDayStaysAndTheNewestIsKeptBesides) {
  if (IsSkipped()) return;
  EXPECT_EQ(keep(100, "2026-02-01T10:00:00"), 100);
  EXPECT_EQ(keep(200, "2026-02-01T23:59:59"), 200);
  EXPECT_EQ(days(), List{"2026-02-01T10:00 100"});
  EXPECT_EQ(keep(200, "2026-02-02T00:00:00"), 200) << "nothing was recorded in between";
  EXPECT_EQ(days(), (List{"2026-02-02T00:00 200", "2026-02-01T10:00 100"}));
  EXPECT_EQ(keep(150, "2026-02-03T00:00:00"), 200);
  EXPECT_EQ(keep(200, "2026-02-03T00:00:00", "host-1", "another"), 200);
  EXPECT_EQ(days().size(), 2u) << "what is refused is of no day";
  // Neither an accepted log nor another enrollment replaces one.
  const auto shown = newest().value();
  ASSERT_EQ(keep(201, "2026-02-02T00:30:00"), 201);
  EXPECT_FALSE(store().audit_checkpoints().forget(shown, sample_event()))
      << "another than was seen";
  ASSERT_TRUE(store().audit_checkpoints().forget(newest().value(), sample_event()));
  EXPECT_EQ(keep(7, "2026-02-02T01:00:00"), 7);
  auto agent = store().agents().find("host-1").value();
  agent.enrolled += 1h;
  ASSERT_TRUE(store().agents().update(agent));
  EXPECT_EQ(keep(5, "2026-02-02T02:00:00"), 5);
  EXPECT_EQ(days(), (List{"2026-02-02T00:00 200", "2026-02-01T10:00 100"}));
  EXPECT_EQ(keep(6, "2026-02-04T00:00:00"), 6);
  const auto newest = store().audit_checkpoints().days("host-1").at(0);
  EXPECT_EQ(newest.size, 6);
  EXPECT_EQ(newest.enrolled, agent.enrolled);
  agent = store().agents().find("host-1").value();
  agent.state = "suspended";
  ASSERT_TRUE(store().agents().update(agent));
  EXPECT_EQ(keep(9, "2026-02-05T00:00:00"), 0);
  EXPECT_EQ(days().size(), 3u);
}

TEST_P(CheckpointDays, Fault155_AnAgentHasThirtyDays) {
  if (IsSkipped()) return;
  const auto begin = parse_rfc3339("2026-02-01T12:00:00.000Z");
  EXPECT_EQ(keep(1, "2026-02-01T12:00:00", "host-2"), 1);
  for (int day = 0; day < kMaxCheckpointDays + 10; ++day)
    ASSERT_EQ(keep(day + 1, rfc3339(begin + day * 24h).substr(0, 19)), day + 1);
  const auto kept = days();
  ASSERT_EQ(kept.size(), static_cast<std::size_t>(kMaxCheckpointDays));
  EXPECT_EQ(kept.front(), "2026-03-12T12:00 40");
  EXPECT_EQ(kept.back(), "2026-02-11T12:00 11");
  EXPECT_EQ(days("host-2"), List{"2026-02-01T12:00 1"}) << "of another agent";
}

}  // namespace
}  // namespace keyagent::store
