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

// Counts a request thread while it waits for the instance; at most kThreads wait, so that the
// others can serve local requests.
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

void LinkService::enroll(const wire::EnrollRequest& request, wire::EnrollReply& reply) {
  const Place place(waiting_);
  link_.enroll(request, reply);
}

void LinkService::leave(wire::Link& reply) {
  const Place place(waiting_);
  link_.leave(reply);
}

void LinkService::describe(wire::Link& reply) const {
  link_.describe(reply);
}

void LinkService::credential(const std::string& name, wire::CredentialGetReply& reply) {
  const Place place(waiting_);
  link_.credential(name, reply);
}

void LinkService::credentials(wire::CredentialListReply& reply) {
  const Place place(waiting_);
  link_.credentials(reply);
}

void LinkService::task_take(std::uint32_t uid, const wire::TaskTakeRequest& request,
                            wire::TaskTakeReply& reply) {
  const Place place(waiting_);
  link_.task_take(uid, request, reply);
}

void LinkService::task_keep(std::uint32_t uid, const wire::TaskKeepRequest& request,
                            wire::TaskKeepReply& reply) {
  const Place place(waiting_);
  link_.task_keep(uid, request, reply);
}

void LinkService::task_end(std::uint32_t uid, const wire::TaskEndRequest& request) {
  link_.task_end(uid, request);
}

std::string LinkService::task_credential(std::uint32_t uid,
                                         const wire::TaskCredentialRequest& request) const {
  return link_.task_credential(uid, request);
}

bool LinkService::runs_tasks(std::uint32_t uid) const {
  return link_.runs_tasks(uid);
}

void LinkService::tasks(wire::TaskListReply& reply) const {
  link_.tasks(reply);
}

}  // namespace keyagent::daemon
