// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/link_service.h"

#include "agent/base/error.h"

namespace keyagent::daemon {
namespace {

link::LinkContext surroundings(const config::AgentConfig& config, link::GateClient::Ask ask,
                               keys::EventSink tell, link::AuditWitness audit) {
  link::LinkContext around;
  around.folder = config.state_folder;
  around.agent_id = config.agent_id;
  around.version = KEYAGENT_VERSION;
  around.ask = std::move(ask);
  around.tell = std::move(tell);
  around.audit = std::move(audit);
  around.credential_max_age = config.credential_max_age;
  around.require_bound = config.require_bound;
  return around;
}

}  // namespace

// One of the threads that serve callers, for as long as it waits for the instance. The others go on
// reading, refusing and reporting.
class LinkService::Place {
 public:
  explicit Place(std::atomic<unsigned>& waiting) : waiting_(waiting) {
    if (waiting_.fetch_add(1) < kThreads) return;
    --waiting_;
    throw Error(Code::kBusy, "too many requests wait for the instance; try again");
  }
  ~Place() { --waiting_; }
  Place(const Place&) = delete;

 private:
  std::atomic<unsigned>& waiting_;
};

LinkService::LinkService(const config::AgentConfig& config, link::GateClient::Ask ask,
                         keys::EventSink tell, link::AuditWitness audit)
    : link_(surroundings(config, std::move(ask), std::move(tell), std::move(audit))) {}

gate::LinkHooks LinkService::hooks() {
  gate::LinkHooks hooks;
  hooks.enroll = [this](const wire::EnrollRequest& request, wire::EnrollReply& reply) {
    const Place place(waiting_);
    link_.enroll(request, reply);
  };
  hooks.leave = [this](wire::Link& reply) {
    const Place place(waiting_);
    link_.leave(reply);
  };
  hooks.status = [this](wire::Link& reply) { link_.describe(reply); };
  hooks.credential = [this](const std::string& name, wire::CredentialGetReply& reply) {
    const Place place(waiting_);
    link_.credential(name, reply);
  };
  hooks.credentials = [this](wire::CredentialListReply& reply) {
    const Place place(waiting_);
    link_.credentials(reply);
  };
  hooks.task_take = [this](std::uint32_t uid, const auto& request, auto& reply) {
    const Place place(waiting_);
    link_.task_take(uid, request, reply);
  };
  hooks.task_keep = [this](std::uint32_t uid, const auto& request, auto& reply) {
    const Place place(waiting_);
    link_.task_keep(uid, request, reply);
  };
  hooks.task_end = [this](std::uint32_t uid, const auto& request) { link_.task_end(uid, request); };
  hooks.task_credential = [this](std::uint32_t uid, const auto& request) {
    return link_.task_credential(uid, request);
  };
  hooks.runs_tasks = [this](std::uint32_t uid) { return link_.runs_tasks(uid); };
  hooks.tasks = [this](wire::TaskListReply& reply) { link_.tasks(reply); };
  return hooks;
}

}  // namespace keyagent::daemon
