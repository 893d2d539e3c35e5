// SPDX-License-Identifier: Apache-2.0
// Reports the gate's decision about a request without executing it.

#include <grp.h>
#include <pwd.h>

#include <array>

#include "agent/base/encoding.h"
#include "agent/gate/operation.h"

namespace keyagent::gate {
namespace {

// As the kernel would name a program that this user starts now.
policy::Principal principal_of(std::uint32_t uid) {
  policy::Principal principal;
  principal.uid = principal.gid = uid;
  std::array<char, 16384> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return principal;
  principal.name = entry.pw_name;
  principal.gid = entry.pw_gid;
  std::array<gid_t, 1024> groups;
  int count = groups.size();
  if (getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) >= 0)
    principal.groups.assign(groups.begin(), groups.begin() + count);
  return principal;
}

policy::Principal subject_of(const Call& call) {
  const auto& request = call.request.why();
  if (!request.has_uid() || request.uid() == call.principal.uid) return call.principal;
  if (!call.may(policy::Action::kAdmin, {}, {})) {
    throw Error(Code::kDenied,
                "--uid of another user needs the action admin; omit --uid to ask for yourself");
  }
  return principal_of(request.uid());
}

}  // namespace

void run_why(Call& call) {
  const auto& request = call.request.why();
  const auto action = policy::action_of(request.action());
  if (!action) {
    throw Error(Code::kUsage, "unknown action: '" + escape_controls(request.action()) + "' (" +
                                  policy::action_names() + ")");
  }
  const auto subject = subject_of(call);
  // Credentials and handlers have their own names, whatever keys are called.
  const bool no_key = action == policy::Action::kCredential || action == policy::Action::kWork;
  if (no_key) call.query.key = request.key();
  if (!no_key && !request.key().empty()) resolve_key(call, request.key());
  // Keys that come in are asked for before they are here.
  if (action == policy::Action::kImport && !call.key)
    call.query.purpose = name_of(Purpose::kStorage);
  if (!request.credential().empty() && action != policy::Action::kWork) {
    throw Error(Code::kUsage,
                "--credential applies to the action work only; for the action credential use: "
                "keyagent why credential NAME");
  }
  policy::Query query{*action, call.query.key, call.query.purpose, request.peer(),
                      request.credential()};
  auto decision = policy::decide(*call.policy, subject, query);
  // A kid of a key that the caller may not see is not turned into its name.
  const bool by_other_name = call.query.key != request.key();
  if (by_other_name && !decision.allowed &&
      !call.may(policy::Action::kPublic, query.key, query.purpose)) {
    decision = policy::decide(*call.policy, subject, {*action, request.key(), {}, request.peer()});
  }
  auto& reply = *call.response.mutable_why();
  reply.set_allowed(decision.allowed);
  reply.set_rule(decision.rule);
  reply.set_where(decision.where);
  reply.set_reason(decision.reason);
  reply.set_principal(subject.text());
}

}  // namespace keyagent::gate
