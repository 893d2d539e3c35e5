// SPDX-License-Identifier: Apache-2.0
// The requests of people and their scripts, and enrollment.

#include <set>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/wiping.h"
#include "agent/instance/api/api_routes.h"
#include "agent/instance/api/bounds.h"
#include "agent/instance/api/paths.h"
#include "agent/store/agents.h"
#include "agent/store/events.h"
#include "agent/store/links.h"

namespace keyagent::instance {
namespace {

using Ask = PeopleAsk;
using Route = PeopleRoute;

Answer json(const Json& object) {
  return json_answer(object);
}

// Absent and null mean: as it is.
bool has_member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

Answer pem(std::string text) {
  return {std::move(text), "application/x-pem-file"};
}

Answer show_status(const Ask& ask) {
  Json counts = Json::object();
  const Json all = ask.parts.agents.list();
  for (const auto& each : all["agents"]) {
    const auto shown = each["shown"].get<std::string>();
    counts[shown] = counts.value(shown, 0) + 1;
  }
  Json out{{"instance", ask.parts.config.id}, {"version", KEYAGENT_VERSION}};
  out["ca_fingerprint"] = ask.parts.authority.fingerprint();
  out["agents"] = counts;
  out["links"] = ask.parts.links.agents().size();
  out["replica"] = ask.parts.links.replica();
  out["store"] = ask.parts.store.describe();
  out["restored"] = ask.parts.epoch.describe();
  out["limits"] = Json::array();
  for (const auto& each : ask.parts.usage.read())
    out["limits"].push_back(
        {{"limit", each.limit}, {"count", each.count}, {"most", each.most}, {"max", each.most}});
  out["user"] = ask.person.name;
  out["role"] = name_of(ask.person.role);
  return json(out);
}

Answer show_events(const Ask& ask) {
  Json out = Json::array();
  const auto count =
      static_cast<std::size_t>(std::min<std::int64_t>(ask.number("count", 100), 1000));
  auto& events = ask.parts.store.events();
  for (const auto& each : ask.query("after").empty() ? events.newest(count)
                                                     : events.list(ask.number("after", 0), count)) {
    out.push_back({{"seq", each.seq},
                   {"at", rfc3339(each.at)},
                   {"actor", each.actor},
                   {"action", each.action},
                   {"subject", each.subject},
                   {"outcome", each.outcome},
                   {"text", each.text},
                   {"count", each.repeats}});
  }
  return json({{"events", out}});
}

// Adds the named agents and groups that have no enrolled agent now. They may come later, and may be
// misspelled.
Json with_unknown_assignees(const Ask& ask, Json answer) {
  const auto agents = texts_of(ask.body, "agents"), groups = texts_of(ask.body, "groups");
  if (agents.empty() && groups.empty()) return answer;
  std::set<std::string> known_agents, known_groups;
  for (const auto& each : ask.parts.store.agents().all()) {
    known_agents.insert(each.id);
    known_groups.insert(each.groups.begin(), each.groups.end());
  }
  const auto add = [&](const char* name, const auto& asked, const auto& known) {
    for (const auto& each : asked) {
      if (!known.contains(each)) answer[name].push_back(each);
    }
  };
  add("unknown_agents", agents, known_agents);
  add("unknown_groups", groups, known_groups);
  return answer;
}

Answer change_trust(const Ask& ask) {
  const auto verb = trust_verb_of(ask.ids[1]);
  if (!verb) throw Error(Code::kUsage, "unknown verb '" + ask.ids[1] + "'");
  return json(ask.parts.changes.change_trust(*verb, ask.ids[0], ask.body, ask.person));
}

Answer import_certificate(const Ask& ask) {
  auto& outside = ask.parts.authority.outside();
  const std::string actor = "user " + ask.person.name;
  try {
    const Json taken = outside.import(ask.ids[0], text_of(ask.body, "certificate"));
    ask.parts.recorder.record(Outcome::kDone, actor, "certificate.import", ask.ids[0],
                              "serial " + text_of(taken, "serial"));
    return json(taken);
  } catch (const Error& error) {
    ask.parts.recorder.record(Outcome::kRefused, actor, "certificate.import", ask.ids[0],
                              error.what());
    throw;
  }
}

Answer make_token(const Ask& ask) {
  return json(ask.parts.changes.make_token(ask.body, ask.person));
}

Answer put_user(const Ask& ask) {
  auto text = text_of(ask.body, "password", "");
  const Wiping wiping(text);
  const SecretBytes password(text.begin(), text.end());
  UserEdit edit;
  edit.password = password;
  if (has_member(ask.body, "role")) edit.role = text_of(ask.body, "role");
  if (has_member(ask.body, "spki_sha256")) edit.spki_sha256 = text_of(ask.body, "spki_sha256");
  if (has_member(ask.body, "disabled")) edit.disabled = flag_of(ask.body, "disabled", false);
  // Access rules of specifications name roles: with another role, the user could read data that the
  // current role may not.
  if (ask.ids[0] == ask.person.name && edit.role && *edit.role != name_of(ask.person.role)) {
    ask.parts.recorder.record(Outcome::kRefused, "user " + ask.person.name, "user.change",
                              ask.person.name, "its own role: " + escape_controls(*edit.role));
    throw Error(Code::kDenied, "you cannot change your own role; another admin must do it");
  }
  return json(ask.parts.changes.put_user(ask.ids[0], edit, ask.person));
}

Answer log_out(const Ask& ask) {
  if (!flag_of(ask.body, "all", false)) {
    ask.parts.people.logout(ask.request);
    return json(Json::object());
  }
  const auto person = ask.parts.people.identify(ask.request);
  return json(ask.parts.people.end_sessions(person.name, "user " + person.name));
}

Answer back_up(const Ask& ask) {
  const auto path = text_of(ask.body, "path");
  if (!path.starts_with('/'))
    throw Error(Code::kUsage, "'path' must be absolute: it is on the instance's host");
  ask.parts.store.backup(path);
  ask.parts.recorder.record(Outcome::kDone, "user " + ask.person.name, "backup", path);
  return json({{"path", path}});
}

// Whatever waited for it is checked again, by the agents and by all replicas.
Answer accept_restored(const Ask& ask) {
  const Json out =
      ask.parts.epoch.accept(number_of(ask.body, "epoch", 0, 0, INT64_MAX), ask.person.name);
  for (const auto& agent : ask.parts.store.agents().all()) {
    if (agent.state != name_of(Trust::kTrusted)) continue;
    ask.parts.store.links().bump_generation(agent.id);
    ask.parts.tasks.greet(agent);
  }
  ask.parts.store.notify({});
  return json(out);
}

// An enrollment is an agent's request too: tokens that were used since the backup are good again.
Enrollment& enrollment_of(const Ask& ask) {
  ask.parts.epoch.require_accepted();
  return ask.parts.enrollment;
}

const Route kRoutes[] = {
    {"POST", "/v1/enrollments", std::nullopt,
     [](const Ask& ask) {
       return json(enrollment_of(ask).begin(ask.body, ask.request.peer.address));
     }},
    {"POST", "/v1/enrollments/{}/proof", std::nullopt,
     [](const Ask& ask) {
       return json(enrollment_of(ask).prove(ask.ids[0], ask.body, ask.request.peer.address));
     }},
    {"GET", "/v1/enrollments/{}", std::nullopt,
     [](const Ask& ask) {
       return json(
           enrollment_of(ask).poll(ask.ids[0], ask.query("answer"), ask.request.peer.address));
     }},
    {"GET", "/v1/crl", std::nullopt,
     [](const Ask& ask) { return pem(ask.parts.authority.crl_pem()); }},
    {"POST", "/v1/login", std::nullopt,
     [](const Ask& ask) {
       return json(ask.parts.people.login(ask.body, ask.request.peer.address));
     }},
    {"POST", "/v1/logout", std::nullopt, log_out},
    {"GET", "/v1/status", Right::kRead, show_status},
    {"GET", "/v1/agents", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.agents.list()); }},
    {"GET", "/v1/agents/{}", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.agents.show(ask.ids[0])); }},
    {"GET", "/v1/agents/{}/key", Right::kRead,
     [](const Ask& ask) { return Answer{ask.parts.agents.jwk(ask.ids[0])}; }},
    {"POST", "/v1/agents/{}/groups", Right::kGroups,
     [](const Ask& ask) {
       return json(
           ask.parts.agents.set_groups(ask.ids[0], texts_of(ask.body, "groups"), ask.person.name));
     }},
    {"GET", "/v1/certificates", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.authority.outside().requests()); }},
    {"POST", "/v1/agents/{}/certificate", Right::kAgents, import_certificate},
    {"GET", "/v1/agents/{}/checkpoint", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.agents.checkpoint(ask.ids[0])); }},
    {"GET", "/v1/agents/{}/checkpoint/days", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.agents.checkpoint_days(ask.ids[0])); }},
    {"POST", "/v1/agents/{}/checkpoint/accept", Right::kAgents,
     [](const Ask& ask) {
       return json(ask.parts.agents.accept_log(
           ask.ids[0], text_of(ask.body, "reason", "").substr(0, 500), ask.person.name));
     }},
    {"POST", "/v1/agents/{}/{}", Right::kAgents, change_trust},
    {"POST", "/v1/tokens", Right::kAgents, make_token},
    {"GET", "/v1/credentials", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.credentials.list()); }},
    {"GET", "/v1/credentials/{}", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.credentials.show(ask.ids[0])); }},
    {"GET", "/v1/credentials/{}/next", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.credentials.next(ask.ids[0])); }},
    {"POST", "/v1/credentials/reseal", Right::kCredentials,
     [](const Ask& ask) { return json(ask.parts.credentials.reseal(ask.person.name)); }},
    {"PUT", "/v1/credentials/{}", Right::kCredentials,
     [](const Ask& ask) {
       Json answer = ask.parts.credentials.put(ask.ids[0], ask.body, ask.person);
       return json(with_unknown_assignees(ask, std::move(answer)));
     }},
    {"POST", "/v1/credentials/{}/assign", Right::kCredentials,
     [](const Ask& ask) {
       Json answer = ask.parts.credentials.assign(ask.ids[0], ask.body, ask.person.name);
       return json(with_unknown_assignees(ask, std::move(answer)));
     }},
    {"DELETE", "/v1/credentials/{}", Right::kCredentials,
     [](const Ask& ask) {
       return json(ask.parts.changes.remove_credential(ask.ids[0], ask.person));
     }},
    {"POST", "/v1/rekeys", Right::kRekey,
     [](const Ask& ask) { return json(ask.parts.rekeys.order(ask.body, ask.person.name)); }},
    {"GET", "/v1/rekeys", Right::kRead,
     [](const Ask& ask) { return json(ask.parts.rekeys.list(ask.query("batch"))); }},
    {"POST", "/v1/rekeys/{}/cancel", Right::kRekey,
     [](const Ask& ask) { return json(ask.parts.rekeys.cancel(ask.ids[0], ask.person.name)); }},
    {"GET", "/v1/events", Right::kEvents, show_events},
    {"GET", "/v1/users", Right::kUsers,
     [](const Ask& ask) { return json(ask.parts.people.list()); }},
    {"PUT", "/v1/users/{}", Right::kUsers, put_user},
    {"POST", "/v1/users/{}/logout", Right::kUsers,
     [](const Ask& ask) {
       return json(ask.parts.people.end_sessions(ask.ids[0], "user " + ask.person.name));
     }},
    {"POST", "/v1/backup", Right::kBackup, back_up},
    {"POST", "/v1/restored/accept", Right::kRestored, accept_restored},
};

Answer run(const Services& parts, const Route& route, const tls::HttpRequest& request,
           std::vector<std::string> ids) {
  Ask ask{parts, request, std::move(ids), {}, Json::object()};
  if (route.right) {
    ask.person = parts.people.identify(request);
    if (!has(ask.person.role, *route.right)) {
      parts.recorder.record(Outcome::kRefused, "user " + ask.person.name,
                            std::string(route.method) + " " + route.pattern, request.path,
                            "the role is " + std::string(name_of(ask.person.role)));
      throw Error(Code::kDenied,
                  "the role " + std::string(name_of(ask.person.role)) + " does not allow this");
    }
  }
  if (!request.body.empty()) ask.body = parse_object(request.body);
  const Wiping wiping(ask.body);
  require_bounds(ask.body);
  return route.run(ask);
}

// Agents, also those of 0.1.0, use the older spelling.
std::string current_path(const std::string& path) {
  constexpr std::string_view kOlder = "/v1/enrolments";
  const bool older =
      path.starts_with(kOlder) && (path.size() == kOlder.size() || path[kOlder.size()] == '/');
  return older ? "/v1/enrollments" + path.substr(kOlder.size()) : path;
}

const Route& find_route(const tls::HttpRequest& request, std::vector<std::string>& ids) {
  bool known_path = false;
  const auto path = current_path(request.path);
  for (const auto routes : all_routes_of_people()) {
    for (const auto& route : routes) {
      auto found = match_path(route.pattern, path);
      if (!found) continue;
      known_path = true;
      if (request.method != route.method) continue;
      ids = std::move(*found);
      return route;
    }
  }
  throw Error(Code::kUsage, known_path ? "this path does not support " + request.method
                                       : no_such_path(request.method, request.path));
}

}  // namespace

std::vector<std::span<const PeopleRoute>> all_routes_of_people() {
  return {kRoutes, task_routes_of_people(), record_routes_of_people(), exchange_routes_of_people(),
          decision_routes_of_people()};
}

Answer json_answer(const Json& object) {
  return {object.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

std::string PeopleAsk::query(const std::string& name) const {
  const auto found = request.query.find(name);
  return found == request.query.end() ? std::string() : found->second;
}

std::int64_t PeopleAsk::number(const char* name, std::int64_t otherwise) const {
  const auto text = query(name);
  if (text.empty()) return otherwise;
  if (text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    throw Error(Code::kUsage, std::string("'") + name + "' must be a whole number");
  return std::stoll(text);
}

tls::HttpResponse answer_people(const Services& parts, const tls::HttpRequest& request) {
  std::vector<std::string> ids;
  const auto& route = find_route(request, ids);
  auto answer = run(parts, route, request, std::move(ids));
  tls::HttpResponse response;
  response.body = std::move(answer.body);
  response.type = std::move(answer.type);
  return response;
}

}  // namespace keyagent::instance
