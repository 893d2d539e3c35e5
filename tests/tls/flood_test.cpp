// SPDX-License-Identifier: Apache-2.0
// Addresses that flood a server lose their own connections (RELIABILITY 152).

#include <algorithm>
#include <vector>

#include "agent/tls/address_places.h"
#include "agent/tls/handshake_queue.h"
#include "tests/support/flooder.h"
#include "tests/tls/tls_fixture.h"

namespace keyagent::tls::test {
namespace {

using keyagent::test::Stranger;

struct Guest final : Occupant {
  explicit Guest(Standing what) : what_(what) {}
  Standing standing() const override { return what_; }
  void make_room(const char*) override { gone = true; }
  Standing what_;
  bool gone = false;
};

TEST(AddressPlaces, Fault152_AnAddressLosesItsOwnOldestInTheOrderOfTheirStandings) {
  AddressPlaces places(4, 100);
  Guest known{Standing::kKnownIdle}, slow{Standing::kSlow}, idle{Standing::kIdle},
      busy{Standing::kWorking}, other{Standing::kSilent};
  for (Guest* each : {&known, &slow, &idle, &busy}) {
    EXPECT_TRUE(places.make_room_for("a"));
    places.enter("a", *each);
  }
  places.enter("b", other);
  for (Guest* each : {&idle, &slow, &known}) {
    EXPECT_TRUE(places.make_room_for("a"));
    EXPECT_TRUE(each->gone);
    places.enter("a", busy);
  }
  EXPECT_FALSE(places.make_room_for("a")) << "what the server works on is not ended";
  EXPECT_FALSE(other.gone);
  EXPECT_EQ(places.of("a"), 4u);
  places.leave("a", known);  // had left
  EXPECT_EQ(places.size(), 5u);
}

TEST(AddressPlaces, Fault152_WhenAllPlacesAreTakenTheAddressWithTheMostLosesOne) {
  AddressPlaces places(100, 5);
  std::vector<Guest> many(4, Guest(Standing::kSilent));
  std::vector<Guest> fresh(2, Guest(Standing::kSilent));
  Guest one{Standing::kSilent};
  for (auto& each : many) places.enter("many", each);
  places.enter("one", one);
  for (int newcomer = 0; newcomer < 2; ++newcomer) {
    EXPECT_TRUE(places.make_room_for("new" + std::to_string(newcomer)));
    EXPECT_TRUE(many[static_cast<std::size_t>(newcomer)].gone);
    places.enter("new" + std::to_string(newcomer), fresh[static_cast<std::size_t>(newcomer)]);
  }
  EXPECT_FALSE(one.gone);
  EXPECT_EQ(places.size(), 5u);
}

TEST(AddressPlaces, Fault152_AnIdleConnectionIsClosedBeforeWorkingOnesOfAnAddressWithMore) {
  AddressPlaces places(100, 4);
  Guest busy{Standing::kWorking}, idle{Standing::kKnownIdle};
  for (int i = 0; i < 3; ++i) places.enter("busy", busy);
  places.enter("idle", idle);
  EXPECT_TRUE(places.make_room_for("new"));
  EXPECT_TRUE(idle.gone);
  EXPECT_FALSE(busy.gone);
  places.enter("new", busy);
  EXPECT_FALSE(places.make_room_for("another")) << "all of them work";
}

TEST(HandshakeQueue, Fault152_AddressesTakeTurns) {
  HandshakeQueue queue(1);
  std::string order;
  for (const std::string address : {"a", "a", "a", "b", "c"})
    queue.push(address, [&order, address] { order += address; });
  EXPECT_EQ(order, "a");
  for (int i = 0; i < 4; ++i) queue.done();
  EXPECT_EQ(order, "aabca") << "the second a was queued before b came";
}

class TlsFlood : public Tls {
 protected:
  Server& bounded(std::size_t per_address, std::size_t total) {
    auto settings = options();
    settings.client_certificate = ClientCertificate::kOptional;
    settings.connections_per_address = per_address;
    settings.connections = total;
    settings.handshake_timeout = settings.idle_timeout = 10min;
    return serve(identity("server"), trust(), settings);
  }
  std::vector<Stranger> strangers(int count, bool in_tls) const {
    std::vector<Stranger> out;
    for (int i = 0; i < count; ++i) {
      out.emplace_back("127.0.0.2", server_->port());
      if (in_tls) out.back().handshake();
    }
    return out;
  }
  static std::size_t open(const std::vector<Stranger>& all) {
    return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const auto& each) {
      return each.connected() && !each.ended();
    }));
  }
};

TEST_F(TlsFlood, Fault152_SilentAndIdleConnectionsEndForNewerOnesOfTheirAddressAlone) {
  bounded(40, 20000);
  auto known = client();
  ASSERT_EQ(known.call("GET", "/", "").status, 200);
  Stranger neighbor("127.0.0.1", server_->port());
  for (const bool in_tls : {false, true}) {
    const auto flood = strangers(300, in_tls);
    EXPECT_TRUE(eventually([&] { return open(flood) <= 40; })) << open(flood);
    for (int i = 0; i < 20; ++i) ASSERT_EQ(client().call("GET", "/", "").status, 200);
    // Nor is the address without service, whose oldest connection ends for the next.
    Stranger late("127.0.0.2", server_->port());
    EXPECT_TRUE(late.handshake());
    EXPECT_NE(late.post("/", "{}"), 0);
  }
  EXPECT_FALSE(neighbor.ended()) << "of another address";
  EXPECT_EQ(known.call("GET", "/", "").status, 200);
}

TEST_F(TlsFlood, Fault152_AnAddressThatHasAllPlacesGivesOneToEachNewcomer) {
  bounded(10000, 60);
  const auto flood = strangers(200, false);
  EXPECT_TRUE(eventually([&] { return open(flood) <= 60; })) << open(flood);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(client().call("GET", "/", "").status, 200);
}

}  // namespace
}  // namespace keyagent::tls::test
