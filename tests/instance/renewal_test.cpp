// SPDX-License-Identifier: Apache-2.0
// Certificates and keys are renewed at both ends while they are used (MISSION T8, R6): a real
// instance, a real agent, and programs that ask all the time.

#include <atomic>
#include <mutex>
#include <thread>

#include "tests/instance/whole_system.h"

namespace keyagent::test {
namespace {

using testing::HasSubstr;

// Repeats `once` in threads until end(); `once` returns the error, or an empty string.
class Stream {
 public:
  Stream(int threads, std::function<std::string()> once) : once_(std::move(once)) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  }
  ~Stream() { end(); }
  void end() {
    over_ = true;
    for (auto& each : threads_)
      if (each.joinable()) each.join();
  }
  int done() const { return done_; }
  int dropped() const { return dropped_; }
  std::string first() {
    const std::lock_guard lock(mutex_);
    return first_;
  }
  // Waits until at least `more` have been answered: a change takes effect by then.
  bool goes_on(int more) {
    const int until = done_ + more;
    return wait_until([&] { return done_ >= until; }, std::chrono::seconds(60));
  }

 private:
  void run() {
    while (!over_) {
      const std::string wrong = once_();
      ++done_;
      if (wrong.empty() || dropped_++ > 0) continue;
      const std::lock_guard lock(mutex_);
      first_ = wrong;
    }
  }
  const std::function<std::string()> once_;
  std::atomic<bool> over_{false};
  std::atomic<int> done_{0}, dropped_{0};
  std::mutex mutex_;
  std::string first_;
  std::vector<std::thread> threads_;
};

class RenewalTest : public WholeSystem {
 protected:
  RenewalTest() {
    bring_up();
    enrol();
    put("backup", "s3cr3t");
    gives("backup", "s3cr3t");
  }
  // From the instance, over mutual TLS: the output marks a cached copy with a note.
  std::string fetch() const {
    const auto result = host_.keyagent("credential get backup");
    const bool whole = result.status == 0 && result.output.find("s3cr3t") != std::string::npos &&
                       result.output.find("the instance is away") == std::string::npos;
    return whole ? "" : result.output;
  }
  // A handshake with the instance's own certificate and a request in its session.
  std::string ask() const {
    const auto result = instance_.keyagent("alice", "status");
    return result.status == 0 ? "" : result.output;
  }
  std::string own_serial() const {
    return try_command("openssl s_client -connect " + instance_.api_url().substr(8) +
                       " </dev/null 2>/dev/null | openssl x509 -noout -serial")
        .output;
  }
  CommandResult on_instances_host(const std::string& words) const {
    return try_command("KEYAGENT_SOCKET=" + instance_.agent.socket().string() + " " KEYAGENT " " +
                       words + " 2>&1");
  }
  void expect_nothing_dropped(Stream& stream) {
    EXPECT_TRUE(stream.goes_on(6));
    stream.end();
    EXPECT_EQ(stream.dropped(), 0)
        << "of " << stream.done() << ", first: " << stream.first() << told();
  }
};

TEST_F(RenewalTest, T8_R9_AnAgentsCertificateIsRenewedUnderLoadAndNothingIsDropped) {
  const Json before = link();
  Stream reads(3, [this] { return fetch(); });
  ASSERT_TRUE(reads.goes_on(3));
  for (int i = 0; i < 3; ++i) {
    const auto rekey = host_.keyagent("rekey identity --wait --timeout 100");
    ASSERT_EQ(rekey.status, 0) << rekey.output << told();
  }
  expect_nothing_dropped(reads);
  ASSERT_TRUE(link_becomes("connected"));
  EXPECT_NE(link().at("auth_kid"), before.at("auth_kid"));
  EXPECT_NE(link().at("serial"), before.at("serial"));
  EXPECT_EQ(agent().at("auth_kid"), link().at("auth_kid"));
}

TEST_F(RenewalTest, T8_R9_TheInstancesOwnCertificateIsRenewedUnderLoadAndNothingIsDropped) {
  const auto before = own_serial();
  Stream asks(3, [this] { return ask(); }), reads(1, [this] { return fetch(); });
  ASSERT_TRUE(asks.goes_on(3) && reads.goes_on(1));
  const auto rekey = on_instances_host("rekey instance-tls --wait --timeout 100");
  ASSERT_EQ(rekey.status, 0) << rekey.output << told();
  EXPECT_TRUE(wait_until([&] { return own_serial() != before; }, std::chrono::seconds(120)))
      << told();
  expect_nothing_dropped(asks);
  expect_nothing_dropped(reads);
  EXPECT_EQ(link().at("state"), "connected") << "who is connected stays";
}

TEST_F(RenewalTest, R6_FourProgramsReadThroughARekeyAndBothKeysAreShown) {
  const auto old_kid = transport_kid();
  Stream reads(4, [this] { return fetch(); });
  ASSERT_TRUE(reads.goes_on(4));
  const auto rekey = host_.keyagent("rekey credentials --wait --timeout 100");
  ASSERT_EQ(rekey.status, 0) << rekey.output << told();
  const auto new_kid = transport_kid();
  ASSERT_NE(new_kid, old_kid);
  const auto shown = host_.keyagent("status").output;
  EXPECT_THAT(shown, HasSubstr(new_kid));
  EXPECT_THAT(shown, HasSubstr(old_kid)) << "it still opens what was sealed to it";
  expect_nothing_dropped(reads);
  EXPECT_EQ(agent().at("transport_kid"), new_kid);
}

}  // namespace
}  // namespace keyagent::test
