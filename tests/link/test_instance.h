// SPDX-License-Identifier: Apache-2.0
#pragma once
// The half of an instance that an agent talks to, with two real TLS listeners, and the ways in
// which an instance may lie.

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/envelope/envelope.h"
#include "agent/tls/server.h"
#include "tests/link/test_tasks.h"
#include "tests/support/software_keys.h"
#include "tests/support/test_ca.h"

namespace keyagent::test {

// What it does wrong. All may be changed while it runs.
struct Mischief {
  std::atomic<bool> other_ca{false};              // gives another CA than it is pinned by
  std::atomic<bool> other_key{false};             // certifies another key
  std::atomic<bool> other_name{false};            // certifies another id
  std::atomic<bool> foreign_challenge{false};     // seals challenges to its own key
  std::atomic<bool> credential_challenge{false};  // hands a credential in as a challenge
  std::atomic<bool> other_fingerprint{false};     // waits for an approval of another key
  std::atomic<bool> forged_confirmation{false};
  std::atomic<bool> other_confirmation{false};  // signed well, for another rekey
  std::atomic<bool> lost_confirmation{false};   // it switches, and its answer is lost
  std::atomic<bool> other_welcome{false};       // names another auth key
  std::atomic<bool> no_welcome{false};          // ends the link instead
  std::atomic<bool> deaf{false};                // acknowledges no heartbeat
  std::atomic<bool> no_renewal{false};
  std::atomic<bool> suspends{false};  // refuses requests of agents, and leaves their link
  std::atomic<bool> silent{false};    // takes requests of agents and answers none
};

// Thread-safe. Its own keys are in memory: it is the other side, and no part of what is tested.
class TestInstance {
 public:
  TestInstance();
  ~TestInstance();

  std::string url() const;
  std::string fingerprint() const { return ca_.spki_sha256(); }
  std::string make_token();
  // Another CA than its own checks the agents: TLS refuses them.
  void distrust_agents();
  // The agents' listener goes away, and comes back at the same port.
  void go_away();
  void come_back();

  void approve(const std::string& agent);
  void reject(const std::string& agent);
  void suspend(const std::string& agent, bool suspended = true);
  void put_credential(const std::string& name, const std::string& value);
  // Sealed by its author, to the key that the agent has now and to no other.
  void put_blind(const std::string& name, const std::string& agent, const std::string& value);
  // To this key, whosever it is.
  void put_blind_for(const PublicKeyInfo& key, const std::string& name, const std::string& value);
  // What its envelopes say of themselves instead; nullopt: nothing.
  void put_binding(const std::string& name, const std::optional<envelope::Binding>& binding);
  void roll_back(const std::string& name, int version, const std::string& value);
  void withdraw_credential(const std::string& name);
  // It is listed, and every request for it is answered BUSY.
  void hold_credential(const std::string& name, bool held = true);
  // Says to every agent that there may be work.
  void announce_tasks();
  void order_rekey(const std::string& id, const std::string& key);
  // Any message, as a compromised instance would make it.
  void say(const std::string& agent, const std::string& message);
  // An envelope that is sealed to this key instead.
  void put_envelope(const std::string& name, const PublicKeyInfo& key, const std::string& value);

  // How long the agents' certificates live, from then on.
  std::chrono::hours before{1}, after{24 * 60};
  Mischief mischief;
  TestTasks tasks;

  std::string auth_kid(const std::string& agent) const;
  std::string transport_kid(const std::string& agent) const;
  std::size_t heartbeats() const;
  std::vector<std::string> reports(const std::string& order) const;  // its steps, in order
  std::size_t requests(const std::string& path) const;               // how many began so

 private:
  struct Impl;
  TestCa ca_, other_{"other root"};
  std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::test
