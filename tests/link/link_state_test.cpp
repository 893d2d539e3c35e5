// SPDX-License-Identifier: Apache-2.0
// What is kept of an enrollment, and the arithmetic of a certificate's life.

#include "agent/link/link_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/link/certificates.h"
#include "agent/link/instance_connection.h"
#include "agent/link/renewal.h"
#include "agent/pki/revocation_list.h"
#include "tests/pki/authority.h"
#include "tests/support/code_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_ca.h"

namespace keyagent::link {
namespace {

using ::testing::HasSubstr;

LinkState some() {
  LinkState state;
  state.stage = LinkState::Stage::kTrusted;
  state.url = "https://instance:8443";
  state.agent = "web1";
  state.auth_key = "identity";
  state.transport_key = "credentials";
  state.certificates["kid"] = "PEM";
  state.orders["order-1"] = 7;
  return state;
}

TEST(PauseAfter, Fault135_GrowsToItsLimitAndIsSpreadSoThatAFleetDoesNotComeBackAtOnce) {
  const Timing timing;
  for (int failures : {1, 2, 3, 6, 7, 40, 100000}) {
    const auto most = std::min<std::chrono::milliseconds>(
        timing.first_pause * (1LL << std::min(failures - 1, 16)), timing.longest_pause);
    std::array<int, 10> parts{};
    for (int i = 0; i < 2000; ++i) {
      const auto pause = pause_after(failures, timing);
      ASSERT_GE(pause, most / 2) << failures;
      ASSERT_LE(pause, most) << failures;
      ++parts[std::min<std::size_t>(
          9, static_cast<std::size_t>(10 * (pause - most / 2) / (most / 2)))];
    }
    // 200 expected in each; fewer than 100 is more than seven standard deviations off.
    for (const int part : parts) EXPECT_GE(part, 100) << "after " << failures << " failures";
  }
}

TEST(LinkState, WhatIsWrittenIsReadAgain) {
  EXPECT_EQ(parse_link_state(to_text(some())), some());
}

TEST(LinkState, AnythingElseIsRefused) {
  const std::string good = to_text(some());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const auto at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const auto& text :
       {std::string("{}"), std::string("[]"), good.substr(0, good.size() / 2),
        with("\"format\": 1", "\"format\": 2"), with("\"trusted\"", "\"believed\""),
        with("\"url\"", "\"uri\""), with("\"web1\"", "17"), with("7", "\"7\""),
        with("\"agent\"", "\"extra\": \"\", \"agent\"")}) {
    EXPECT_EQ(code_of([&] { parse_link_state(text); }), Code::kIntegrity) << text;
  }
}

TEST(LinkStore, KeepsWithMode0600AndForgets) {
  const test::TempFolder folder;
  LinkStore store(folder.path());
  EXPECT_EQ(store.get(), nullptr);
  store.put(some());
  EXPECT_EQ(std::filesystem::status(folder.path() / "link.json").permissions(),
            std::filesystem::perms(0600));
  store.update([](LinkState& state) { state.crl = "new"; });
  EXPECT_EQ(LinkStore(folder.path()).get()->crl, "new");
  store.remove();
  EXPECT_EQ(LinkStore(folder.path()).get(), nullptr);
}

TEST(LinkStore, DamagedFileCountsAsNotEnrolledAndReportsTheFix) {
  const test::TempFolder folder;
  std::ofstream(folder.path() / "link.json") << "{\"format\": 1";
  const LinkStore store(folder.path());
  EXPECT_EQ(store.get(), nullptr);
  EXPECT_THAT(store.fault(), HasSubstr("--replace"));
}

TEST(Renewal, T8_IsAtTwoThirdsOfItsLifeALittleEarlierForEachKey) {
  Leaf leaf;
  leaf.not_after = leaf.not_before + std::chrono::hours(24 * 60);
  const auto last = leaf.not_before + std::chrono::hours(24 * 40);
  std::set<WallTime> all;
  for (int i = 0; i < 100; ++i) {
    const auto at = renew_at(leaf, "kid" + std::to_string(i));
    EXPECT_LE(at, last);
    EXPECT_GE(at, last - std::chrono::hours(24 * 3));
    EXPECT_EQ(at, renew_at(leaf, "kid" + std::to_string(i)));
    all.insert(at);
  }
  EXPECT_GT(all.size(), 50u);
}

TEST(Renewal, T8_DaysLeftAreThoseThatArePassed) {
  Leaf leaf;
  const WallTime now = std::chrono::system_clock::now();
  const auto at = [&](int hours) {
    leaf.not_after = now + std::chrono::hours(hours);
    return days_left(leaf, now);
  };
  EXPECT_EQ(at(24 * 31), std::nullopt);
  EXPECT_EQ(at(24 * 30), 30);
  EXPECT_EQ(at(24 * 14), 14);
  EXPECT_EQ(at(24 * 7), 7);
  EXPECT_EQ(at(24 * 2), 7);
  EXPECT_EQ(at(23), 1);
  EXPECT_EQ(at(-1), 0);
}

class Certificates : public testing::Test {
 protected:
  Code judge(const std::vector<Bytes>& chain, WallTime now = std::chrono::system_clock::now()) {
    return code_of([&] { require_ours(chain, ca_.root(), key_.spki, "web1", now); });
  }
  static test::TestCa::Wish wish(const std::string& san = "DNS:web1") {
    return {"web1", san, "clientAuth"};
  }
  const test::TestCa ca_, other_{"other root"};
  const test::SoftwareKey key_ = test::make_software_key();
};

TEST_F(Certificates, T9_OursIsTheOneForOurKeyAndOurIdFromOurCa) {
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish())}), Code::kOk);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish()), ca_.root()}), Code::kOk);
  EXPECT_EQ(judge({}), Code::kIntegrity);
  EXPECT_EQ(judge({other_.issue(key_.spki, wish())}), Code::kIntegrity);
  EXPECT_EQ(judge({ca_.issue(test::make_software_key().spki, wish())}), Code::kIntegrity);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish("DNS:web2"))}), Code::kIntegrity);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish("DNS:web1,DNS:web2"))}), Code::kIntegrity);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish(""))}), Code::kIntegrity);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish("DNS:web1,IP:192.0.2.1"))}), Code::kIntegrity);
  EXPECT_EQ(judge({Bytes{0x30, 0x00}}), Code::kIntegrity);
  const auto server = test::TestCa::Wish{"web1", "DNS:web1", "serverAuth"};
  EXPECT_EQ(judge({ca_.issue(key_.spki, server)}), Code::kIntegrity);
  const auto later = std::chrono::system_clock::now() + std::chrono::hours(48);
  EXPECT_EQ(judge({ca_.issue(key_.spki, wish())}, later), Code::kIntegrity);
}

TEST_F(Certificates, OursIsKeptWithItsLeafFirstAndWithoutWhatDoesNotBelongToIt) {
  const auto leaf = ca_.issue(key_.spki, wish());
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(require_ours({other_.root(), ca_.root(), leaf}, ca_.root(), key_.spki, "web1", now),
            (std::vector<Bytes>{leaf, ca_.root()}));
}

TEST_F(Certificates, ARevocationListIsTheInstancesOrRefused) {
  const auto list = [](const test::TestCa& by) { return pki::crl_pem(by.revoke({})); };
  EXPECT_FALSE(revocation_list_of_pem(list(ca_), ca_.root()).empty());
  EXPECT_EQ(code_of([&] { revocation_list_of_pem(list(other_), ca_.root()); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { revocation_list_of_pem("hello", ca_.root()); }), Code::kIntegrity);
}

TEST_F(Certificates, AConfirmationKeyIsOneThatSignsOrRefused) {
  EXPECT_EQ(signing_key_of(key_.spki).algorithm, KeyAlgorithm::kEcP256);
  EXPECT_EQ(code_of([] { signing_key_of(Bytes{1, 2, 3}); }), Code::kIntegrity);
  const auto rsa = test::spki_of(test::rsa_key(1024));
  EXPECT_EQ(code_of([&] { signing_key_of(rsa); }), Code::kIntegrity);
}

TEST_F(Certificates, InvalidPemIsRefused) {
  EXPECT_EQ(code_of([] { certificates_of_pem("hello"); }), Code::kIntegrity);
  const auto pem = test::certificate_pem(ca_.root());
  EXPECT_EQ(certificates_of_pem(pem), std::vector<Bytes>{ca_.root()});
  EXPECT_EQ(pem_of_certificates({ca_.root()}), pem);
  EXPECT_EQ(fingerprint_of(ca_.root()), ca_.spki_sha256());
}

}  // namespace
}  // namespace keyagent::link
