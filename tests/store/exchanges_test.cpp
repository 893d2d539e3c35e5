// SPDX-License-Identifier: Apache-2.0
#include "agent/store/exchanges.h"

#include <gtest/gtest.h>

#include <thread>

#include "agent/store/engine/database.h"
#include "agent/store/events.h"
#include "agent/store/peers.h"
#include "tests/store/both.h"
#include "tests/store/samples.h"

namespace keyagent::store {
namespace {

using namespace std::chrono_literals;

Peer sample_peer(const std::string& name) {
  return {.identity = "identity-" + name,
          .name = name,
          .spki = random_bytes(91),
          .url = "https://" + name + ":8443",
          .ca = "ca",
          .automatic = "{\"frequencies\":[\"adhoc\"]}",
          .owner = "mine",
          .epoch = 7,
          .epoch_jws = "a.b.c",
          .added_by = "ada",
          .added = kNow,
          .seen = at(0)};
}

Exchange sample_exchange(const std::string& id) {
  return {.id = id,
          .side = "source",
          .own = "mine",
          .peer = "identity-1",
          .frequency = "recurring-clone",
          .specifications = {"cards", kAwkward},
          .rekey = true,
          .state = "pending",
          .code = "DENIED",
          .text = kAwkward,
          .digest = "digest",
          .requested_by = kAwkward,
          .approved_by = "bob",
          .period = 24h,
          .series = id,
          .next = kNow + 24h,
          .created = kNow,
          .changed = kNow + 1ms,
          .expires = kNow + 1h,
          .faults = 2,
          .looks = 3,
          .due = kNow,
          .exported = true,
          .told = true,
          .retried = true,
          .taken = true,
          .offer = "{}",
          .transcript = "hash",
          .own_statement = "a.b.c",
          .peer_statement = "d.e.f",
          .revision = 0};
}

void expect_equal(const Exchange& a, const Exchange& b) {
  EXPECT_EQ(std::tie(a.id, a.number, a.side, a.own, a.peer, a.frequency, a.specifications, a.rekey,
                     a.state, a.code, a.text, a.digest, a.requested_by, a.approved_by),
            std::tie(b.id, b.number, b.side, b.own, b.peer, b.frequency, b.specifications, b.rekey,
                     b.state, b.code, b.text, b.digest, b.requested_by, b.approved_by));
  EXPECT_EQ(std::tie(a.period, a.series, a.next, a.created, a.changed, a.expires, a.faults, a.looks,
                     a.due, a.exported, a.told, a.retried, a.taken, a.offer, a.transcript,
                     a.own_statement, a.peer_statement, a.revision),
            std::tie(b.period, b.series, b.next, b.created, b.changed, b.expires, b.faults, b.looks,
                     b.due, b.exported, b.told, b.retried, b.taken, b.offer, b.transcript,
                     b.own_statement, b.peer_statement, b.revision));
}

class ExchangesStore : public BothTest {
 protected:
  Exchange add(const Exchange& exchange) {
    EXPECT_TRUE(store().exchanges().add(exchange, 100, sample_event()));
    return store().exchanges().find(exchange.id).value();
  }
  std::vector<std::string> due(WallTime now, const std::string& own = "mine") {
    std::vector<std::string> ids;
    for (const auto& each : store().exchanges().due(own, now, 10)) ids.push_back(each.id);
    return ids;
  }
};
KEYAGENT_ON_BOTH(ExchangesStore);
using Ids = std::vector<std::string>;

TEST_P(ExchangesStore, PeerIsReadBackChangedOnceAndRemoved) {
  auto peer = sample_peer("1");
  EXPECT_TRUE(store().peers().add(peer));
  EXPECT_FALSE(store().peers().add(peer));
  auto namesake = sample_peer("1");
  namesake.identity = "other";
  EXPECT_FALSE(store().peers().add(namesake));
  const auto read = store().peers().find(peer.identity).value();
  EXPECT_EQ(std::tie(read.name, read.spki, read.url, read.ca, read.automatic, read.owner,
                     read.epoch, read.epoch_jws, read.added_by, read.added, read.seen),
            std::tie(peer.name, peer.spki, peer.url, peer.ca, peer.automatic, peer.owner,
                     peer.epoch, peer.epoch_jws, peer.added_by, peer.added, peer.seen));
  peer.url = "https://elsewhere:1";
  EXPECT_TRUE(store().peers().update(peer));
  EXPECT_FALSE(store().peers().update(peer));  // of a revision that was
  EXPECT_EQ(store().peers().all().at(0).url, "https://elsewhere:1");
  EXPECT_TRUE(store().peers().remove(peer.identity));
  EXPECT_FALSE(store().peers().remove(peer.identity));
}

TEST_P(ExchangesStore, X3_IdentityIsReplacedWithItsRequestsAndNotByOneThatIsInUse) {
  auto one = sample_peer("1");
  ASSERT_TRUE(store().peers().add(one));
  ASSERT_TRUE(store().peers().add(sample_peer("2")));
  auto exchange = sample_exchange("1");
  exchange.own = "OWN";
  exchange.peer = one.identity;
  ASSERT_TRUE(store().exchanges().add(exchange, 10, sample_event()));
  EXPECT_FALSE(store().peers().replace(one.identity, sample_peer("2").identity));
  EXPECT_FALSE(store().peers().replace("nobody", "NEW"));
  EXPECT_EQ(store().exchanges().find(exchange.id)->peer, one.identity);
  EXPECT_TRUE(store().peers().replace(one.identity, "NEW"));
  EXPECT_FALSE(store().peers().find(one.identity));
  EXPECT_EQ(store().peers().find("NEW")->automatic, one.automatic);
  EXPECT_EQ(store().exchanges().find(exchange.id)->peer, "NEW");
  EXPECT_EQ(store().exchanges().find(exchange.id)->own, "OWN");
  store().peers().replace_own_identity("OTHER", "X", sample_event());
  EXPECT_EQ(store().exchanges().find(exchange.id)->own, "OWN");
  store().peers().replace_own_identity("OWN", "X", sample_event("exchange.identity"));
  EXPECT_EQ(store().exchanges().find(exchange.id)->own, "X");
  EXPECT_EQ(store().events().list(0, 10).back().action, "exchange.identity");
}

TEST_P(ExchangesStore, Fault132_EpochOfAPeerOnlyRises) {
  store().peers().add(sample_peer("1"));
  store().peers().note("identity-1", 6, "old", kNow);
  EXPECT_EQ(store().peers().find("identity-1")->epoch, 7);
  EXPECT_EQ(store().peers().find("identity-1")->epoch_jws, "a.b.c");
  EXPECT_EQ(store().peers().find("identity-1")->seen, kNow);
  store().peers().note("identity-1", 8, "new", kNow);
  EXPECT_EQ(store().peers().find("identity-1")->epoch_jws, "new");
}

TEST_P(ExchangesStore, Fault96_NonceOfAPeerIsGoodOnceUntilItIsForgotten) {
  EXPECT_TRUE(store().peers().use_nonce("1", "n", kNow + 1s));
  EXPECT_FALSE(store().peers().use_nonce("1", "n", kNow + 1s));
  EXPECT_TRUE(store().peers().use_nonce("2", "n", kNow + 1s));
  store().forget_expired(kNow);
  EXPECT_FALSE(store().peers().use_nonce("1", "n", kNow + 1s));
  store().forget_expired(kNow + 1s);
  EXPECT_TRUE(store().peers().use_nonce("1", "n", kNow + 9s));
}

TEST_P(ExchangesStore, RequestIsReadBackInEveryFieldAndThereOnce) {
  auto exchange = sample_exchange("1");
  const auto added = add(exchange);
  exchange.number = added.number;
  expect_equal(added, exchange);
  EXPECT_FALSE(store().exchanges().add(exchange, 100, sample_event()));
  EXPECT_EQ(store().events().list(0, 10).size(), 1u);
  expect_equal(store().exchanges().list({.own = "mine", .state = "pending"}).at(0), exchange);
  EXPECT_TRUE(store().exchanges().list({.own = "of a clone"}).empty());
  EXPECT_TRUE(store().exchanges().list({.own = "mine", .side = "target"}).empty());
  add(sample_exchange("2"));
  EXPECT_EQ(store().exchanges().list({.own = "mine"}).at(0).id, "2");
}

TEST_P(ExchangesStore, MoreOpenRequestsThanAllowedAreNotTaken) {
  auto first = add(sample_exchange("1"));
  EXPECT_EQ(code_of([&] { store().exchanges().add(sample_exchange("2"), 1, sample_event()); }),
            Code::kBusy);
  first.state = "complete";
  EXPECT_TRUE(store().exchanges().move(first));
  EXPECT_TRUE(store().exchanges().add(sample_exchange("2"), 1, sample_event()));
}

TEST_P(ExchangesStore, Fault136_ChangeOfAnOldRevisionIsNone) {
  const auto read = add(sample_exchange("1"));
  auto mine = read, theirs = read;
  mine.state = "approved";
  theirs.state = "rejected";
  const std::vector<ExchangeKey> keys{{"cards", "kid-1", "", "", "", "package"}};
  const std::vector<ExchangeKey> others{{"cards", "kid-1", "", "", "", ""},
                                        {"cards", "kid-2", "", "", "", ""}};
  EXPECT_TRUE(store().exchanges().move(mine, &keys, sample_event("moved")));
  EXPECT_FALSE(store().exchanges().move(theirs, &others, sample_event("not moved")));
  EXPECT_EQ(store().exchanges().find("1")->state, "approved");
  EXPECT_EQ(store().exchanges().find("1")->revision, 1);
  EXPECT_EQ(store().exchanges().keys("1").size(), 1u);
  EXPECT_EQ(store().events().list(0, 10).size(), 2u);
}

TEST_P(ExchangesStore, KeysAreReplacedAndPackagesAreDeletedWhenNoLongerNeeded) {
  auto exchange = add(sample_exchange("1"));
  const auto move = [&](const std::string& state, const std::vector<ExchangeKey>& keys) {
    exchange.state = state;
    ASSERT_TRUE(store().exchanges().move(exchange, keys.empty() ? nullptr : &keys));
    ++exchange.revision;
  };
  move("exported", {{"pins", "kid-2", "", "", "", "two"}, {"pins", "gone", "", "", "", ""}});
  move("exported", {{"pins", "kid-2", "", "", "", "two"},
                    {"cards", "kid-1", "failed", "TOKEN_FAULT", kAwkward, "one"}});
  move("exported", {});
  const auto keys = store().exchanges().keys("1");
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(std::tie(keys[0].specification, keys[0].kid, keys[0].outcome, keys[0].code,
                     keys[0].text, keys[0].package),
            std::make_tuple("cards", "kid-1", "failed", "TOKEN_FAULT", kAwkward, "one"));
  EXPECT_EQ(keys[1].package, "two");
  move("imported", {});
  for (const auto& each : store().exchanges().keys("1")) EXPECT_EQ(each.package, "");
}

TEST_P(ExchangesStore, DueIsWhatIsToBeDoneNowByThisIdentityAlone) {
  auto later = sample_exchange("later");
  later.due = kNow + 1s;
  auto never = sample_exchange("never");
  never.due = at(0);
  auto again = never;
  again.id = "again";
  again.next = kNow;
  auto other = sample_exchange("other");
  other.own = "of a clone";
  for (auto each : {later, never, again, other, sample_exchange("now")}) {
    if (each.id != "again") each.next = at(0);
    add(each);
  }
  EXPECT_EQ(due(kNow), (Ids{"now", "again"}));
  EXPECT_EQ(due(kNow + 1s), (Ids{"now", "later", "again"}));
  EXPECT_EQ(due(kNow, "of a clone"), Ids{"other"});
}

}  // namespace
}  // namespace keyagent::store
