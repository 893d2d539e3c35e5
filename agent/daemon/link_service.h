// SPDX-License-Identifier: Apache-2.0
#pragma once
// The link to an instance among the daemon's parts.

#include "agent/audit/audit_log.h"
#include "agent/config/config.h"
#include "agent/gate/surroundings.h"
#include "agent/link/link.h"

namespace keyagent::daemon {

// Thread-safe. Starts nothing while the agent is not enrolled.
class LinkService final : public gate::InstanceLink {
 public:
  // How many of the gate's threads it may keep waiting for the instance at once.
  static constexpr unsigned kThreads = 2;

  LinkService(const config::AgentConfig& config, link::GateClient::Ask ask, keys::EventSink tell,
              link::AuditWitness audit);

  // Once the gate is open; stop() before it ends.
  void start() { link_.start(); }
  void stop() { link_.stop(); }
  void report(const keys::KeyEvent& alarm) { link_.report(alarm); }
  keys::Confirmation* confirmation() { return &link_.confirmation(); }
  std::vector<wire::Diagnosis> diagnose() const { return link_.diagnose(); }

  void enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) override;
  void leave(wire::Link& reply) override;
  void describe(wire::Link& reply) const override;
  void credential(const std::string& name, wire::CredentialGetReply& reply) override;
  void credentials(wire::CredentialListReply& reply) override;
  void task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                 wire::TaskTakeReply& reply) override;
  void task_keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                 wire::TaskKeepReply& reply) override;
  void task_end(std::uint32_t uid, const wire::TaskEndRequest& request) override;
  std::string task_credential(std::uint32_t uid,
                              const wire::TaskCredentialRequest& request) const override;
  bool runs_tasks(std::uint32_t uid) const override;
  void tasks(wire::TaskListReply& reply) const override;

 private:
  class Place;
  std::atomic<unsigned> waiting_{0};
  link::Link link_;
};

}  // namespace keyagent::daemon
