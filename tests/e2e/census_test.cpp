// SPDX-License-Identifier: Apache-2.0
// The agent is told a census only when every file was read, and after a reseal what the files name:
// a key that no count names may be destroyed.

#include <gmock/gmock.h>

#include <map>

#include "tests/e2e/host.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

class Census : public testing::Test {
 protected:
  Census() {
    host_.shimmed = true;
    host_.start();
    old_ = host_.json("key create credentials --purpose transport --algorithm rsa-2048").at("kid");
    std::filesystem::create_directory(host_.file("vault"));
  }
  void seal(int files) {
    for (int i = 0; i < files; ++i) {
      const auto sealed = host_.keyagent("seal - --key credentials -o vault/" + std::to_string(i),
                                         "printf secret |");
      ASSERT_EQ(sealed.status, 0) << sealed.output;
    }
  }
  void rekey() { new_ = host_.json("rekey credentials --wait").at("new_kid"); }
  // What the agent was told of a source, by kid.
  std::map<std::string, int> counts(const std::string& source) {
    std::map<std::string, int> found;
    const Json list = host_.json("census list").at("census");
    for (const auto& each : list) {
      if (each.at("source") == source && each.at("count") != 0)
        found[each.at("kid")] = each.at("count");
    }
    return found;
  }
  using Counts = std::map<std::string, int>;
  // By a user that the modes of files bind, as they do not bind root.
  CommandResult run(const std::string& words) const {
    const auto result = host_.keyagent(
        words, "", ::geteuid() == 0 ? "setpriv --bounding-set=-dac_override,-dac_read_search" : "");
    EXPECT_EQ(result.status, 7) << result.output;
    return result;
  }
  Json json(const std::string& words) const {
    return Json::parse(run("--json " + words).output, nullptr, false);
  }

  Host host_;
  std::string old_, new_;
};

TEST_F(Census, R12_AnUnreadableFileIsNamedAndTheCountsOfTheOthersAreNotReported) {
  seal(3);
  EXPECT_EQ(host_.json("census scan vault --source s").at("reported"), true);
  ASSERT_EQ(counts("s"), (Counts{{old_, 3}}));
  // The second may not be read; the third has gone since the list was written.
  std::filesystem::permissions(host_.file("vault/1"), std::filesystem::perms(0));
  host_.write("list", host_.file("vault/0").string() + "\n" + host_.file("vault/1").string() +
                          "\n" + host_.file("vault/gone").string() + "\n");
  const auto scanned = json("census scan --list list --source s");
  EXPECT_EQ(scanned.at("envelopes"), 1) << "the others are read";
  EXPECT_EQ(scanned.at("reported"), false);
  ASSERT_EQ(scanned.at("unreadable").size(), 2u) << scanned;
  EXPECT_THAT(scanned.at("unreadable").dump(), HasSubstr("vault/1"));
  EXPECT_THAT(scanned.at("unreadable").dump(), HasSubstr("vault/gone"));
  EXPECT_EQ(counts("s"), (Counts{{old_, 3}})) << "the earlier count stands";
  EXPECT_THAT(run("census scan vault --source s").output,
              testing::AllOf(HasSubstr("2 envelopes in 3 files"), HasSubstr("vault/1"),
                             HasSubstr("was not reported")));
  rekey();
  const auto resealed = json("reseal --list list --source s");
  EXPECT_EQ(resealed.at("resealed"), 1);
  EXPECT_EQ(resealed.at("unreadable").size(), 2u);
  EXPECT_EQ(counts("s"), (Counts{{old_, 3}}));
  EXPECT_EQ(host_.keyagent("census scan nowhere").status, 2) << "a mistake, not a file that left";
}

TEST_F(Census, R12_AFileThatCannotBeReplacedIsCountedOnceForItsOldKey) {
  seal(2);
  rekey();
  // No file may grow beyond 0 bytes: the new envelope cannot be written.
  const auto failed =
      host_.keyagent("reseal vault --source s", "trap '' XFSZ; ulimit -f 0; ", "env");
  EXPECT_EQ(failed.status, 7) << failed.output;
  EXPECT_EQ(counts("s"), (Counts{{old_, 2}})) << failed.output;
  EXPECT_EQ(host_.keyagent("reseal vault --source s").status, 0);
  EXPECT_EQ(counts("s"), (Counts{{new_, 2}}));
}

TEST_F(Census, R12_AResealThatTheTokenEndsCountsWhatItHasDone) {
  seal(6);
  EXPECT_EQ(host_.keyagent("census scan vault --source s").status, 0);
  rekey();
  host_.set_faults("C_Decrypt:from=6:rv=0x30");
  const auto ended = host_.keyagent("reseal vault --source s");
  EXPECT_EQ(ended.status, 4) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("files are left: repeat the command"));
  host_.set_faults("");
  const auto told = counts("s");
  EXPECT_EQ(host_.keyagent("census scan vault --source truth").status, 0);
  EXPECT_EQ(told, counts("truth"));
  EXPECT_EQ(told.size(), 2u) << "some were resealed: " << ended.output;
  EXPECT_TRUE(wait_until([&] { return host_.keyagent("reseal vault --source s").status == 0; }));
  EXPECT_EQ(counts("s"), (Counts{{new_, 6}}));
}

}  // namespace
}  // namespace keyagent::test
