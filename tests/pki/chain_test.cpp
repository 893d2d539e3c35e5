// SPDX-License-Identifier: Apache-2.0
// Chains as authorities and people make them, right and wrong, in the classes of x509-limbo.

#include "agent/pki/chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "tests/pki/authority.h"

namespace keyagent::pki {
namespace {

using namespace test;

struct Case {
  const char* name;
  std::optional<ChainFault> refused;  // nullopt: taken
  std::size_t size;                   // of the chain, or 0: not checked
  std::function<Scene(const House&)> make;
};

class Chains : public testing::TestWithParam<Case> {};

TEST_P(Chains, Fault129_AreTakenOrRefusedForTheirReason) {
  const House house;
  const auto& [name, refused, size, make] = GetParam();
  const Scene scene = make(house);
  try {
    const Chain chain = scene.make();
    EXPECT_FALSE(refused.has_value()) << "it was taken";
    EXPECT_EQ(size > 0 ? chain.certificates.size() : 0, size);
    EXPECT_EQ(certificate_facts(chain.certificates.front()).spki, spki_of(scene.key));
  } catch (const ChainError& error) {
    ASSERT_TRUE(refused.has_value()) << error.what();
    EXPECT_EQ(static_cast<int>(error.fault()), static_cast<int>(*refused)) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "one line for a person";
  }
}

constexpr auto kTaken = std::nullopt;
using enum ChainFault;

const Case kOrders[] = {
    {"LeafThenMiddle", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle});
     }},
    {"MiddleThenLeaf", kTaken, 2,
     [](auto& h) {
       return h.scene({h.middle, h.leaf()});
     }},
    {"RootFirst", kTaken, 3,
     [](auto& h) {
       return h.scene({h.root, h.middle, h.leaf()});
     }},
    {"Shuffled", kTaken, 3,
     [](auto& h) {
       return h.scene({h.middle, h.root, h.leaf()});
     }},
    {"LeafAlone", kTrust, 0, [](auto& h) { return h.scene({h.leaf()}); }},
    {"LeafAloneOfTheRoot", kTaken, 1, [](auto& h) { return h.scene({h.leaf(kServer, &h.root)}); }},
    {"LeafAloneWithoutAuthorities", kTaken, 1,
     [](auto& h) { return h.scene({h.leaf()}).unanchored(); }},
    {"MiddleTwice", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle, h.middle});
     }},
    {"AStrangerBesides", kTaken, 2,
     [](auto& h) {
       return h.scene({issue({"stranger", nullptr, kAuthority}), h.leaf(), h.middle});
     }},
    {"TheMiddleIsTheAuthority", kTaken, 2,
     [](auto& h) {
       auto scene = h.scene({h.leaf(), h.middle});
       scene.anchors = {h.middle};
       return scene;
     }},
    {"SelfSignedAndTrusted", kTaken, 1,
     [](auto& h) {
       const Party self = issue({"leaf", nullptr, kServer, h.key});
       auto scene = h.scene({self});
       scene.anchors = {self};
       return scene;
     }},
    {"SelfSignedAndNot", kTrust, 0,
     [](auto& h) {
       return h.scene({issue({"leaf", nullptr, kServer, h.key})});
     }},
    {"TheLeafDoesNotVouchForItself", kTrust, 0,
     [](auto& h) {
       auto scene = h.scene({h.leaf(), h.middle});
       scene.anchors = {scene.file[0]};
       return scene;
     }},
    {"TheRenewedOneOfTwo", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(kServer, nullptr, -300, -10), h.leaf(), h.middle});
     }},
    {"AnotherKeys", kOtherKey, 0,
     [](auto& h) {
       auto scene = h.scene({h.leaf(), h.middle});
       scene.key = ec_key();
       return scene;
     }},
    {"AnotherKeysOfAnotherKind", kOtherKey, 0,
     [](auto& h) {
       auto scene = h.scene({issue({"leaf", &h.middle, kServer, ec_key("P-521")}), h.middle});
       return scene;
     }},
    {"OnlyTheAuthorities", kOtherKey, 0,
     [](auto& h) {
       return h.scene({h.middle, h.root});
     }},
};

const Case kTimes[] = {
    {"Expired", kValidity, 0,
     [](auto& h) {
       return h.scene({h.leaf(kServer, nullptr, -300, -1), h.middle});
     }},
    {"NotYetValid", kValidity, 0,
     [](auto& h) {
       return h.scene({h.leaf(kServer, nullptr, 1, 300), h.middle});
     }},
    {"NeverValid", kValidity, 0,
     [](auto& h) {
       return h.scene({h.leaf(kServer, nullptr, 10, -10), h.middle});
     }},
    {"ExpiredWithoutAuthorities", kValidity, 0,
     [](auto& h) { return h.scene({h.leaf(kServer, nullptr, -300, -1)}).unanchored(); }},
    {"ExpiredMiddle", kValidity, 0,
     [](auto& h) {
       const Party old = issue({"old", &h.root, kAuthority, ec_key(), -300, -1});
       return h.scene({h.leaf(kServer, &old), old});
     }},
    {"ExpiredRoot", kValidity, 0,
     [](auto& h) {
       const Party old = issue({"old", nullptr, kAuthority, ec_key(), -300, -1});
       auto scene = h.scene({h.leaf(kServer, &old)});
       scene.anchors = {old};
       return scene;
     }},
    {"LongerThanAnyCalendar", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(kServer, nullptr, -30, 2'900'000), h.middle});
     }},
};

const Case kUses[] = {
    {"Version1", kForm, 0,
     [](auto& h) {
       return h.scene({issue({"leaf", &h.middle, {}, h.key, -30, 300, X509_VERSION_1}), h.middle});
     }},
    {"Version3WithoutExtensions", kForm, 0,
     [](auto& h) {
       return h.scene({h.leaf(Extensions{}), h.middle});
     }},
    {"Version1OfASignKeyToo", kForm, 0,
     [](auto& h) {
       auto scene =
           h.scene({issue({"leaf", &h.middle, {}, h.key, -30, 300, X509_VERSION_1}), h.middle});
       scene.tls = false;
       return scene;
     }},
    {"NoExtendedKeyUsage", kUse, 0,
     [](auto& h) {
       return h.scene({h.leaf(without(kServer, "extendedKeyUsage")), h.middle});
     }},
    {"NoExtendedKeyUsageOfASignKey", kTaken, 2,
     [](auto& h) {
       auto scene = h.scene({h.leaf(without(kServer, "extendedKeyUsage")), h.middle});
       scene.tls = false;
       return scene;
     }},
    {"ServerOnly", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"extendedKeyUsage", "serverAuth"}})), h.middle});
     }},
    {"ClientOnly", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"extendedKeyUsage", "clientAuth"}})), h.middle});
     }},
    {"CodeSigningOnly", kUse, 0,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"extendedKeyUsage", "codeSigning"}})), h.middle});
     }},
    {"AnyUse", kUse, 0,
     [](auto& h) {
       return h.scene(
           {h.leaf(with(kServer, {{"extendedKeyUsage", "anyExtendedKeyUsage"}})), h.middle});
     }},
    {"AnAuthoritysCertificate", kUse, 0,
     [](auto& h) {
       return h.scene(
           {h.leaf(with(kServer, {{"basicConstraints", "critical,CA:TRUE"}})), h.middle});
     }},
    {"KeyUsageWithoutSignature", kUse, 0,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"keyUsage", "critical,keyAgreement"},
                                             {"extendedKeyUsage", "clientAuth"}})),
                       h.middle});
     }},
    {"MiddleForClientsLeafForServers", kUse, 0,
     [](auto& h) {
       return h.below({{"extendedKeyUsage", "clientAuth"}},
                      with(kServer, {{"extendedKeyUsage", "serverAuth"}}));
     }},
    {"MiddleForServersLeafForBoth", kUse, 0,
     [](auto& h) {
       return h.below({{"extendedKeyUsage", "serverAuth"}});
     }},
    {"MiddleForServersLeafForServers", kTaken, 2,
     [](auto& h) {
       return h.below({{"extendedKeyUsage", "serverAuth"}},
                      with(kServer, {{"extendedKeyUsage", "serverAuth"}}));
     }},
};

const Case kAuthorities[] = {
    {"MiddleIsNoAuthority", kTrust, 0,
     [](auto& h) {
       return h.below({{"basicConstraints", "critical,CA:FALSE"}});
     }},
    {"MiddleHasNoBasicConstraints", kTrust, 0,
     [](auto& h) {
       const Party made = issue({"other", &h.root, {{"subjectKeyIdentifier", "hash"}}});
       return h.scene({h.leaf(kServer, &made), made});
     }},
    {"MiddleIsVersion1", kTrust, 0,
     [](auto& h) {
       const Party made = issue({"other", &h.root, {}, ec_key(), -30, 300, X509_VERSION_1});
       return h.scene({h.leaf(kServer, &made), made});
     }},
    {"MiddleMayNotSignCertificates", kTrust, 0,
     [](auto& h) {
       return h.below({{"keyUsage", "critical,digitalSignature"}});
     }},
    {"PathLengthZeroAboveALeaf", kTaken, 2,
     [](auto& h) {
       return h.below({{"basicConstraints", "critical,CA:TRUE,pathlen:0"}});
     }},
    {"PathLengthZeroAboveAnAuthority", kTrust, 0,
     [](auto& h) {
       const Party upper = h.authority({{"basicConstraints", "critical,CA:TRUE,pathlen:0"}});
       const Party lower = issue({"lower", &upper, kAuthority});
       return h.scene({h.leaf(kServer, &lower), lower, upper});
     }},
    {"PathLengthZeroAboveAnAuthorityWithoutAnchors", kTrust, 0,
     [](auto& h) {
       const Party upper = h.authority({{"basicConstraints", "critical,CA:TRUE,pathlen:0"}});
       const Party lower = issue({"lower", &upper, kAuthority});
       return h.scene({h.leaf(kServer, &lower), lower, upper, h.root}).unanchored();
     }},
    {"PathLengthOne", kTaken, 3,
     [](auto& h) {
       const Party upper = h.authority({{"basicConstraints", "critical,CA:TRUE,pathlen:1"}});
       const Party lower = issue({"lower", &upper, kAuthority});
       return h.scene({lower, h.leaf(kServer, &lower), upper});
     }},
    {"WrongAuthority", kTrust, 0,
     [](auto& h) {
       auto scene = h.scene({h.leaf(), h.middle});
       scene.anchors = {issue({"stranger", nullptr, kAuthority})};
       return scene;
     }},
    {"AuthorityOfTheSameName", kTrust, 0,
     [](auto& h) {
       auto scene = h.scene({h.leaf(), h.middle});
       scene.anchors = {issue({"root", nullptr, kAuthority})};
       return scene;
     }},
    {"MiddleOfTheSameName", kTrust, 0,
     [](auto& h) {
       return h.scene({h.leaf(), issue({"middle", &h.root, kAuthority})});
     }},
    {"MiddleOfTheSameNameWithoutAnchors", kTrust, 0,
     [](auto& h) {
       return h.scene({h.leaf(), issue({"middle", &h.root, kAuthority})}).unanchored();
     }},
    {"BothMiddlesOfTheName", kTaken, 2,
     [](auto& h) {
       return h.scene({issue({"middle", &h.root, kAuthority}), h.leaf(), h.middle}).unanchored();
     }},
    {"CrossSignedToTheOldRoot", kTaken, 3,
     [](auto& h) {
       const Party old = issue({"old", nullptr, kAuthority});
       const Party cross = issue({"root", &old, kAuthority, h.root.key});
       auto scene = h.scene({h.leaf(), cross, h.middle});
       scene.anchors = {old};
       return scene;
     }},
    {"CrossSignedToTheNewRoot", kTaken, 2,
     [](auto& h) {
       const Party old = issue({"old", nullptr, kAuthority});
       const Party cross = issue({"root", &old, kAuthority, h.root.key});
       return h.scene({h.leaf(), cross, h.middle});
     }},
    {"CrossSignedByAnExpiredRootWithoutAnchors", kTaken, 3,
     [](auto& h) {
       const Party old = issue({"old", nullptr, kAuthority, ec_key(), -300, -1});
       const Party cross = issue({"root", &old, kAuthority, h.root.key, -300, -1});
       return h.scene({cross, old, h.leaf(), h.middle, h.root}).unanchored();
     }},
    {"EachOthersIssuer", kTrust, 0,
     [](auto& h) {
       const Pkey a = ec_key(), b = ec_key();
       const Party first = issue({"b", nullptr, kAuthority, b});
       const Party ours = issue({"a", &first, kAuthority, a});
       const Party theirs = issue({"b", &ours, kAuthority, b});
       return h.scene({h.leaf(kServer, &ours), ours, theirs});
     }},
    {"WeakAuthority", kTrust, 0,
     [](auto& h) {
       const Party weak = issue({"weak", &h.root, kAuthority, rsa_key(1024)});
       return h.scene({h.leaf(kServer, &weak), weak});
     }},
    {"Sha1", kTrust, 0,
     [](auto& h) {
       Wanted wanted{"leaf", &h.middle, kServer, h.key};
       wanted.hash = EVP_sha1();
       return h.scene({issue(wanted), h.middle});
     }},
    {"UnknownCriticalExtension", kTrust, 0,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"1.2.3.4", "critical,DER:0500"}})), h.middle});
     }},
    {"UnknownExtension", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"1.2.3.4", "DER:0500"}})), h.middle});
     }},
    {"MalformedExtension", kForm, 0,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"2.5.29.19", "DER:0501"}})), h.middle});
     }},
    {"SpoiledSignature", kTrust, 0,
     [](auto& h) {
       Party leaf = h.leaf();
       const Party liar{ec_key(), h.middle.certificate};  // signs as if it were the middle
       return h.scene({h.leaf(kServer, &liar), h.middle});
     }},
};

const Case kNames[] = {
    {"PermittedName", kTaken, 2,
     [](auto& h) {
       return h.below({{"nameConstraints", "critical,permitted;DNS:example.org"}},
                      with(kServer, {{"subjectAltName", "DNS:www.example.org"}}));
     }},
    {"NotPermittedName", kTrust, 0,
     [](auto& h) {
       return h.below({{"nameConstraints", "critical,permitted;DNS:example.com"}},
                      with(kServer, {{"subjectAltName", "DNS:www.example.org"}}));
     }},
    {"ExcludedName", kTrust, 0,
     [](auto& h) {
       return h.below({{"nameConstraints", "critical,excluded;DNS:www.example.org"}});
     }},
    {"ExcludedNameWithoutAnchors", kTrust, 0,
     [](auto& h) {
       return h.below({{"nameConstraints", "critical,excluded;DNS:www.example.org"}}).unanchored();
     }},
    {"ExcludedAddress", kTrust, 0,
     [](auto& h) {
       return h.below({{"nameConstraints", "critical,excluded;IP:192.0.2.0/255.255.255.0"}});
     }},
    {"TheHost", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle}).asked_for("www.example.org");
     }},
    {"AnotherHost", kName, 0,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle}).asked_for("mail.example.org");
     }},
    {"AHostBelowAWildcard", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"subjectAltName", "DNS:*.example.org"}})), h.middle})
           .asked_for("mail.example.org");
     }},
    {"AHostTwoBelowAWildcard", kName, 0,
     [](auto& h) {
       return h.scene({h.leaf(with(kServer, {{"subjectAltName", "DNS:*.example.org"}})), h.middle})
           .asked_for("a.mail.example.org");
     }},
    {"AHostInTheSubjectOnly", kName, 0,
     [](auto& h) {
       return h.scene({h.leaf(without(kServer, "subjectAltName")), h.middle}).asked_for("leaf");
     }},
    {"TheAddress", kTaken, 2,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle}).asked_for("192.0.2.1");
     }},
    {"AnotherAddress", kName, 0,
     [](auto& h) {
       return h.scene({h.leaf(), h.middle}).asked_for("192.0.2.2");
     }},
    {"AThousandNames", kTaken, 2,
     [](auto& h) {
       std::string names = "DNS:a0.example.org";
       for (int i = 1; i < 1000; ++i) names += ",DNS:a" + std::to_string(i) + ".example.org";
       return h.scene({h.leaf(with(kServer, {{"subjectAltName", names}})), h.middle})
           .asked_for("a999.example.org");
     }},
    {"TwentyAuthorities", kTaken, 21,
     [](auto& h) {
       std::vector<Party> file{h.root};
       for (int i = 0; i < 19; ++i)
         file.push_back(issue({"n" + std::to_string(i), &file.back(), kAuthority}));
       file.push_back(h.leaf(kServer, &file.back()));
       std::reverse(file.begin() + 3, file.end() - 2);
       return h.scene(std::move(file));
     }},
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Order, Chains, testing::ValuesIn(kOrders), case_name);
INSTANTIATE_TEST_SUITE_P(Time, Chains, testing::ValuesIn(kTimes), case_name);
INSTANTIATE_TEST_SUITE_P(Use, Chains, testing::ValuesIn(kUses), case_name);
INSTANTIATE_TEST_SUITE_P(Authority, Chains, testing::ValuesIn(kAuthorities), case_name);
INSTANTIATE_TEST_SUITE_P(Name, Chains, testing::ValuesIn(kNames), case_name);

}  // namespace
}  // namespace keyagent::pki
