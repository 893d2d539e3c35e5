// SPDX-License-Identifier: Apache-2.0
// RELIABILITY 157 and 166 with a real agent.

#include <gmock/gmock.h>

#include <atomic>

#include "agent/audit/record.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "tests/daemon/agent_process.h"
#include "tests/support/small_disk.h"
#include "tests/support/software_keys.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

enum class Tampering { kMissingFile, kOlderCopy, kTruncated, kRewritten, kUnknownKey };

class History : public testing::TestWithParam<Tampering> {
 protected:
  std::filesystem::path folder() const { return agent.state() / "audit"; }
  std::filesystem::path log() const { return folder() / audit::kLogName; }
  std::filesystem::path file() const { return folder() / audit::kCheckpointName; }

  void use_and_stop() {
    agent.start();
    if (std::exchange(made_, true) == false) agent.create("data", "sign", "ec-p256");
    auto connection = agent.client();
    for (int i = 0; i < 5; ++i) connection.call(AgentProcess::sign_request("data"));
    ASSERT_EQ(agent.stop(), 0) << agent.story();
  }
  void forge(bool with_checkpoint) const {
    std::ofstream out(log(), std::ios::trunc);
    std::string prev(audit::kGenesis);
    for (std::uint64_t seq = 0; seq < 60; ++seq) {
      audit::Event event;
      event.what = "sign";
      const auto line = audit::format_event(seq, WallTime{}, prev, event);
      prev = line.substr(line.rfind(",\"hash\":\"") + 9, 64);
      out << line << "\n";
    }
    std::filesystem::remove(file());
    if (!with_checkpoint) return;
    SoftwareKeys keys;
    const auto own = keys.add("audit", Purpose::kAudit, KeyAlgorithm::kEcP256);
    const auto payload = audit::checkpoint_payload(60, prev);
    const audit::CheckpointSignature signature{
        own.kid.text(), "ES256",
        keys.sign(own.kid, SignatureAlgorithm::kEs256, sha256(as_bytes(payload)))};
    out << audit::format_checkpoint(60, WallTime{}, prev, 60, signature) << "\n";
    std::ofstream(file()) << audit::format_external(60, prev, WallTime{}, signature);
  }
  void tamper() const {
    switch (GetParam()) {
      case Tampering::kMissingFile:
        std::filesystem::remove(file());
        return;
      case Tampering::kOlderCopy:
        std::filesystem::copy(agent.folder() / "copy", folder(),
                              std::filesystem::copy_options::recursive |
                                  std::filesystem::copy_options::overwrite_existing);
        return;
      case Tampering::kTruncated: {
        auto text = read_text(log());
        for (int line = 0; line < 4; ++line) text.resize(text.rfind('\n', text.size() - 2) + 1);
        std::ofstream(log(), std::ios::trunc) << text;
        std::filesystem::remove(file());
        return;
      }
      case Tampering::kRewritten:
        return forge(false);
      case Tampering::kUnknownKey:
        return forge(true);
    }
  }
  wire::DoctorReply doctor() const {
    wire::Request request;
    request.mutable_doctor();
    auto connection = agent.client();
    return connection.call(request).doctor();
  }
  bool verifies() const {
    wire::Request request;
    request.mutable_audit_verify();
    auto connection = agent.client();
    return connection.call(request).audit_verify().ok();
  }
  AgentProcess agent;

 private:
  bool made_ = false;
};

TEST_P(History, Fault157_IsFoundAtStartByVerifyAndByDoctor) {
  use_and_stop();
  std::filesystem::copy(folder(), agent.folder() / "copy");
  use_and_stop();
  agent.start();
  EXPECT_TRUE(verifies());
  EXPECT_EQ(doctor().exit_code(), 0u) << doctor().ShortDebugString();
  ASSERT_EQ(agent.stop(), 0);
  tamper();
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  EXPECT_TRUE(wait_until([&] {
    return read_text(agent.log()).find("audit.history") != std::string::npos;
  })) << agent.story();
  EXPECT_EQ(doctor().exit_code(), 6u);
  EXPECT_THAT(doctor().ShortDebugString(), HasSubstr("the audit log does not verify"));
  // The next checkpoint makes a new checkpoint.json; that it was missing stays known to doctor.
  if (GetParam() != Tampering::kMissingFile) EXPECT_FALSE(verifies());
  if (GetParam() == Tampering::kUnknownKey) return;
  wire::Request reload;
  reload.mutable_reload();
  auto connection = agent.client();
  EXPECT_THAT(connection.call(reload).reload().text(), HasSubstr("accepted in its present state"));
  EXPECT_EQ(doctor().exit_code(), 0u) << "the printed fix: " << doctor().ShortDebugString();
  EXPECT_TRUE(verifies());
  EXPECT_THAT(read_text(log()), HasSubstr("audit.accept"));
}

INSTANTIATE_TEST_SUITE_P(DaemonAudit, History,
                         testing::Values(Tampering::kMissingFile, Tampering::kOlderCopy,
                                         Tampering::kTruncated, Tampering::kRewritten,
                                         Tampering::kUnknownKey));

TEST(DaemonAudit, Fault142_Fault166_NoAnswerIsWithoutARecordWhileTheDiskFillsAndServiceResumes) {
  AgentProcess agent;
  const auto folder = agent.folder() / "audit-disk";
  const SmallDisk disk(folder, "800k");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  agent.extra = "audit:\n  folder: " + (folder / "audit").string() + "\n";
  agent.start();
  ASSERT_TRUE(agent.serving()) << agent.story();
  agent.create("data", "sign", "ec-p256");
  std::atomic<int> answered{0}, refused{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      auto connection = agent.client();
      while (refused < 50) {
        try {
          connection.call(AgentProcess::sign_request("data"));
          ++answered;
        } catch (const Error&) {
          ++refused;
        }
      }
    });
  }
  ASSERT_TRUE(wait_until([&] { return answered > 20; }));
  disk.fill();
  for (auto& caller : callers) caller.join();
  const auto recorded = [&] {
    int count = 0;
    std::istringstream in(read_text(folder / "audit/audit.log"));
    for (std::string line; std::getline(in, line);)
      count += line.find("\"what\":\"sign\"") != line.npos &&
               line.find("\"outcome\":\"ok\"") != line.npos;
    return count;
  };
  EXPECT_TRUE(wait_until([&] { return recorded() == answered; }))
      << recorded() << " records of " << answered << " answers";
  disk.make_room();
  auto connection = agent.client();
  EXPECT_TRUE(wait_until([&] {
    try {
      connection.call(AgentProcess::sign_request("data"));
      return true;
    } catch (const Error&) {
      return false;
    }
  })) << agent.story();
  EXPECT_FALSE(agent.ended());
  // What was answered is in the log that the agent shows.
  wire::Request tail;
  tail.mutable_audit_tail()->set_count(1);
  const auto last = connection.call(tail).audit_tail().records();
  ASSERT_EQ(last.size(), 1);
  EXPECT_THAT(last[0], HasSubstr("\"what\":\"sign\""));
}

}  // namespace
}  // namespace keyagent::test
