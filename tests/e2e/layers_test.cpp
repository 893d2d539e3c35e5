// SPDX-License-Identifier: Apache-2.0
// X16: an error names the layer that is at fault, by its code, and the key that it is about.

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "agent/base/error.h"
#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

// Faults of a real agent on a real token, and what `keyagent --json` says of each.
class LayersTest : public testing::Test {
 protected:
  void SetUp() override {
    host_.shimmed = true;
    host_.token_extra = "  deadline: 2s\n  stuck-exit: 600s\n";
    host_.start();
    ASSERT_TRUE(host_.serving()) << host_.story();
    for (const std::string name : {"signer", "sleeper", "lost"})
      kids_[name] = host_.json("key create " + name + " --purpose sign").at("kid");
    kids_["box"] = host_.json("key create box --purpose transport --algorithm rsa-2048").at("kid");
    host_.write("text", "a secret");
    ASSERT_EQ(host_.keyagent("seal text --key box -o sealed").status, 0);
  }
  // Runs the command; it must fail with this code, from this layer, about this key (empty: none).
  void expect(Code code, Layer layer, const std::string& words, const std::string& kid = {}) {
    const auto result = host_.keyagent("--json " + words);
    EXPECT_EQ(result.status, exit_code(code)) << words << "\n" << result.output;
    const Json said = Json::parse(result.output, nullptr, false);
    ASSERT_TRUE(said.is_object() && said.contains("error")) << words << "\n" << result.output;
    const Json& error = said.at("error");
    EXPECT_EQ(error.at("code"), std::string(code_name(code))) << words << "\n" << error;
    EXPECT_EQ(error.at("exit"), exit_code(code));
    EXPECT_EQ(layer_of(code_of_name(error.at("code").get<std::string>())), layer) << error;
    if (!kid.empty()) {
      EXPECT_EQ(error.at("kid"), kid) << words << "\n" << error;
    }
    codes_.insert(error.at("code").get<std::string>());
  }
  std::string flipped(const std::string& envelope) const {
    std::string text = envelope;
    const auto at = text.rfind('.') + 5;  // in the tag
    text[at] = text[at] == 'A' ? 'B' : 'A';
    return text;
  }

  Host host_;
  std::map<std::string, std::string> kids_;
  std::set<std::string> codes_;
};

TEST_F(LayersTest, X16_TwelveFaultsHaveTwelveCodesOfTheirLayers) {
  const std::string sign = "sign text -o out --key ";
  expect(Code::kUsage, Layer::kCaller, "key create Bad/Name --purpose sign");
  expect(Code::kConfirm, Layer::kCaller, "key destroy signer </dev/null", kids_["signer"]);
  expect(Code::kExists, Layer::kKey, "key create signer --purpose transport");
  ASSERT_EQ(host_.keyagent("key suspend sleeper").status, 0);
  expect(Code::kKeyState, Layer::kKey, sign + "sleeper", kids_["sleeper"]);
  // Sealed to a key that this agent does not have.
  Host stranger;
  stranger.start();
  const std::string theirs =
      stranger.json("key create box --purpose transport --algorithm rsa-2048").at("kid");
  stranger.write("text", "another");
  ASSERT_EQ(stranger.keyagent("seal text --key box -o sealed").status, 0);
  host_.write("foreign", stranger.read("sealed"));
  expect(Code::kKeyNotPresent, Layer::kKey, "open foreign", theirs);
  host_.write("spoiled", flipped(host_.read("sealed")));
  expect(Code::kInput, Layer::kIntegrity, "open spoiled");
  // Policy.
  host_.set_policy(AgentProcess::allowing("open, seal, public, status, admin, create, suspend"));
  auto connection = host_.client();
  wire::Request reload;
  reload.mutable_reload();
  connection.call(reload);
  expect(Code::kDenied, Layer::kPolicy, sign + "signer", kids_["signer"]);
  // The token: it fails, it is full, it does not answer, it is absent, it refuses the PIN.
  host_.set_policy(
      AgentProcess::allowing("open, seal, sign, public, status, admin, create, destroy"));
  connection.call(reload);
  host_.set_faults("C_Sign:from=1:rv=0x30; C_GenerateRandom:from=1:rv=0x30");
  expect(Code::kTokenFault, Layer::kToken, sign + "signer");
  host_.set_faults("C_GenerateKeyPair:from=1:rv=0x31");
  EXPECT_TRUE(wait_until([&] { return host_.keyagent(sign + "signer").status == 0; }));
  expect(Code::kTokenFull, Layer::kToken, "key create more --purpose sign");
  host_.set_faults("C_Sign:n=1:hang");
  expect(Code::kDeadline, Layer::kToken, sign + "signer");
  host_.kill();
  std::filesystem::rename(host_.folder() / "tokens", host_.folder() / "away");
  std::filesystem::create_directory(host_.folder() / "tokens");
  host_.set_faults("");
  host_.start();
  expect(Code::kTokenAbsent, Layer::kToken, sign + "signer");
  host_.stop();
  std::filesystem::remove_all(host_.folder() / "tokens");
  std::filesystem::rename(host_.folder() / "away", host_.folder() / "tokens");
  host_.AgentProcess::write("pin", "another-pin\n", 0400);
  host_.start();
  expect(Code::kPinRefused, Layer::kToken, sign + "signer");
  // The agent does not run.
  host_.stop();
  expect(Code::kPeer, Layer::kPeer, "status");
  EXPECT_GE(codes_.size(), 12u);
}

}  // namespace
}  // namespace keyagent::test
