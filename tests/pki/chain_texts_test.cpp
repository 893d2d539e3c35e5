// SPDX-License-Identifier: Apache-2.0
// One chain whatever the order of the file, and what a refusal tells a person.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/pki/chain.h"
#include "tests/pki/authority.h"

namespace keyagent::pki {
namespace {

using namespace test;
using testing::HasSubstr;

TEST(Chain, T3_EveryOrderOfAFileGivesTheSameChain) {
  const House house;
  const Party old = issue({"old", nullptr, kAuthority});
  const Party cross = issue({"root", &old, kAuthority, house.root.key, -30, 200});
  auto scene = house.scene({house.leaf(), house.middle, house.root, cross, old});
  scene.anchors.clear();
  auto certificates = scene.certificates();
  std::sort(certificates.begin(), certificates.end());
  const auto first = make_chain(certificates, scene.rules()).certificates;
  EXPECT_EQ(first, (std::vector<Bytes>{scene.file[0].der(), house.middle.der(), house.root.der()}));
  int orders = 0;
  do {
    EXPECT_EQ(make_chain(certificates, scene.rules()).certificates, first);
    ++orders;
  } while (std::next_permutation(certificates.begin(), certificates.end()));
  EXPECT_EQ(orders, 120);
}

TEST(Chain, T3_ARefusalNamesTheKeyAndTheFix) {
  const House house;
  const auto text = [](const Scene& scene) -> std::string {
    try {
      scene.make();
    } catch (const ChainError& error) {
      return error.what();
    }
    return "taken";
  };
  auto other = house.scene({house.leaf(), house.middle});
  const std::string its = jwk_thumbprint(spki_of(house.key));
  other.key = ec_key();
  EXPECT_THAT(text(other), testing::AllOf(HasSubstr(its), HasSubstr("CN=leaf"),
                                          HasSubstr(jwk_thumbprint(spki_of(other.key)))));
  const Party old = issue({"leaf", &house.middle, {}, house.key, -30, 300, X509_VERSION_1});
  EXPECT_THAT(text(house.scene({old})), HasSubstr("-extfile"));
  EXPECT_THAT(text(house.scene({house.leaf(kServer, nullptr, -300, -1)})),
              HasSubstr("2026-05-31 12:00 UTC"));
  auto host = house.scene({house.leaf(), house.middle});
  host.host = "other.example.org";
  EXPECT_THAT(text(host), HasSubstr("DNS:www.example.org, IP:192.0.2.1"));
  const Party odd = issue({"a\nb\x1b[1m", &house.middle, kServer, house.key, -300, -1});
  EXPECT_THAT(text(house.scene({odd})), testing::Not(HasSubstr("\x1b")));
}

TEST(Chain, WhatMaySurpriseIsNoted) {
  const House house;
  auto scene = house.scene({house.leaf(without(kServer, "subjectAltName"), nullptr, -30, 20),
                            house.middle, issue({"stranger", nullptr, kAuthority})});
  scene.anchors.clear();
  EXPECT_THAT(scene.make().notes,
              testing::ElementsAre(HasSubstr("1 of the file's"), HasSubstr("--ca"),
                                   HasSubstr("subjectAltName"), HasSubstr("2026-06-21")));
  EXPECT_TRUE(house.scene({house.leaf(), house.middle}).make().notes.empty());
}

}  // namespace
}  // namespace keyagent::pki
