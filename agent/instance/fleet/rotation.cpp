// SPDX-License-Identifier: Apache-2.0
// How an agent changes its keys: the current ones attest the new ones (R7).

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/envelope/challenge.h"
#include "agent/instance/fleet/agents.h"
#include "agent/store/agents.h"
#include "agent/store/challenges.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kRotationTime = std::chrono::hours(24 * 7);

std::string hash_of_text(ByteView bytes) {
  return to_base64url(sha256(bytes));
}

std::string sealed_text(const PublicKeyInfo& key, const SecretBytes& secret) {
  const Bytes sealed = envelope::seal_challenge(key, secret);
  return std::string(as_text(sealed));
}

bool answers(const Json& request, const char* name, const Json& asked) {
  const auto given = from_base64url(text_of(request, name));
  return given && equal_secret(as_bytes(hash_of_text(*given)), as_bytes(text_of(asked, name)));
}

// Trust may have ended since the session's agent was looked up.
void require_trusted(const store::Agent& agent) {
  if (agent.state != name_of(Trust::kTrusted))
    throw Error(Code::kKeyState, "the agent is " + agent.state, agent.auth_kid);
}

store::Challenge require_rotation(store::Store& store, const store::Agent& agent,
                                  const std::string& id, WallTime now) {
  auto challenge = store.challenges().find(id, now);
  if (!challenge || challenge->kind != "transport" || challenge->agent != agent.id)
    throw Error(Code::kUsage, "unknown rotation; start again");
  return *challenge;
}

}  // namespace

Json Agents::begin_rotation(const store::Agent& agent, const Json& request) {
  const auto old_kid = text_of(request, "old_kid");
  if (old_kid != agent.transport_kid)
    throw Error(Code::kKeyState, "the transport key that is trusted is " + agent.transport_kid,
                old_kid);
  auto fresh = envelope::key_of_spki(bytes_of(request, "spki"), Purpose::kTransport);
  const auto algorithm = envelope_algorithm_of(text_of(request, "envelope"));
  if (!algorithm || !can_seal(fresh.algorithm, *algorithm))
    throw Error(Code::kUsage, "'envelope' does not fit the new key", fresh.kid.text());
  if (fresh.kid.text() == agent.transport_kid)
    throw Error(Code::kUsage, "the new key is the old one", old_kid);
  fresh.envelope = *algorithm;
  const SecretBytes old_secret = envelope::new_challenge();
  const SecretBytes new_secret = envelope::new_challenge();
  store::Challenge challenge;
  challenge.id = to_hex(random_bytes(16));
  challenge.kind = "transport";
  challenge.agent = agent.id;
  challenge.state = "asked";
  challenge.expires = clock_.now() + 10min;
  challenge.data = Json{{"old_kid", old_kid},
                        {"new_kid", fresh.kid.text()},
                        {"spki", to_base64url(fresh.spki)},
                        {"envelope", name_of(*algorithm)},
                        {"old", hash_of_text(old_secret)},
                        {"new", hash_of_text(new_secret)}}
                       .dump();
  store_.challenges().add(challenge, clock_.now());
  return {{"rotation", challenge.id},
          {"challenges",
           {{"old", sealed_text(transport_of(agent), old_secret)},
            {"new", sealed_text(fresh, new_secret)}}}};
}

Json Agents::prove_rotation(const store::Agent& agent, const std::string& id, const Json& request) {
  auto challenge = require_rotation(store_, agent, id, clock_.now());
  const Json asked = parse_object(challenge.data);
  const auto new_kid = text_of(asked, "new_kid");
  if (!answers(request, "old", asked) || !answers(request, "new", asked)) {
    challenge.state = "failed";
    store_.challenges().move(challenge, "asked");
    recorder_.record(Outcome::kAlarm, "agent " + agent.id, "transport.prove", agent.id,
                     "a challenge was not opened: " + new_kid + " is not trusted");
    throw Error(Code::kIntegrity, "a challenge was not opened by its key", new_kid);
  }
  if (challenge.state == "failed")
    throw Error(Code::kIntegrity, "a wrong response ended this rotation; start again", new_kid);
  if (challenge.state == "asked") {
    challenge.state = "staged";
    challenge.expires = clock_.now() + kRotationTime;
    const auto event =
        recorder_.make(Outcome::kDone, "agent " + agent.id, "transport.stage", agent.id, new_kid);
    change(agent.id,
           [&](store::Agent& each) {
             require_trusted(each);
             if (each.auth_kid != agent.auth_kid || each.transport_kid != text_of(asked, "old_kid"))
               throw Error(Code::kKeyState, "the trusted transport key has changed in the meantime",
                           new_kid);
             each.next_transport_kid = new_kid;
             each.next_transport_spki = bytes_of(asked, "spki");
             each.next_envelope = text_of(asked, "envelope");
           },
           {event, {}, challenge, "asked"});
    followers_.follow_transport(agent.id);
  }
  return {{"state", "staged"}};
}

Json Agents::switch_rotation(const store::Agent& agent, const std::string& id) {
  const auto challenge = require_rotation(store_, agent, id, clock_.now());
  const Json asked = parse_object(challenge.data);
  const auto old_kid = text_of(asked, "old_kid"), new_kid = text_of(asked, "new_kid");
  if (challenge.state != "staged")
    throw Error(Code::kKeyState, "the new transport key has not been proved", new_kid);
  if (agent.transport_kid != new_kid) {
    const auto event = recorder_.make(Outcome::kDone, "agent " + agent.id, "transport.switch",
                                      agent.id, old_kid + " -> " + new_kid);
    const auto switch_over = [&](store::Agent& each) {
      require_trusted(each);
      if (each.transport_kid == new_kid) return;
      if (each.next_transport_kid != new_kid || each.transport_kid != old_kid)
        throw Error(Code::kKeyState, "another new transport key was proved in the meantime",
                    new_kid);
      each.previous_transport_kid = each.transport_kid;
      each.transport_kid = each.next_transport_kid;
      each.transport_spki = each.next_transport_spki;
      each.envelope = each.next_envelope;
      each.next_transport_kid.clear();
      each.next_transport_spki.clear();
      each.next_envelope.clear();
    };
    change(agent.id, switch_over, {event, {}, challenge, "staged"});
    followers_.follow_transport(agent.id);
  }
  const auto now = require(agent.id);
  require_trusted(now);
  if (now.transport_kid != new_kid)
    throw Error(Code::kKeyState, "the trusted transport key has changed in the meantime", new_kid);
  const Json confirmation{{"agent", agent.id},
                          {"old_kid", old_kid},
                          {"new_kid", new_kid},
                          {"at", rfc3339(clock_.now())}};
  return {{"confirmation",
           keys_.sign_confirmation(envelope::Statement::kRotation, confirmation.dump())}};
}

store::Agent Agents::catch_up(const store::Agent& agent, const Json& said) {
  const auto spki = from_base64url(text_of(said, "spki", ""));
  const auto kid = spki ? jwk_thumbprint(*spki) : std::string();
  if (kid.empty() || kid == agent.transport_kid) return agent;
  const auto signed_text =
      keys_.verify_confirmation(envelope::Statement::kRotation, text_of(said, "confirmation", ""));
  const Json confirmed = signed_text ? parse_object(*signed_text) : Json::object();
  const auto algorithm = envelope_algorithm_of(text_of(said, "envelope", ""));
  const bool ours =
      text_of(confirmed, "agent", "") == agent.id && text_of(confirmed, "new_kid", "") == kid;
  if (!ours || parse_rfc3339(text_of(confirmed, "at")) <= agent.changed || !algorithm ||
      !can_seal(envelope::key_of_spki(*spki, Purpose::kTransport).algorithm, *algorithm)) {
    log_warning("instance", "agent " + agent.id + " has the transport key " + kid +
                                ", which is not trusted and not confirmed");
    return agent;
  }
  const auto changed = change(agent.id, [&](store::Agent& each) {
    if (each.revision != agent.revision) throw Error(Code::kBusy, "the agent was changed just now");
    require_trusted(each);
    each.previous_transport_kid = each.transport_kid;
    each.transport_kid = kid;
    each.transport_spki = *spki;
    each.envelope = name_of(*algorithm);
    each.next_transport_kid.clear();
    each.next_transport_spki.clear();
    each.next_envelope.clear();
  });
  recorder_.record(Outcome::kAlarm, "agent " + agent.id, "transport.catch-up", agent.id,
                   agent.transport_kid + " -> " + kid + ", which this instance confirmed at " +
                       text_of(confirmed, "at") + "; the store had no record of it");
  followers_.follow_transport(agent.id);
  return changed;
}

Json Agents::renew(const store::Agent& agent, const Json& request) {
  const Bytes spki = pki::key_of_request(text_of(request, "csr"));
  const auto kid = envelope::key_of_spki(spki, Purpose::kAuth).kid.text();
  if (kid != agent.auth_kid) {
    if (const auto other = store_.agents().find_by_auth_kid(kid))
      throw Error(Code::kExists, "this key is the agent " + other->id, kid);
    change(agent.id, [&](store::Agent& each) {
      require_trusted(each);
      if (each.auth_kid != agent.auth_kid)
        throw Error(Code::kKeyState, "the agent has another auth key now", kid);
      each.next_auth_kid = kid;
      each.next_auth_spki = spki;
    });
  }
  const auto chain = authority_.certify_agent(agent.id, spki, text_of(request, "csr"));
  if (!chain)
    throw Error(Code::kBusy, "the request waits for the external CA; the agent asks again", kid);
  recorder_.record(Outcome::kDone, "agent " + agent.id, "certificate.renew", agent.id, kid);
  return {{"certificate", *chain}, {"crl", authority_.crl_pem()}};
}

}  // namespace keyagent::instance
