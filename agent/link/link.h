// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's link to an instance: all its parts, and what the gate's operations ask of it.

#include <memory>

#include "agent/gate/surroundings.h"
#include "agent/keys/rekey_runner.h"
#include "agent/link/instance_connection.h"
#include "agent/link/link_context.h"

namespace keyagent::link {

// Thread-safe. Without an enrollment it is a file that does not exist: no thread, no socket, no
// library. What `around.ask` needs must live until stop() has returned.
class Link final : public gate::InstanceLink {
 public:
  explicit Link(LinkContext around);
  ~Link() override;

  // Continues with the enrollment that is there, if there is one.
  void start();
  // No request to the gate begins anymore when it returns.
  void stop();

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
  // Goes to the instance as an event, as soon as there is a link.
  void report(const keys::KeyEvent& alarm);
  // Findings for `keyagent doctor`.
  std::vector<wire::Diagnosis> diagnose() const;

  keys::Confirmation& confirmation();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace keyagent::link
