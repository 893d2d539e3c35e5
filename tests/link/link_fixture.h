// SPDX-License-Identifier: Apache-2.0
#pragma once
// A link on a real gate and a SoftHSM token, with an instance of the test's own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "agent/base/disk.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/link/instance_confirmation.h"
#include "agent/link/link.h"
#include "tests/gate/gate_fixture.h"
#include "tests/link/test_instance.h"

namespace keyagent::link {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

inline constexpr const char* kLinkPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, status, audit, admin, credential]
    who: {user: "1000"}
  - name: workers
    allow: [work]
    keys: [deploy]
    credentials: [db-main]
    who: {user: ["1001", "1002"]}
  - name: database
    allow: [credential]
    keys: ["db-*"]
    who: {user: "1001"}
)";

inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::seconds limit = std::chrono::seconds(60)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

// The machine's clocks, as far ahead as the test says.
class AheadClock final : public Clock {
 public:
  WallTime now() const override { return system_clock().now() + ahead(); }
  SteadyTime now_steady() const override { return system_clock().now_steady() + ahead(); }
  void advance(std::chrono::milliseconds by) { ahead_ms_ += by.count(); }

 private:
  std::chrono::milliseconds ahead() const { return std::chrono::milliseconds(ahead_ms_.load()); }
  std::atomic<long long> ahead_ms_{0};
};

class LinkTest : private gate::InstanceLink, public gate::GateTest {
 protected:
  static constexpr std::uint32_t kDatabase = 1001;

  LinkTest() {
    policy_ = policy::parse_policy(kLinkPolicy, "policy.yml");
    open_link();
    // Smaller and faster than the key that an agent creates by default.
    create("credentials", "transport", "ec-p256");
  }
  ~LinkTest() override {
    pumping_ = false;
    if (pump_.joinable()) pump_.join();
    link_->stop();
  }

  void open_gate() {
    gate::Services all{.keys = keys_,
                       .rekeys = *runner_of_link_,
                       .vault = vault_,
                       .audit = audit_,
                       .clock = system_clock(),
                       .audit_folder = hsm_.folder() / "audit",
                       .around = *this,
                       .link = *this};
    gate_ = std::make_unique<gate::Gate>(options_, all, timer_.timer());
  }
  // To the link of now: a test may start another.
  void enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) override {
    link_->enroll(request, reply);
  }
  void leave(wire::Link& reply) override { link_->leave(reply); }
  void describe(wire::Link& reply) const override { link_->describe(reply); }
  void credential(const std::string& name, wire::CredentialGetReply& reply) override {
    link_->credential(name, reply);
  }
  void credentials(wire::CredentialListReply& reply) override { link_->credentials(reply); }
  void task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                 wire::TaskTakeReply& reply) override {
    link_->task_take(uid, request, reply);
  }
  void task_keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                 wire::TaskKeepReply& reply) override {
    link_->task_keep(uid, request, reply);
  }
  void task_end(std::uint32_t uid, const wire::TaskEndRequest& request) override {
    link_->task_end(uid, request);
  }
  std::string task_credential(std::uint32_t uid,
                              const wire::TaskCredentialRequest& request) const override {
    return link_->task_credential(uid, request);
  }
  bool runs_tasks(std::uint32_t uid) const override { return link_->runs_tasks(uid); }
  void tasks(wire::TaskListReply& reply) const override { link_->tasks(reply); }

  // As at a start of the agent. REQUIRES: the link before it has stopped.
  void open_link() {
    LinkContext around;
    around.folder = hsm_.folder() / "state";
    around.agent_id = "web1";
    around.version = "0.1.0";
    around.clock = &clock_;
    around.ask = [this](const auto& who, wire::Request request, std::shared_ptr<gate::Reply> to) {
      gate_->handle(who, std::move(request), std::move(to));
    };
    const auto tell = [this](const keys::KeyEvent& happening) {
      const std::lock_guard lock(told_mutex_);
      told_.push_back(happening);
    };
    around.tell = tell;
    around.timing.first_pause = 50ms;
    around.timing.longest_pause = 200ms;
    around.timing.poll = 50ms;
    around.tasks = limits_;
    around.require_bound = require_bound_;
    link_ = std::make_unique<Link>(around);
    runner_of_link_ = std::make_unique<keys::RekeyRunner>(
        keys_, keys::RekeyRunner::Options{&system_clock(), [] { return keys::Periods{}; },
                                          &link_->confirmation(), tell});
    open_gate();
  }
  // As the daemon's rekey thread.
  void pump() {
    pump_ = std::thread([this] {
      while (pumping_) {
        runner_of_link_->run(0ms);
        std::this_thread::sleep_for(20ms);
      }
    });
  }

  wire::Response enroll(const std::string& token, const std::string& url = {},
                        bool replace = false) {
    wire::Request request;
    auto& enroll = *request.mutable_enroll();
    enroll.set_url(url.empty() ? instance_.url() : url);
    if (token.rfind("ka1.", 0) == 0) enroll.set_token(token);
    if (token.rfind("ka1.", 0) != 0) enroll.set_instance(token);
    enroll.set_replace(replace);
    return ask(kAdmin, request);
  }
  wire::Link status() {
    wire::Link link;
    link_->describe(link);
    return link;
  }
  bool reaches(const std::string& state) {
    const bool reached = eventually([&] { return status().state() == state; });
    EXPECT_TRUE(reached) << state << " and not:\n" << status().DebugString();
    return reached;
  }
  void connect() {
    const auto enrolled = enroll(instance_.make_token());
    ASSERT_FALSE(enrolled.has_failure()) << enrolled.failure().text();
    ASSERT_TRUE(reaches("connected"));
  }
  wire::Response get(std::uint32_t uid, const std::string& name) {
    wire::Request request;
    request.mutable_credential_get()->set_name(name);
    return ask(uid, request);
  }
  std::string value(const std::string& name) {
    const auto response = get(kDatabase, name);
    if (response.has_failure()) return "FAILED " + response.failure().text();
    return response.credential_get().value();
  }
  std::uint64_t begin_rekey(const std::string& name) {
    wire::Request request;
    request.mutable_rekey()->set_name(name);
    return ask(kAdmin, request).rekey().rekey().id();
  }
  keys::RekeyStep step(std::uint64_t id) { return keys_.rekey(id).step; }
  bool told(const std::string& what, const std::string& text = {}) {
    const std::lock_guard lock(told_mutex_);
    return std::any_of(told_.begin(), told_.end(), [&](const auto& each) {
      return each.what == what && each.detail.find(text) != std::string::npos;
    });
  }
  std::string last_told() {
    const std::lock_guard lock(told_mutex_);
    return told_.empty() ? "" : told_.back().what + ": " + told_.back().detail;
  }
  bool trusts_nobody() { return !std::filesystem::exists(hsm_.folder() / "state/link.json"); }

  AheadClock clock_;
  TaskJournal::Limits limits_;
  std::optional<bool> require_bound_;
  test::TestInstance instance_;
  std::mutex told_mutex_;
  std::vector<keys::KeyEvent> told_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<keys::RekeyRunner> runner_of_link_;
  std::atomic<bool> pumping_{true};
  std::thread pump_;
};

}  // namespace keyagent::link
