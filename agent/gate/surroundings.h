// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the gate asks of the agent around it. The daemon implements both; NoLink is for an agent
// without an instance. All thread-safe.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/audit/audit_log.h"
#include "agent/gate/issuing.h"
#include "agent/keys/cryptoperiod.h"
#include "agent/policy/policy.h"
#include "agent/wire/keyagent.pb.h"

namespace keyagent::gate {

// The current configuration of the agent, and state that only the daemon has.
class Surroundings {
 public:
  virtual ~Surroundings() = default;
  virtual std::shared_ptr<const policy::Policy> policy() = 0;  // one snapshot
  virtual keys::Periods periods() { return {}; }
  virtual IssuingRules issuing() { return {}; }
  // Why nothing is changed now; empty: changes are carried out.
  virtual std::string use_only() { return {}; }
  // Checkpoints of the audit log that are known elsewhere.
  virtual std::vector<audit::Anchor> audit_anchors() { return {}; }
  // A step of a rekey can be run now.
  virtual void wake_rekeys() {}
  // Adds to the status: version, agent id, configuration and the listeners' counts.
  virtual void complete(wire::StatusReply&) {}
  // The daemon's own findings: configuration, sandbox, link.
  virtual std::vector<wire::Diagnosis> diagnose() { return {}; }
  // Returns what changed. Throws Error{kConfiguration}: nothing changed.
  virtual std::string reload() = 0;
};

// The link to an instance. Each call but runs_tasks() may wait for the network, and throws Error.
class InstanceLink {
 public:
  virtual ~InstanceLink() = default;
  virtual void enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) = 0;
  virtual void leave(wire::Link& reply) = 0;
  virtual void describe(wire::Link& reply) const = 0;
  // The opened credential; the caller has been found to be allowed it.
  virtual void credential(const std::string& name, wire::CredentialGetReply& reply) = 0;
  virtual void credentials(wire::CredentialListReply& reply) = 0;
  // Tasks: the caller has been found to be allowed to work as this handler.
  virtual void task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                         wire::TaskTakeReply& reply) = 0;
  virtual void task_keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                         wire::TaskKeepReply& reply) = 0;
  virtual void task_end(std::uint32_t uid, const wire::TaskEndRequest& request) = 0;
  // The name of the credential of a started task that this uid has taken.
  virtual std::string task_credential(std::uint32_t uid,
                                      const wire::TaskCredentialRequest& request) const = 0;
  // Does a handler run as this uid now?
  virtual bool runs_tasks(std::uint32_t uid) const = 0;
  virtual void tasks(wire::TaskListReply& reply) const = 0;
};

// Each request is refused with Error{kUnsupported}.
class NoLink : public InstanceLink {
 public:
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
};

}  // namespace keyagent::gate
