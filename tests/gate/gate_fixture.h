// SPDX-License-Identifier: Apache-2.0
#pragma once
// A gate on a real SoftHSM token behind the fault shim, asked without sockets.

#include <gmock/gmock.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "agent/gate/gate.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::gate {

// Collects one answer.
class Asked final : public Reply {
 public:
  bool answer(const wire::Response& response) override {
    const std::lock_guard lock(mutex_);
    if (answered_) return false;
    answered_ = true;
    response_ = response;
    changed_.notify_all();
    return true;
  }
  void answer_at(SteadyTime when, const wire::Response& response) override {
    when_ = when;
    answer(response);
  }
  wire::Response wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [this] { return answered_; }))
      throw std::runtime_error("the gate has not answered for a minute");
    return response_;
  }
  bool answered() {
    const std::lock_guard lock(mutex_);
    return answered_;
  }
  std::optional<SteadyTime> when() const { return when_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool answered_ = false;
  wire::Response response_;
  std::optional<SteadyTime> when_;
};

// Runs timers on a separate thread, as the server does.
class TimerThread {
 public:
  ~TimerThread() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  Timer timer() {
    return [this](SteadyTime when, std::function<void()> task) {
      const std::lock_guard lock(mutex_);
      tasks_.emplace(when, std::move(task));
      changed_.notify_all();
    };
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!ended_) {
      if (tasks_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const auto first = tasks_.begin();
      if (first->first > std::chrono::steady_clock::now()) {
        changed_.wait_until(lock, SteadyTime(first->first));
        continue;
      }
      const auto task = std::move(first->second);
      tasks_.erase(first);
      lock.unlock();
      task();
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<SteadyTime, std::function<void()>> tasks_;
  bool ended_ = false;
  std::thread thread_{[this] { run(); }};
};

inline constexpr const char* kPolicy = R"(
rules:
  - name: admin
    allow: [open, seal, sign, public, create, destroy, rekey, suspend, reseal, status, audit, admin]
    who: {user: "1000"}
  - name: backup
    allow: [open]
    keys: ["backup-*"]
    who: {user: "1001"}
  - name: signer
    allow: [sign, public]
    keys: ["*"]
    who: {user: "1002"}
)";

class GateTest : public testing::Test, protected Surroundings {
 protected:
  static constexpr std::uint32_t kAdmin = 1000, kBackup = 1001, kSigner = 1002, kStranger = 1003;

  GateTest() {
    keys_.reconcile();
    test::shim::clear();
  }
  ~GateTest() override {
    test::shim::clear();
    test::shim::release_hangs();
  }

  audit::Options audit_options() const {
    audit::Options options;
    options.folder = hsm_.folder() / "audit";
    options.clock = &system_clock();
    return options;
  }

  std::shared_ptr<const policy::Policy> policy() override { return policy_; }
  std::string reload() override { return "reloaded"; }
  Services services(InstanceLink& link) {
    return {.keys = keys_,
            .rekeys = runner_,
            .vault = vault_,
            .audit = audit_,
            .clock = system_clock(),
            .audit_folder = hsm_.folder() / "audit",
            .around = *this,
            .link = link};
  }

  Gate& gate() {
    if (!gate_) gate_ = std::make_unique<Gate>(options_, services(no_link_), timer_.timer());
    return *gate_;
  }

  static policy::Principal user(std::uint32_t uid) {
    policy::Principal principal;
    principal.uid = principal.gid = uid;
    return principal;
  }

  // False: nothing runs a minute later, because what was asked had its answer already. With `call`:
  // that many of it have come to the shim since its counts were reset, where a "hang" holds them.
  bool comes_to_run(const std::string& call = {}, std::uint64_t calls = 1) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (gate().counters().running == 0 || (!call.empty() && test::shim::count(call) < calls)) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::shared_ptr<Asked> ask_later(std::uint32_t uid, wire::Request request) {
    auto asked = std::make_shared<Asked>();
    gate().handle(user(uid), std::move(request), asked);
    return asked;
  }
  wire::Response ask(std::uint32_t uid, wire::Request request) {
    return ask_later(uid, std::move(request))->wait();
  }

  wire::Key create(const std::string& name, const std::string& purpose,
                   const std::string& algorithm = {}) {
    wire::Request request;
    request.mutable_key_create()->set_name(name);
    request.mutable_key_create()->set_purpose(purpose);
    request.mutable_key_create()->set_algorithm(algorithm);
    const auto response = ask(kAdmin, request);
    EXPECT_FALSE(response.has_failure()) << response.failure().text();
    return response.key_create().key();
  }
  static wire::Request sign_request(const std::string& key) {
    wire::Request request;
    request.mutable_sign()->set_key(key);
    request.mutable_sign()->set_input(std::string(32, 'd'));
    return request;
  }
  static wire::Request open_request(const std::string& envelope, const std::string& key = {}) {
    wire::Request request;
    request.mutable_open()->set_envelope(envelope);
    request.mutable_open()->set_key(key);
    return request;
  }
  // What was recorded so far, synced.
  std::vector<std::string> audit_lines() {
    audit::Event mark;
    mark.what = "mark";
    audit_.record_now(mark);
    auto lines = audit::tail(hsm_.folder() / "audit", 1000);
    lines.pop_back();
    return lines;
  }

  test::SoftHsm hsm_;
  audit::AuditLog audit_{audit_options()};
  vault::TokenVault vault_{hsm_.open_shimmed()};
  keys::KeyStore keys_{{hsm_.folder() / "state", &system_clock(), "test"}, vault_};
  keys::RekeyRunner runner_{keys_, {&system_clock(), [] { return keys::Periods{}; }, nullptr, {}}};
  std::shared_ptr<const policy::Policy> policy_ = policy::parse_policy(kPolicy, "policy.yml");
  GateOptions options_;
  TimerThread timer_;
  NoLink no_link_;
  std::unique_ptr<Gate> gate_;
};

}  // namespace keyagent::gate
