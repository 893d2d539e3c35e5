// SPDX-License-Identifier: Apache-2.0
#pragma once
// A key store with its runner and scheduler, on a SoftHSM token behind the shim, with time that the
// test moves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <mutex>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/keys/scheduler.h"
#include "tests/support/code_of.h"
#include "tests/support/fake_clock.h"
#include "tests/support/shim_control.h"
#include "tests/support/soft_hsm.h"

namespace keyagent::keys {

// A peer that answers as the test configures it.
class FakePeer final : public Confirmation {
 public:
  Said ask(Phase phase, const RekeyRecord&, const KeyRecord&, const KeyRecord& fresh) override {
    asked.push_back(phase == Phase::kProve ? "prove" : "switched");
    shown = fresh.kid;
    if (phase == Phase::kProve && while_proving) while_proving(fresh);
    return phase == Phase::kProve ? proof : acknowledgement;
  }
  Said proof, acknowledgement;
  std::vector<std::string> asked;
  std::function<void(const KeyRecord&)> while_proving;
  Kid shown;
};

class RekeyTest : public ::testing::Test {
 protected:
  RekeyTest() : token_(hsm_.open_shimmed()), vault_(token_) { open(); }
  ~RekeyTest() override { test::shim::clear(); }

  // As after a start of the agent: nothing but ledger and token is known.
  void open() {
    test::shim::clear();
    scheduler_.reset();
    runner_.reset();
    store_.reset();
    store_ = std::make_unique<KeyStore>(KeyStore::Options{state(), &clock_, "test-agent"}, vault_);
    store_->reconcile();
    const EventSink tell = [this](const KeyEvent& happening) {
      const std::lock_guard lock(told_mutex_);
      told_.push_back(happening);
    };
    const auto periods = [this] { return periods_; };
    runner_ =
        std::make_unique<RekeyRunner>(*store_, RekeyRunner::Options{&clock_, periods, peer_, tell});
    scheduler_ =
        std::make_unique<Scheduler>(*store_, *runner_, Scheduler::Options{&clock_, periods, tell});
  }
  std::filesystem::path state() const { return folder_.path() / "state"; }

  KeyRecord make(const char* name, Purpose purpose,
                 std::optional<KeyAlgorithm> algorithm = std::nullopt) {
    return store_->create({KeyName(name), purpose, algorithm, std::nullopt}).record;
  }
  RekeyRecord begin(const char* name, std::optional<KeyAlgorithm> algorithm = std::nullopt) {
    return runner_->begin({KeyName(name), algorithm, std::nullopt, Span(0)}, {"test", "tester"});
  }
  RekeyRecord rekey(const char* name) {
    const auto id = begin(name).id;
    runner_->run(Span(0));
    return store_->rekey(id);
  }
  RekeyStep step(std::uint64_t id) { return store_->rekey(id).step; }
  // Time goes by evenly, with a look every quarter of an hour.
  void pass(std::chrono::milliseconds time) {
    for (const auto slice = std::chrono::minutes(15); time.count() > 0; time -= slice) {
      clock_.advance(std::min<std::chrono::milliseconds>(time, slice));
      scheduler_->look();
    }
  }
  bool said(const std::string& what) const {
    return std::any_of(told_.begin(), told_.end(),
                       [&](const auto& happening) { return happening.what == what; });
  }
  std::size_t private_keys() {
    std::size_t count = 0;
    for (const auto& object : vault_.objects()) count += object.has_private || object.has_secret;
    return count;
  }
  test::SoftHsm hsm_;
  test::TempFolder folder_;
  test::FakeClock clock_;
  std::shared_ptr<pkcs11::Token> token_;
  vault::TokenVault vault_;
  Periods periods_;
  FakePeer the_peer_;
  Confirmation* peer_ = nullptr;
  std::mutex told_mutex_;
  std::vector<KeyEvent> told_;
  std::unique_ptr<KeyStore> store_;
  std::unique_ptr<RekeyRunner> runner_;
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace keyagent::keys
