// SPDX-License-Identifier: Apache-2.0
#include "agent/gate/surroundings.h"

#include "agent/base/error.h"

namespace keyagent::gate {
namespace {

[[noreturn]] void refuse_without_link() {
  throw Error(Code::kUnsupported, "this agent has no link to an instance");
}

}  // namespace

void NoLink::enroll(const wire::EnrollRequest&, wire::EnrollReply&) {
  refuse_without_link();
}

void NoLink::leave(wire::Link&) {
  refuse_without_link();
}

void NoLink::describe(wire::Link&) const {
  refuse_without_link();
}

void NoLink::credential(const std::string&, wire::CredentialGetReply&) {
  refuse_without_link();
}

void NoLink::credentials(wire::CredentialListReply&) {
  refuse_without_link();
}

void NoLink::task_take(std::uint32_t, const wire::TaskTakeRequest&, wire::TaskTakeReply&) {
  refuse_without_link();
}

void NoLink::task_keep(std::uint32_t, const wire::TaskKeepRequest&, wire::TaskKeepReply&) {
  refuse_without_link();
}

void NoLink::task_end(std::uint32_t, const wire::TaskEndRequest&) {
  refuse_without_link();
}

std::string NoLink::task_credential(std::uint32_t, const wire::TaskCredentialRequest&) const {
  refuse_without_link();
}

bool NoLink::runs_tasks(std::uint32_t) const {
  return false;
}

void NoLink::tasks(wire::TaskListReply&) const {
  refuse_without_link();
}

}  // namespace keyagent::gate
