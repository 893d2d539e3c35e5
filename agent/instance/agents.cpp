#include "agent/instance/agents.h"

#include <algorithm>

#include "agent/base/error.h"
#include "agent/envelope/envelope.h"

namespace keyagent::instance {
namespace {

constexpr int kTries = 5;

}  // namespace

PublicKeyInfo transport_of(const store::Agent& agent, bool next) {
  auto key = envelope::key_of_spki(next ? agent.next_transport_spki : agent.transport_spki,
                                   Purpose::kTransport);
  key.envelope = envelope_algorithm_of(next ? agent.next_envelope : agent.envelope)
                     .value_or(EnvelopeAlgorithm::kNone);
  key.name = agent.id;
  return key;
}

Agents::Agents(HostKeys& keys, Authority& authority, store::Store& store, Links& links,
               Recorder& recorder, const Clock& clock)
    : keys_(keys),
      authority_(authority),
      store_(store),
      links_(links),
      recorder_(recorder),
      clock_(clock) {}

store::Agent Agents::require(const std::string& id) const {
  const auto agent = store_.agent(id);
  if (!agent) throw Error(Code::kUsage, "there is no agent '" + id + "'");
  return *agent;
}

store::Agent Agents::change(const std::string& id, const std::function<void(store::Agent&)>& edit) {
  for (int i = 0; i < kTries; ++i) {
    auto agent = require(id);
    edit(agent);
    agent.changed = clock_.now();
    if (store_.update_agent(agent)) return require(id);
  }
  throw Error(Code::kBusy, "the agent " + id + " is being changed by somebody else; try again");
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
  auto agent = peer.certified ? store_.agent_by_auth_kid(peer.kid) : std::nullopt;
  if (!agent) {
    for (const auto& name : peer.names) {
      if (!name.starts_with("DNS:")) continue;
      const auto named = store_.agent(name.substr(4));
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
  auto changed = change(agent->id, [](store::Agent& each) {
    if (each.next_auth_kid.empty()) return;
    each.auth_kid = each.next_auth_kid;
    each.auth_spki = each.next_auth_spki;
    each.next_auth_kid.clear();
    each.next_auth_spki.clear();
  });
  recorder_.record(Outcome::kDone, "agent " + changed.id, "auth.switch", changed.id,
                   old + " -> " + changed.auth_kid);
  if (end_sessions) end_sessions(old, "the agent has a new key");
  store_.notify(changed.id);
  return changed;
}

std::string Agents::shown(const store::Agent& agent, bool live) const {
  if (agent.state != name_of(Trust::kTrusted)) return agent.state;
  const auto open = store_.rekeys(agent.id, true);
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
  if (live) {
    out["tls"] = {{"version", live->tls_version},     {"address", live->address},
                  {"serial", live->serial},           {"since", rfc3339(live->since)},
                  {"keepalive", rfc3339(live->seen)}, {"replica", live->replica}};
  }
  const auto certificates = store_.certificates(agent.id);
  if (!certificates.empty()) {
    const auto newest =
        std::max_element(certificates.begin(), certificates.end(),
                         [](const auto& a, const auto& b) { return a.not_before < b.not_before; });
    out["certificate"] = {{"serial", newest->serial},
                          {"not_after", rfc3339(newest->not_after)},
                          {"revoked", newest->revoked.has_value()}};
  }
  Json census = Json::object();
  for (const auto& [kid, count] : store_.census(agent.id)) census[kid] = count;
  out["census"] = census;
  return out;
}

Json Agents::list() const {
  Json out = Json::array();
  for (const auto& each : store_.agents()) out.push_back(describe(each));
  return {{"agents", out}};
}

Json Agents::show(const std::string& id) const {
  return {{"agents", Json::array({describe(require(id))})}};
}

std::string Agents::jwk(const std::string& id) const {
  return envelope::to_jwk(transport_of(require(id)));
}

Json Agents::apply(TrustVerb verb, const std::string& id, const std::string& fingerprint,
                   const std::string& reason, const std::string& by) {
  const std::string actor = "user " + by, what = "agent." + std::string(name_of(verb));
  const auto agent = require(id);
  const auto trust = trust_of(agent.state);
  const auto next = trust ? after(*trust, verb) : std::nullopt;
  if (!next) {
    recorder_.record(Outcome::kRefused, actor, what, id, "the agent is " + agent.state);
    throw Error(Code::kKeyState, "the agent " + id + " is " + agent.state + ": no " +
                                     std::string(name_of(verb)) + " from there");
  }
  if (verb == TrustVerb::kApprove && fingerprint != agent.auth_kid) {
    recorder_.record(Outcome::kRefused, actor, what, id, "another fingerprint: " + fingerprint);
    throw Error(Code::kIntegrity, "the agent's fingerprint is " + agent.auth_kid + ", not " +
                                      fingerprint +
                                      "; compare it with `keyagent status` on the agent's host");
  }
  if (*next == *trust) return show(id);
  // Revoked certificates first: what stops half-way has taken trust away, not given it.
  if (verb == TrustVerb::kRevoke) authority_.revoke(id, "keyCompromise");
  const auto changed = change(id, [&](store::Agent& each) {
    if (each.auth_kid != agent.auth_kid)
      throw Error(Code::kBusy, "the agent " + id + " has just enrolled again; look at it again");
    each.state = name_of(*next);
    each.reason = reason;
    if (verb == TrustVerb::kApprove) each.approved_by = actor;
  });
  recorder_.record(Outcome::kDone, actor, what, id, reason);
  if (changed.state != name_of(Trust::kTrusted)) {
    const std::string why = "the agent is " + changed.state;
    links_.close(id, why);
    if (end_sessions) end_sessions(changed.auth_kid, why);
    store_.notify(id);
  }
  return show(id);
}

Json Agents::set_groups(const std::string& id, const std::vector<std::string>& groups,
                        const std::string& by) {
  change(id, [&](store::Agent& each) { each.groups = groups; });
  recorder_.record(Outcome::kDone, "user " + by, "agent.groups", id);
  if (on_transport) on_transport(id);
  return show(id);
}

}  // namespace keyagent::instance
