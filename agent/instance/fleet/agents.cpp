// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/fleet/agents.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"
#include "agent/store/agents.h"
#include "agent/store/audit_checkpoints.h"
#include "agent/store/certificates.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/enrollments.h"
#include "agent/store/rekeys.h"
#include "agent/store/sealed_copies.h"

namespace keyagent::instance {
namespace {

constexpr int kTries = 5;

[[noreturn]] void refuse_verb(TrustVerb verb, const store::Agent& agent) {
  throw Error(Code::kKeyState, "the agent " + agent.id + " is " + agent.state + ": no " +
                                   std::string(name_of(verb)) + " from there");
}

[[noreturn]] void refuse_fingerprint(const std::string& right, const std::string& wrong) {
  throw Error(Code::kIntegrity, "the agent's fingerprint is " + right + ", not " + wrong +
                                    "; compare it with `keyagent status` on the agent's host");
}

}  // namespace

bool is_enrolled(const store::Agent& agent) {
  return agent.state == name_of(Trust::kTrusted) || agent.state == name_of(Trust::kSuspended);
}

PublicKeyInfo transport_of(const store::Agent& agent, bool next) {
  auto key = envelope::key_of_spki(next ? agent.next_transport_spki : agent.transport_spki,
                                   Purpose::kTransport);
  key.envelope = envelope_algorithm_of(next ? agent.next_envelope : agent.envelope)
                     .value_or(EnvelopeAlgorithm::kNone);
  key.name = agent.id;
  return key;
}

Agents::Agents(const FleetParts& parts)
    : keys_(parts.keys),
      authority_(parts.authority),
      store_(parts.store),
      links_(parts.links),
      recorder_(parts.recorder),
      clock_(parts.clock),
      followers_(parts.followers) {}

store::Agent Agents::require(const std::string& id) const {
  const auto agent = store_.agents().find(id);
  if (!agent) throw Error(Code::kUsage, "there is no agent '" + id + "'");
  return *agent;
}

store::Agent Agents::change(const std::string& id, const std::function<void(store::Agent&)>& edit,
                            const store::AgentChange& with) {
  for (int i = 0; i < kTries; ++i) {
    auto agent = require(id);
    edit(agent);
    agent.changed = clock_.now();
    if (store_.agents().update(agent, with)) {
      if (with.event) Recorder::say(*with.event);
      return require(id);
    }
  }
  throw Error(Code::kBusy, "the agent " + id + " was changed concurrently; try again");
}

// The key is the identity; the name in the certificate must agree (T9).
void Agents::require_key(const store::Agent& agent, const tls::Peer& peer) {
  const auto wanted = "DNS:" + agent.id;
  if (std::find(peer.names.begin(), peer.names.end(), wanted) == peer.names.end()) {
    recorder_.record(Outcome::kAlarm, peer.address, "connect", agent.id,
                     "its certificate names " + (peer.names.empty() ? "nobody" : peer.names[0]));
    throw Error(Code::kIntegrity, "the certificate is for another agent", peer.kid);
  }
}

store::Agent Agents::identify(const tls::Peer& peer) {
  auto agent = peer.certified ? store_.agents().find_by_auth_kid(peer.kid) : std::nullopt;
  if (!agent) {
    for (const auto& name : peer.names) {
      if (!name.starts_with("DNS:")) continue;
      const auto named = store_.agents().find(name.substr(4));
      if (named && named->next_auth_kid == peer.kid) agent = named;
    }
  }
  if (!agent) {
    recorder_.record(Outcome::kAlarm, peer.address, "connect",
                     peer.names.empty() ? "?" : peer.names[0], "no agent has the key " + peer.kid);
    throw Error(Code::kDenied, "no agent has this key", peer.kid);
  }
  require_key(*agent, peer);
  if (agent->state == name_of(Trust::kRevoked)) {
    recorder_.record(Outcome::kAlarm, peer.address, "connect", agent->id, "it was revoked");
    throw Error(Code::kDenied, "the agent was revoked", peer.kid);
  }
  if (agent->state != name_of(Trust::kTrusted))
    throw Error(Code::kKeyState, "the agent is " + agent->state, peer.kid);
  if (agent->next_auth_kid != peer.kid) return *agent;
  const auto old = agent->auth_kid;
  auto changed = change(agent->id, [&](store::Agent& each) {
    if (each.auth_kid == peer.kid) return;  // another session was faster
    if (each.state != name_of(Trust::kTrusted) || each.next_auth_kid != peer.kid)
      throw Error(Code::kKeyState, "this key is no longer the agent's next key", peer.kid);
    each.auth_kid = each.next_auth_kid;
    each.auth_spki = each.next_auth_spki;
    each.next_auth_kid.clear();
    each.next_auth_spki.clear();
  });
  recorder_.record(Outcome::kDone, "agent " + changed.id, "auth.switch", changed.id,
                   old + " -> " + changed.auth_kid);
  followers_.end_sessions(old, "the agent has a new key");
  store_.notify(changed.id);
  return changed;
}

std::string Agents::shown(const store::Agent& agent, bool live) const {
  if (agent.state != name_of(Trust::kTrusted)) return agent.state;
  const auto open = store_.rekeys().list(agent.id, true);
  const bool rekeying = !agent.next_transport_kid.empty() || !agent.next_auth_kid.empty() ||
                        std::any_of(open.begin(), open.end(),
                                    [](const auto& each) { return each.state != "ordered"; });
  return !live ? "down" : rekeying ? "rekeying" : "up";
}

Json Agents::describe(const store::Agent& agent) const {
  const auto live = links_.find(agent.id);
  Json out{{"id", agent.id},
           {"state", agent.state},
           {"shown", shown(agent, live.has_value())},
           {"auth_kid", agent.auth_kid},
           {"transport_kid", agent.transport_kid},
           {"previous_transport_kid", agent.previous_transport_kid},
           {"next_transport_kid", agent.next_transport_kid},
           {"host", agent.host},
           {"version", agent.version},
           {"groups", agent.groups},
           {"enrolled", time_json(agent.enrolled)},
           {"changed", time_json(agent.changed)},
           {"last_seen", time_json(agent.last_seen)},
           {"approved_by", agent.approved_by},
           {"reason", agent.reason}};
  if (const auto kept = store_.audit_checkpoints().find(agent.id, agent.enrolled))
    out["audit"] = {{"records", kept->size},
                    {"hash", kept->hash},
                    {"kid", kept->kid},
                    {"noted", rfc3339(kept->noted)}};
  if (live) {
    out["tls"] = {{"version", live->tls_version},     {"address", live->address},
                  {"serial", live->serial},           {"since", rfc3339(live->since)},
                  {"keepalive", rfc3339(live->seen)}, {"replica", live->replica}};
  }
  const auto certificates = store_.certificates().list(agent.id);
  if (!certificates.empty()) {
    const auto newest =
        std::max_element(certificates.begin(), certificates.end(),
                         [](const auto& a, const auto& b) { return a.not_before < b.not_before; });
    out["certificate"] = {{"serial", newest->serial},
                          {"not_after", rfc3339(newest->not_after)},
                          {"revoked", newest->revoked.has_value()}};
  }
  Json census = Json::object();
  for (const auto& [kid, count] : store_.sealed_copies().census(agent.id)) census[kid] = count;
  out["census"] = census;
  return out;
}

Json Agents::list() const {
  Json out = Json::array();
  for (const auto& each : store_.agents().all()) out.push_back(describe(each));
  for (const auto& each : store_.enrollments().pending({}, clock_.now()))
    out.push_back(describe(each));
  return {{"agents", out}};
}

// The agent, and those that wait to be it.
Json Agents::show(const std::string& id) const {
  Json out = Json::array();
  if (const auto agent = store_.agents().find(id)) out.push_back(describe(*agent));
  for (const auto& each : store_.enrollments().pending(id, clock_.now()))
    out.push_back(describe(each));
  if (out.empty()) throw Error(Code::kUsage, "there is no agent '" + id + "'");
  return {{"agents", out}};
}

Json Agents::describe(const store::PendingAgent& pending) const {
  const auto& agent = pending.agent;
  return {{"id", agent.id},
          {"state", agent.state},
          {"shown", agent.state},
          {"auth_kid", agent.auth_kid},
          {"transport_kid", agent.transport_kid},
          {"previous_transport_kid", ""},
          {"next_transport_kid", ""},
          {"host", agent.host},
          {"version", agent.version},
          {"groups", Json::array()},
          {"enrolled", time_json(agent.enrolled)},
          {"changed", time_json(agent.changed)},
          {"last_seen", Json()},
          {"approved_by", ""},
          {"reason", agent.reason},
          {"address", pending.address},
          {"expires", time_json(pending.expires)},
          {"census", Json::object()}};
}

std::string Agents::jwk(const std::string& id) const {
  return envelope::to_jwk(transport_of(require(id)));
}

Json Agents::apply(TrustVerb verb, const std::string& id, const std::string& fingerprint,
                   const std::string& reason, const std::string& by, Applies when) {
  const std::string actor = "user " + by;
  if (const auto done = apply_pending(verb, id, fingerprint, reason, actor)) return *done;
  change_trust(verb, id, fingerprint, reason, actor, when);
  enforce_trust(id);
  return show(id);
}

void Agents::change_trust(TrustVerb verb, const std::string& id, const std::string& fingerprint,
                          const std::string& reason, const std::string& actor, Applies when) {
  const std::string what = "agent." + std::string(name_of(verb));
  const auto agent = require(id);
  const auto trust = trust_of(agent.state);
  const auto next = trust ? after(*trust, verb) : std::nullopt;
  if (!next) {
    recorder_.record(Outcome::kRefused, actor, what, id, "the agent is " + agent.state);
    refuse_verb(verb, agent);
  }
  if (verb == TrustVerb::kApprove && fingerprint != agent.auth_kid) {
    recorder_.record(Outcome::kRefused, actor, what, id, "another fingerprint: " + fingerprint);
    refuse_fingerprint(agent.auth_kid, fingerprint);
  }
  if (*next == *trust) return;
  store::AgentChange with{recorder_.make(Outcome::kDone, actor, what, id, reason)};
  // The operator has decided which of two copies continues.
  with.forget_session = verb == TrustVerb::kResume;
  if (verb == TrustVerb::kRevoke) with.revoke = "keyCompromise";
  change(
      id,
      [&](store::Agent& each) {
        if (each.auth_kid != agent.auth_kid)
          throw Error(Code::kBusy, "the agent " + id + " has just enrolled again; check it again");
        if (when == Applies::kUnlessEnrolled && is_enrolled(each))
          throw Error(Code::kBusy, "the agent " + id + " has just been enrolled; try again");
        const auto now = trust_of(each.state);
        const auto then = now ? after(*now, verb) : std::nullopt;
        if (!then) refuse_verb(verb, each);
        each.state = name_of(*then);
        each.reason = reason;
        if (verb == TrustVerb::kApprove) each.approved_by = actor;
      },
      with);
}

void Agents::enforce_trust(const std::string& id) {
  const auto agent = require(id);
  if (agent.state == name_of(Trust::kTrusted)) return;
  const std::string why = "the agent is " + agent.state;
  links_.close(id, why);
  followers_.end_sessions(agent.auth_kid, why);
  store_.notify(id);
}

// For pending agents: approve and reject. nullopt: none is pending, or the verb is for the agent
// itself.
std::optional<Json> Agents::apply_pending(TrustVerb verb, const std::string& id,
                                          const std::string& fingerprint, const std::string& reason,
                                          const std::string& actor) {
  const auto waiting = store_.enrollments().pending(id, clock_.now());
  if (waiting.empty()) return std::nullopt;
  const auto agent = store_.agents().find(id);
  if (agent && agent->auth_kid == fingerprint) return std::nullopt;
  const bool ends = verb == TrustVerb::kReject || (verb == TrustVerb::kRevoke && !agent);
  if (ends) {
    const auto event = recorder_.make(Outcome::kDone, actor, "agent.reject", id,
                                      fingerprint.empty() ? reason : fingerprint + ": " + reason);
    if (store_.enrollments().reject(id, fingerprint, reason, event) == 0)
      refuse_fingerprint(waiting.front().agent.auth_kid, fingerprint);
    Recorder::say(event);
    return show(id);
  }
  if (verb != TrustVerb::kApprove) return std::nullopt;
  const bool known = std::any_of(waiting.begin(), waiting.end(), [&](const auto& each) {
    return each.agent.auth_kid == fingerprint;
  });
  if (!known) {
    recorder_.record(Outcome::kRefused, actor, "agent.approve", id,
                     "another fingerprint: " + fingerprint);
    std::string kids;
    for (const auto& each : waiting) kids += (kids.empty() ? "" : " or ") + each.agent.auth_kid;
    refuse_fingerprint(kids, fingerprint);
  }
  approve_pending(id, fingerprint, actor);
  return show(id);
}

void Agents::approve_pending(const std::string& id, const std::string& fingerprint,
                             const std::string& actor) {
  const auto event = recorder_.make(Outcome::kDone, actor, "agent.approve", id, fingerprint);
  const auto found = store_.enrollments().approve(id, fingerprint, actor, clock_.now(),
                                                  [&](const auto&) { return event; });
  switch (found.outcome) {
    case store::EnrollOutcome::kEntered:
      return Recorder::say(event);
    case store::EnrollOutcome::kRestored:
      throw Error(Code::kKeyState,
                  "the instance's store was restored from a backup and is not accepted yet");
    case store::EnrollOutcome::kNotPending:
      throw Error(Code::kKeyState, "the agent " + id + " is no longer pending with this key",
                  fingerprint);
    default:
      break;
  }
  const auto& other = found.before.value();
  recorder_.record(Outcome::kAlarm, actor, "agent.approve", id,
                   "refused: the agent " + other.id + " has key " + other.auth_kid + " now");
  throw Error(Code::kExists,
              "the agent " + other.id + " exists with key " + other.auth_kid +
                  " now; only an enrollment token for this id replaces it (keyagent instance token "
                  "--agent " +
                  id + ")",
              fingerprint);
}

Json Agents::set_groups(const std::string& id, const std::vector<std::string>& groups,
                        const std::string& by) {
  change(id, [&](store::Agent& each) { each.groups = groups; });
  recorder_.record(Outcome::kDone, "user " + by, "agent.groups", id);
  followers_.follow_transport(id);
  return show(id);
}

}  // namespace keyagent::instance
