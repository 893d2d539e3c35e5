// SPDX-License-Identifier: Apache-2.0
// The texts of a key exchange: what is read, and that nothing else is.

#include "agent/exchange/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "tests/support/software_keys.h"

namespace keyagent::exchange {
namespace {

using Json = nlohmann::json;

Code code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::kOk;
}

class PackageTest : public ::testing::Test {
 protected:
  PackageTest() {
    identity_ = keys_.add("exchange-identity", Purpose::kIdentity, KeyAlgorithm::kEcP256);
    other_ = keys_.add("other-identity", Purpose::kSign, KeyAlgorithm::kEcP256);
    package_.request = "req-1";
    package_.specification = "customers";
    package_.source = identity_.kid;
    package_.target = other_.kid;
    package_.exchange_kid = Kid(to_base64url(Bytes(32, 7)));
    package_.kid = Kid(std::string(32, 'a'));
    package_.created = parse_rfc3339("2026-01-01T00:00:00.000Z");
    package_.issued = parse_rfc3339("2026-11-21T07:05:05.431Z");
    package_.expires = parse_rfc3339("2026-11-22T07:05:05.431Z");
    package_.wrapped = Bytes(424, 9);
  }
  std::string sign() { return sign_package(keys_, identity_, package_); }
  Json payload() {
    const std::string jws = sign();
    const auto first = jws.find('.'), last = jws.rfind('.');
    return Json::parse(as_text(*from_base64url(jws.substr(first + 1, last - first - 1))));
  }

  test::SoftwareKeys keys_;
  PublicKeyInfo identity_, other_;
  Package package_;
};

TEST_F(PackageTest, IsReadBackAsItWasSigned) {
  const Package read = open_package(identity_, sign());
  EXPECT_EQ(read.request, package_.request);
  EXPECT_EQ(read.specification, package_.specification);
  EXPECT_EQ(read.source, package_.source);
  EXPECT_EQ(read.target, package_.target);
  EXPECT_EQ(read.exchange_kid, package_.exchange_kid);
  EXPECT_EQ(read.kid, package_.kid);
  EXPECT_EQ(read.created, package_.created);
  EXPECT_EQ(read.state, package_.state);
  EXPECT_EQ(read.oaep, package_.oaep);
  EXPECT_EQ(read.wrapped, package_.wrapped);
  EXPECT_EQ(read.issued, package_.issued);
  EXPECT_EQ(read.expires, package_.expires);
}

// The shape that is agreed on with other implementations.
TEST_F(PackageTest, HasExactlyTheMembersOfTheFormat) {
  const Json json = payload();
  std::vector<std::string> names;
  for (const auto& [name, value] : json.items()) names.push_back(name);
  EXPECT_THAT(names,
              ::testing::ElementsAre("exchange_kid", "expires", "format", "issued", "key", "oaep",
                                     "request", "source", "specification", "target", "wrapped"));
  EXPECT_EQ(json["key"].size(), 4u);
  EXPECT_EQ(json["key"]["algorithm"], "aes-256");
  EXPECT_EQ(json["oaep"], "sha1");
}

TEST_F(PackageTest, Fault095_ASignatureOfAnotherKeyIsRefused) {
  EXPECT_EQ(code_of([&] { open_package(other_, sign()); }), Code::kIntegrity);
}

// RELIABILITY 98: one identity signs several kinds of text.
TEST_F(PackageTest, Fault098_ASignatureOverATextOfAnotherTypeIsRefused) {
  const std::string text = payload().dump();
  for (const std::string_view type : {std::string_view(), kOfferType}) {
    const auto jws =
        envelope::sign_jws(keys_, identity_, SignatureAlgorithm::kEs256, as_bytes(text), type);
    EXPECT_EQ(code_of([&] { open_package(identity_, jws); }), Code::kIntegrity);
  }
  const auto offer = sign_offer(keys_, identity_, {package_.exchange_kid, {OaepHash::kSha1}, {}});
  EXPECT_EQ(code_of([&] { open_package(identity_, offer); }), Code::kIntegrity);
  EXPECT_EQ(code_of([&] { open_offer(identity_, sign()); }), Code::kIntegrity);
}

TEST_F(PackageTest, EveryMemberThatIsMissingMoreOrOfAnotherFormIsRefused) {
  const Json good = payload();
  ASSERT_EQ(code_of([&] { parse_package(good.dump()); }), Code::kOk);
  for (const auto& [name, value] : good.items()) {
    Json bad = good;
    bad.erase(name);
    EXPECT_EQ(code_of([&] { parse_package(bad.dump()); }), Code::kIntegrity) << name;
    for (const Json& wrong : {Json(nullptr), Json(7), Json(""), Json("\n"), Json::array(),
                              Json(std::string(500, '!')), Json({{"kid", 1}})}) {
      bad[name] = wrong;
      EXPECT_EQ(code_of([&] { parse_package(bad.dump()); }), Code::kIntegrity)
          << name << " " << wrong;
    }
  }
  for (const auto& [name, value] : good["key"].items()) {
    Json bad = good;
    bad["key"].erase(name);
    EXPECT_EQ(code_of([&] { parse_package(bad.dump()); }), Code::kIntegrity) << name;
    bad["key"][name] = "x";
    EXPECT_EQ(code_of([&] { parse_package(bad.dump()); }), Code::kIntegrity) << name;
  }
  Json more = good;
  more["note"] = "x";
  EXPECT_EQ(code_of([&] { parse_package(more.dump()); }), Code::kIntegrity);
  more = good;
  more["key"]["value"] = "x";
  EXPECT_EQ(code_of([&] { parse_package(more.dump()); }), Code::kIntegrity);
  std::string twice = good.dump();
  twice.insert(1, "\"request\":\"req-2\",");
  EXPECT_EQ(code_of([&] { parse_package(twice); }), Code::kIntegrity);
  for (const char* state : {"staged", "suspended", "compromised", "destroyed"}) {
    more = good;
    more["key"]["state"] = state;
    EXPECT_EQ(code_of([&] { parse_package(more.dump()); }), Code::kIntegrity) << state;
  }
}

TEST_F(PackageTest, NoChangedCharacterIsEverTaken) {
  const std::string good = sign();
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = bad[at] == 'A' ? 'B' : 'A';
    ASSERT_EQ(code_of([&] { open_package(identity_, bad); }), Code::kIntegrity) << at;
  }
  EXPECT_EQ(code_of([&] { open_package(identity_, good + std::string(kMaxPackage, 'A')); }),
            Code::kIntegrity);
}

TEST_F(PackageTest, AnOfferIsReadBackAndRefusedInOtherForms) {
  const Offer offer{package_.exchange_kid, {OaepHash::kSha256, OaepHash::kSha1}, package_.issued};
  const Offer read = open_offer(identity_, sign_offer(keys_, identity_, offer));
  EXPECT_EQ(read.exchange_kid, offer.exchange_kid);
  EXPECT_EQ(read.oaep, offer.oaep);
  EXPECT_EQ(read.issued, offer.issued);
  const Json good{{"format", 1},
                  {"exchange_kid", package_.exchange_kid.text()},
                  {"oaep", {"sha1"}},
                  {"issued", "2026-11-21T07:05:05.431Z"}};
  ASSERT_EQ(code_of([&] { parse_offer(good.dump()); }), Code::kOk);
  for (const auto& [name, value] : good.items()) {
    for (const Json& wrong : {Json(nullptr), Json(2), Json("x"), Json::array(), Json({"md5"}),
                              Json({"sha1", "sha1", "sha1"}), Json({1})}) {
      Json bad = good;
      bad[name] = wrong;
      EXPECT_EQ(code_of([&] { parse_offer(bad.dump()); }), Code::kIntegrity) << name << wrong;
    }
  }
}

TEST_F(PackageTest, NamesOfRequestsAndSpecificationsAreBounded) {
  for (const char* good : {"a", "0b3c-ffee", "R.1_2"}) EXPECT_NO_THROW(require_request_id(good));
  for (const char* bad : {"", "-a", "a b", "a/b", "\xc3\xa4"})
    EXPECT_EQ(code_of([&] { require_request_id(bad); }), Code::kUsage) << bad;
  EXPECT_EQ(code_of([&] { require_request_id(std::string(65, 'a')); }), Code::kUsage);
  for (const char* good : {"a", "customers", "pay.2-x_y"})
    EXPECT_NO_THROW(require_specification(good));
  for (const char* bad : {"", ".a", "Customers", "a b"})
    EXPECT_EQ(code_of([&] { require_specification(bad); }), Code::kUsage) << bad;
  EXPECT_NO_THROW(require_specification(std::string(41, 'a')));
  EXPECT_EQ(code_of([&] { require_specification(std::string(42, 'a')); }), Code::kUsage);
}

}  // namespace
}  // namespace keyagent::exchange
