// SPDX-License-Identifier: Apache-2.0
// Nothing that other requests see tells when a decryption failed (RELIABILITY 104).

#include "agent/envelope/envelope.h"
#include "agent/gate/status_figures.h"
#include "tests/gate/gate_fixture.h"

namespace keyagent::gate {
namespace {

using namespace std::chrono_literals;

constexpr const char* kBeatPolicy = R"(
rules:
  - name: admin
    allow: [open, sign, public, create, status, audit, admin]
    who: {user: "1000"}
  - name: sees
    allow: [open, sign, status, public]
    who: {user: "1001"}
)";

// The gate's waiting is in the test's hand: a failed decryption stands where it waits for its beat.
class GateBeatTest : public GateTest {
 protected:
  static constexpr std::uint32_t kUser = 1001;

  GateBeatTest() {
    policy_ = policy::parse_policy(kBeatPolicy, "policy.yml");
    options_.failure_quantum = 40ms;
    options_.wait_until = [this](SteadyTime when) {
      std::unique_lock lock(mutex_);
      beat_ = when;
      changed_.notify_all();
      changed_.wait(lock, [this] { return struck_; });
    };
  }
  ~GateBeatTest() override { strike(); }
  // The time for which a failure waits, when one does.
  SteadyTime wait_for_failure() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return beat_.has_value(); });
    return *beat_;
  }
  void strike() {
    const std::lock_guard lock(mutex_);
    struck_ = true;
    changed_.notify_all();
  }
  std::string bad_envelope() {
    const auto record = keys_.find("mail");
    const PublicKeyInfo info{record.kid,     record.name.text(), record.algorithm,
                             record.purpose, record.envelope,    record.spki};
    const SecretBytes plaintext(4, 'x');
    auto sealed = std::string(
        as_text(envelope::seal_jwe(info, envelope::ContentEncryption::kA256Gcm, plaintext)));
    auto& byte = sealed[sealed.size() - 3];
    byte = byte == 'A' ? 'B' : 'A';
    return sealed;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<SteadyTime> beat_;
  bool struck_ = false;
};

TEST_F(GateBeatTest, Fault104_AFailedDecryptionKeepsItsPlaceInTheTokenUntilItsBeat) {
  options_.token_operations = 1;
  create("mail", "transport", "rsa-2048");
  create("data", "sign", "ec-p256");
  const auto before = std::chrono::steady_clock::now();
  auto bad = std::make_shared<Asked>();
  std::thread inside([&] { gate().handle(user(kUser), open_request(bad_envelope()), bad); });
  EXPECT_GE(wait_for_failure(), before + 40ms);
  const auto behind = ask_later(kUser, sign_request("data"));
  const auto other = ask_later(kAdmin, sign_request("data"));
  EXPECT_FALSE(bad->answered());
  EXPECT_FALSE(behind->answered()) << "it would tell that the bad one has failed";
  EXPECT_FALSE(other->answered());
  EXPECT_EQ(gate().counters().running, 1u);
  EXPECT_EQ(gate().counters().failed, 0u);
  strike();
  inside.join();
  EXPECT_EQ(bad->wait().failure().code(), wire::INPUT);
  EXPECT_EQ(bad->when(), beat_);
  EXPECT_FALSE(behind->wait().has_failure());
  EXPECT_FALSE(other->wait().has_failure());
}

TEST_F(GateBeatTest, Fault104_AFailureIsRecordedAndCountedAtItsBeat) {
  create("mail", "transport", "rsa-2048");
  const auto envelope = bad_envelope();
  const auto before = audit_lines().size();
  auto bad = std::make_shared<Asked>();
  std::thread inside([&] { gate().handle(user(kUser), open_request(envelope), bad); });
  wait_for_failure();
  EXPECT_EQ(audit_lines().size(), before + 1) << "the mark of the first count";
  strike();
  inside.join();
  EXPECT_EQ(audit_lines().size(), before + 3);
}

TEST_F(GateBeatTest, Fault104_ADeadlineAnswersOrNotWhateverTheTokenHasFound) {
  options_.deadline = 1s;
  create("mail", "transport", "rsa-2048");
  auto bad = std::make_shared<Asked>();
  std::thread inside([&] { gate().handle(user(kUser), open_request(bad_envelope()), bad); });
  wait_for_failure();
  EXPECT_EQ(bad->wait().failure().code(), wire::DEADLINE) << "the failure has not been answered";
  strike();
  inside.join();
}

// Counters that move with every operation would be a clock.
TEST_F(GateBeatTest, Fault104_StatusShowsCountersOfATenthOfASecondToWhoDoesNotAdminister) {
  create("data", "sign", "ec-p256");
  strike();
  wire::Request status;
  status.mutable_status();
  const auto first = ask(kUser, status).status();
  const auto since = std::chrono::steady_clock::now();
  int seen = 0;
  std::uint64_t last = first.token().operations();
  for (int i = 0; i < 200; ++i) {
    ask(kUser, sign_request("data"));
    const auto now = ask(kUser, status).status().token().operations();
    seen += std::exchange(last, now) != now;
  }
  const auto passed = std::chrono::steady_clock::now() - since;
  EXPECT_LE(seen, passed / SampledFigures::kInterval + 1);
  const auto before = ask(kAdmin, status).status().requests();
  EXPECT_EQ(ask(kAdmin, status).status().requests(), before + 1) << "an administrator's are live";
}

}  // namespace
}  // namespace keyagent::gate
