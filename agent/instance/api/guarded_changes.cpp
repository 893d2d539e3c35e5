// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/api/guarded_changes.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/store/agents.h"
#include "agent/store/credentials.h"
#include "agent/store/peers.h"
#include "agent/store/specifications.h"
#include "agent/store/users.h"

namespace keyagent::instance {
namespace {

constexpr const char* kPeers = "peers";
constexpr const char* kAutomatic = "automatic";
constexpr const char* kTokenGroups = "token-groups";
constexpr const char* kDecrypt = "decrypt";
constexpr const char* kDestroy = "destroy";
constexpr const char* kRevoke = "revoke";
constexpr const char* kUsers = "users";
constexpr std::size_t kMaxReason = 500;

std::vector<AccessRule> rules_in(const Json& request) {
  const auto access = request.find("access");
  return read_access(access == request.end() ? Json() : *access);
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& each : words) out += (out.empty() ? "" : ", ") + each;
  return out;
}

}  // namespace

GuardedChanges::GuardedChanges(const Approvals& approvals, const Services& parts)
    : approvals_(approvals), parts_(parts) {
  handle_peers();
  handle_tokens();
  handle_access();
  handle_credentials();
  handle_agents();
  handle_users();
}

void GuardedChanges::handle_peers() {
  auto& peers = parts_.exchanges.peers();
  const auto known = [this](const std::string& name) {
    Json out = Json::array();
    for (const auto& each : parts_.store.peers().all()) {
      if (each.name == name || each.identity == name)
        out.push_back({{"identity", each.identity}, {"url", each.url}, {"now", each.automatic}});
    }
    return out;
  };
  parts_.decisions.handle(
      kPeers,
      {Right::kExchange, Right::kExchange,
       [known](const std::string& name, const Json& request) {
         return Json{{"name", known(name)}, {"identity", known(text_of(request, "identity"))}};
       },
       [&peers](const std::string&, const Json& request, const std::string& by,
                const AuthenticatedUser&) { peers.add(request, by); }});
  parts_.decisions.handle(
      kAutomatic, {Right::kExchange, Right::kExchange,
                   [known](const std::string& name, const Json&) { return known(name); },
                   [&peers](const std::string& name, const Json& request, const std::string& by,
                            const AuthenticatedUser&) { peers.set_automatic(name, request, by); }});
}

Json GuardedChanges::put_peer(const std::string& name, Json request,
                              const AuthenticatedUser& person) {
  request["name"] = name;
  auto& peers = parts_.exchanges.peers();
  if (approvals_.peers < 2) return peers.add(request, person.name);
  const auto identity = text_of(request, "identity");
  return parts_.decisions.ask(kPeers, name, request, "identity " + identity, person);
}

Json GuardedChanges::set_automatic(const std::string& name, const Json& request,
                                   const AuthenticatedUser& person) {
  auto& peers = parts_.exchanges.peers();
  const auto frequencies = texts_of(request, "frequencies");
  if (approvals_.automatic < 2 || frequencies.empty())
    return peers.set_automatic(name, request, person.name);
  const auto specifications = texts_of(request, "specifications");
  const auto text = joined(frequencies) + " of " +
                    (specifications.empty() ? "all specifications" : joined(specifications));
  return parts_.decisions.ask(kAutomatic, peers.find(name).name, request, text, person);
}

Json GuardedChanges::approve_exchange(const std::string& id, const Json& request,
                                      const AuthenticatedUser& person) {
  const bool always = flag_of(request, "always", false);
  if (!always || approvals_.automatic < 2)
    return parts_.exchanges.approve(id, request, person.name);
  Json out = parts_.exchanges.approve(id, {{"always", false}}, person.name);
  const Json policy{{"frequencies", Json::array({out.at("frequency")})},
                    {"specifications", out.at("specifications")},
                    {"add", true}};
  out["decision"] = set_automatic(text_of(out, "peer"), policy, person).at("decision");
  return out;
}

void GuardedChanges::handle_tokens() {
  parts_.decisions.handle(
      kTokenGroups,
      {Right::kAgents, Right::kGroups,
       [](const std::string&, const Json&) { return Json::object(); },
       [this](const std::string&, const Json& request, const std::string& by,
              const AuthenticatedUser& decider) {
         parts_.enrollment.add_token(
             bytes_of(request, "hash"), text_of(request, "agent", ""), texts_of(request, "groups"),
             std::chrono::hours(number_of(request, "hours", 24, 1, 24)),
             flag_of(request, "inherit", false), by + ", approved by " + decider.name);
       }});
}

Json GuardedChanges::make_token(const Json& request, const AuthenticatedUser& person) {
  const auto agent = text_of(request, "agent", "");
  const auto groups = texts_of(request, "groups");
  const auto hours = number_of(request, "hours", 24, 1, 24);
  const bool inherit = flag_of(request, "inherit", false);
  const bool alone = has(person.role, Right::kGroups) && approvals_.token_groups < 2;
  if (alone || (groups.empty() && !inherit))
    return parts_.enrollment.make_token(agent, groups, std::chrono::hours(hours), inherit,
                                        person.name);
  Enrollment::check_token(agent, inherit);
  const auto draft = parts_.enrollment.draft_token();
  Json wanted{{"agent", agent}, {"groups", groups}, {"hours", hours}, {"inherit", inherit}};
  wanted["hash"] = to_base64url(draft.hash);
  const auto text =
      (agent.empty() ? "any agent" : "agent " + agent) +
      (groups.empty() ? ", which has groups or credentials" : ", groups " + joined(groups));
  Json out{{"token", draft.text}};
  out.update(parts_.decisions.ask(kTokenGroups, agent.empty() ? "*" : agent, wanted, text, person));
  return out;
}

std::string GuardedChanges::access_of(const std::string& name) const {
  const auto known = parts_.store.specifications().find(name);
  return known ? known->access : "[]";
}

void GuardedChanges::handle_access() {
  parts_.decisions.handle(
      kDecrypt, {Right::kSpecifications, Right::kSpecifications,
                 [this](const std::string& name, const Json&) {
                   const auto known = parts_.store.specifications().find(name);
                   return Json{{"revision", known ? Json(known->revision) : Json()}};
                 },
                 [this](const std::string& name, const Json& request, const std::string& by,
                        const AuthenticatedUser& decider) {
                   require_no_gain(name, request, decider);
                   change_access(name, request, by);
                 }});
}

Json GuardedChanges::change_access(const std::string& name, const Json& request,
                                   const std::string& by) {
  return request.contains("name") ? parts_.specifications.create(request, by)
                                  : parts_.specifications.set_access(name, request, by);
}

// Checks the user that decides, alone or as the second: users cannot give access to themselves or
// their role.
void GuardedChanges::require_no_gain(const std::string& name, const Json& request,
                                     const AuthenticatedUser& decider) {
  const auto before = read_access(Json::parse(access_of(name))), after = rules_in(request);
  for (const auto use : {DataUse::kEncrypt, DataUse::kDecrypt}) {
    for (const auto& user : {std::string(), decider.name}) {
      const auto role = name_of(decider.role);
      if (decide(before, use, role, user).allowed || !decide(after, use, role, user).allowed)
        continue;
      parts_.recorder.record(Outcome::kRefused, "user " + decider.name, "specification.access",
                             name,
                             "it would give " + std::string(name_of(use)) + " to its approver");
      throw Error(Code::kDenied, "these rules would give " + std::string(name_of(use)) + " to " +
                                     (user.empty() ? "your own role" : "yourself") +
                                     "; a person with another role must make this change");
    }
  }
}

Json GuardedChanges::create_specification(const Json& request, const AuthenticatedUser& person) {
  const auto name = text_of(request, "name");
  if (approvals_.decrypt < 2 || !gives_access({}, rules_in(request))) {
    require_no_gain(name, request, person);
    return parts_.specifications.create(request, person.name);
  }
  return parts_.decisions.ask(kDecrypt, name, request, "a new specification", person);
}

Json GuardedChanges::set_access(const std::string& name, const Json& request,
                                const AuthenticatedUser& person) {
  parts_.specifications.require(name);
  if (!request.contains("access")) throw Error(Code::kUsage, "'access' is missing");
  Json wanted{{"access", request["access"]}};
  const auto before = read_access(Json::parse(access_of(name)));
  if (approvals_.decrypt < 2 || !gives_access(before, rules_in(wanted))) {
    require_no_gain(name, wanted, person);
    return parts_.specifications.set_access(name, wanted, person.name);
  }
  return parts_.decisions.ask(kDecrypt, name, wanted, "new access rules", person);
}

void GuardedChanges::handle_credentials() {
  parts_.decisions.handle(
      kDestroy, {Right::kCredentials, Right::kCredentials,
                 [this](const std::string& name, const Json&) {
                   const auto known = parts_.store.credentials().find(name);
                   const bool there = known && !known->removed;
                   return Json{{"version", there ? Json(known->version) : Json()}};
                 },
                 [this](const std::string& name, const Json&, const std::string& by,
                        const AuthenticatedUser&) { parts_.credentials.remove(name, by); }});
}

Json GuardedChanges::remove_credential(const std::string& name, const AuthenticatedUser& person) {
  if (approvals_.destroy < 2) return parts_.credentials.remove(name, person.name);
  parts_.credentials.show(name);  // or there is none
  return parts_.decisions.ask(kDestroy, name, Json::object(), "remove the credential", person);
}

// A separate kind of decision, although `destroy` enables it: users with another right decide it.
void GuardedChanges::handle_agents() {
  parts_.decisions.handle(
      kRevoke, {Right::kAgents, Right::kAgents,
                [this](const std::string& id, const Json&) {
                  const auto known = parts_.store.agents().find(id);
                  return Json{{"auth_kid", known ? Json(known->auth_kid) : Json()}};
                },
                [this](const std::string& id, const Json& request, const std::string& by,
                       const AuthenticatedUser& decider) {
                  parts_.agents.change_trust(TrustVerb::kRevoke, id, {},
                                             text_of(request, "reason", ""),
                                             "user " + by + ", approved by " + decider.name);
                },
                [this](const std::string& id) { parts_.agents.enforce_trust(id); }});
}

Json GuardedChanges::change_trust(TrustVerb verb, const std::string& id, const Json& request,
                                  const AuthenticatedUser& person) {
  const auto reason = text_of(request, "reason", "").substr(0, kMaxReason);
  const auto agent = parts_.store.agents().find(id);
  const bool by_two = verb == TrustVerb::kRevoke && approvals_.destroy >= 2;
  if (!by_two || !agent || !is_enrolled(*agent))
    return parts_.agents.apply(
        verb, id, text_of(request, "fingerprint", ""), reason, person.name,
        by_two ? Agents::Applies::kUnlessEnrolled : Agents::Applies::kAlways);
  return parts_.decisions.ask(kRevoke, id, {{"reason", reason}},
                              "revoke the agent with key " + agent->auth_kid, person);
}

void GuardedChanges::handle_users() {
  parts_.decisions.handle(
      kUsers, {Right::kUsers, Right::kUsers,
               [this](const std::string& name, const Json&) {
                 return Json{{"row", parts_.users.row_of(name)}};
               },
               [this](const std::string& name, const Json& request, const std::string& by,
                      const AuthenticatedUser& decider) {
                 parts_.users.put(name, Users::edit_of(request),
                                  "user " + by + ", approved by " + decider.name, approvals_.users);
               }});
}

// As many admins as a change of users needs always remain: one admin cannot lock out the others.
Json GuardedChanges::put_user(const std::string& name, const UserEdit& edit,
                              const AuthenticatedUser& person) {
  const bool own_password =
      name == person.name && !edit.role && !edit.spki_sha256 && !edit.disabled;
  const bool disables =
      edit.disabled.value_or(false) && !edit.role && !edit.spki_sha256 && edit.password.empty();
  if (approvals_.users < 2 || own_password || disables)
    return parts_.users.put(name, edit, "user " + person.name, approvals_.users);
  std::vector<std::string> changes;
  if (!parts_.store.users().find(name)) changes.push_back("a new user");
  if (edit.role) changes.push_back("role " + *edit.role);
  if (!edit.password.empty()) changes.push_back("another password");
  if (edit.spki_sha256) changes.push_back("another certificate key");
  if (edit.disabled) changes.push_back(*edit.disabled ? "disabled" : "enabled");
  return parts_.decisions.ask(kUsers, name, parts_.users.draft(name, edit), joined(changes),
                              person);
}

}  // namespace keyagent::instance
