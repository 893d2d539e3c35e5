// SPDX-License-Identifier: Apache-2.0
#pragma once
// The link to an instance among the daemon's parts.

#include "agent/audit/audit_log.h"
#include "agent/config/config.h"
#include "agent/gate/gate.h"
#include "agent/link/link.h"

namespace keyagent::daemon {

// Thread-safe. Starts nothing while the agent is not enrolled.
class LinkService {
 public:
  // How many of the gate's threads it may keep waiting for the instance at once.
  static constexpr unsigned kThreads = 2;

  LinkService(const config::AgentConfig& config, link::GateClient::Ask ask, keys::EventSink tell,
              link::AuditWitness audit);

  // Once the gate is open; stop() before it ends.
  void start() { link_.start(); }
  void stop() { link_.stop(); }
  void report(const keys::KeyEvent& alarm) { link_.report(alarm); }
  gate::LinkHooks hooks();
  keys::Confirmation* confirmation() { return &link_.confirmation(); }
  void describe(wire::Link& out) const { link_.describe(out); }
  std::vector<wire::Diagnosis> diagnose() const { return link_.diagnose(); }

 private:
  class Place;
  std::atomic<unsigned> waiting_{0};
  link::Link link_;
};

}  // namespace keyagent::daemon
