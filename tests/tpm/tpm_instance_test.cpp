// SPDX-License-Identifier: Apache-2.0
// An agent whose keys are in a TPM, at an instance whose keys are in a SoftHSM2 token.

#include <gmock/gmock.h>

#include "tests/instance/instance_process.h"
#include "tests/tpm/tpm_agent.h"

namespace keyagent::test {
namespace {

using ::testing::HasSubstr;

class TpmInstance : public TpmAgent {
 protected:
  void SetUp() override {
    TpmAgent::SetUp();
    if (IsSkipped()) return;
    instance_.emplace();
    instance_->start();
    instance_->add_user("alice", "admin");
    ASSERT_EQ(instance_->log_in("alice").status, 0);
  }
  ~TpmInstance() override {
    if (worker_ <= 0) return;
    ::kill(worker_, SIGKILL);
    ::waitpid(worker_, nullptr, 0);
  }
  void alice(const std::string& words) {
    const auto result = instance_->keyagent("alice", words);
    ASSERT_EQ(result.status, 0) << result.output;
  }
  void put(const std::string& secret) {
    std::ofstream(instance_->work.path() / "value.json") << "{\"token\":\"" << secret << "\"}";
    alice("credential put backup --type api-token --from value.json --agent web1");
  }
  bool gives(const std::string& secret) {
    return wait_until(
        [&] { return run("credential get backup").output.find(secret) != std::string::npos; },
        std::chrono::seconds(60));
  }
  void start_worker() {
    std::ofstream(state() + "/note.sh") << "#!/bin/sh\nsha256sum <&3\n";
    std::filesystem::permissions(state() + "/note.sh", std::filesystem::perms(0755));
    std::ofstream(state() + "/worker.yml")
        << "agent: {socket: " << state()
        << "/run/agent.sock}\nhandlers:\n  note: {program: " << state() << "/note.sh"
        << (::geteuid() == 0 ? ", user: root" : "") << ", credentials: [backup]}\n";
    worker_ = ::fork();
    if (worker_ != 0) return;
    const std::string config = state() + "/worker.yml";
    ::execl(KEYAGENT, "keyagent", "worker", "--config", config.c_str(), nullptr);
    ::_exit(127);
  }
  Json link() { return Json::parse(run("--json status").output).at("link"); }

  std::optional<InstanceProcess> instance_;
  pid_t worker_ = 0;
};

TEST_F(TpmInstance, R1_R4_R6_R11_AnAgentOnATpmIsEnrolledServedAndRekeyed) {
  ASSERT_EQ(run("key create credentials --purpose transport --algorithm rsa-2048").status, 0);
  const std::string token = state() + "/token";
  alice("token -o " + token);
  const auto enrolled = run("enroll " + instance_->api_url() + " --agent-id web1 --token-file " +
                            token + " --wait --timeout 120");
  ASSERT_EQ(enrolled.status, 0) << enrolled.output << read_text(instance_->log());
  put("open sesame");
  EXPECT_TRUE(gives("open sesame")) << run("credential get backup").output;

  start_worker();
  const auto task = instance_->keyagent(
      "alice", "task submit note --agent web1 --credential backup --wait --timeout 120");
  EXPECT_EQ(task.status, 0) << task.output;

  const auto old_kid = link().at("transport_kid").get<std::string>();
  const auto rekey = instance_->keyagent("alice", "rekey web1 --wait --timeout 200");
  EXPECT_EQ(rekey.status, 0) << rekey.output;
  const auto new_kid = link().at("transport_kid").get<std::string>();
  EXPECT_NE(new_kid, old_kid);
  EXPECT_EQ(instance_->json("alice", "agents web1").at("agents").at(0).at("transport_kid"),
            new_kid);
  EXPECT_TRUE(gives("open sesame"));
  put("new one");
  EXPECT_TRUE(gives("new one")) << run("credential get backup").output;
  EXPECT_THAT(run("key show credentials --prove").output, HasSubstr("cannot leave the token"));
  EXPECT_EQ(run("audit verify").status, 0);
}

}  // namespace
}  // namespace keyagent::test
