#include "agent/instance/enrolment.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/challenge.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kProofTime = 10min;
constexpr auto kApprovalTime = std::chrono::hours(24 * 7);
constexpr std::size_t kMostPending = 1000;
constexpr std::size_t kSecretSize = 32;

[[noreturn]] void deny_token() {
  throw Error(Code::kDenied,
              "the enrolment token is unknown, used, expired or for another agent; ask for a new "
              "one: keyagent instance token create");
}

std::string hash_text(ByteView bytes) {
  return to_base64url(sha256(bytes));
}

Bytes bytes_in(const Json& data, const char* name) {
  return bytes_of(data, name);
}

}  // namespace

Enrolment::Enrolment(const InstanceConfig& config, HostKeys& keys, Authority& authority,
                     store::Store& store, Recorder& recorder, const Clock& clock)
    : config_(config),
      keys_(keys),
      authority_(authority),
      store_(store),
      recorder_(recorder),
      clock_(clock) {}

// An id belongs to the key that had it first; only a token that was made for this id moves it.
void Enrolment::require_free(const store::Agent& wanted, bool replace, const std::string& from) {
  const auto other = store_.agent_by_auth_kid(wanted.auth_kid);
  if (other && other->id != wanted.id)
    throw Error(Code::kExists, "this auth key is the agent " + other->id, wanted.auth_kid);
  const auto known = store_.agent(wanted.id);
  if (!known || known->state == name_of(Trust::kRejected) || replace) return;
  if (known->auth_kid != wanted.auth_kid) {
    recorder_.record(Outcome::kAlarm, from, "enrol", wanted.id,
                     "the agent is there with key " + known->auth_kid + ", not " + wanted.auth_kid);
    throw Error(Code::kExists,
                "an agent " + wanted.id +
                    " is there with another key; if it lost its token: keyagent enroll --replace "
                    "with a token made for it",
                wanted.auth_kid);
  }
  if (known->state == name_of(Trust::kRevoked))
    throw Error(Code::kDenied, "the agent " + wanted.id + " was revoked", wanted.auth_kid);
  if (known->transport_kid != wanted.transport_kid)
    throw Error(Code::kKeyState,
                "the agent " + wanted.id +
                    " is there with another transport key; a new one is trusted by a rekey only",
                wanted.transport_kid);
}

Json Enrolment::begin(const Json& request, const std::string& from) {
  store::Agent wanted;
  wanted.id = text_of(request, "agent");
  if (!is_id(wanted.id)) throw Error(Code::kUsage, "an agent's id is [a-z0-9.-]{1,63}");
  wanted.auth_spki = pki::key_of_request(text_of(request, "csr"));
  wanted.auth_kid = envelope::key_of_spki(wanted.auth_spki, Purpose::kAuth).kid.text();
  const Json transport = request.value("transport", Json::object());
  auto key = envelope::key_of_spki(bytes_of(transport, "spki"), Purpose::kTransport);
  const auto algorithm = envelope_algorithm_of(text_of(transport, "envelope"));
  if (!algorithm || !can_seal(key.algorithm, *algorithm))
    throw Error(Code::kUsage, "'envelope' does not fit the transport key");
  key.envelope = *algorithm;
  wanted.transport_spki = key.spki;
  wanted.transport_kid = key.kid.text();
  const bool replace = flag_of(request, "replace", false);
  const std::string token = text_of(request, "token", "");
  if (replace && token.empty())
    throw Error(Code::kDenied, "'replace' needs an enrolment token that was made for this agent");
  require_free(wanted, replace, from);

  const SecretBytes secret = envelope::new_challenge();
  store::Challenge challenge;
  challenge.id = to_hex(random_bytes(16));
  challenge.kind = "enrolment";
  challenge.agent = wanted.id;
  challenge.state = "asked";
  challenge.expires = clock_.now() + kProofTime;
  Json data{{"auth", to_base64url(wanted.auth_spki)},
            {"transport", to_base64url(wanted.transport_spki)},
            {"envelope", name_of(*algorithm)},
            {"host", text_of(request, "host", "").substr(0, 253)},
            {"version", text_of(request, "version", "").substr(0, 63)},
            {"replace", replace},
            {"answer", hash_text(secret)}};
  if (!token.empty()) {
    const auto bytes = from_base64url(token);
    if (!bytes || bytes->size() != kSecretSize) deny_token();
    data["token"] = hash_text(*bytes);
  }
  challenge.data = data.dump();
  store_.add_challenge(challenge, clock_.now());
  const Bytes sealed = envelope::seal_challenge(key, secret);
  return {{"enrolment", challenge.id}, {"challenge", std::string(as_text(sealed))}};
}

// The row of the agent as the enrolment asked for it.
void Enrolment::enter(const Json& asked, const std::string& state, const std::string& vouched) {
  store::Agent agent;
  agent.id = text_of(asked, "agent");
  agent.auth_spki = bytes_in(asked, "auth");
  agent.auth_kid = jwk_thumbprint(agent.auth_spki);
  agent.transport_spki = bytes_in(asked, "transport");
  agent.transport_kid = jwk_thumbprint(agent.transport_spki);
  agent.envelope = text_of(asked, "envelope");
  agent.host = text_of(asked, "host", "");
  agent.version = text_of(asked, "version", "");
  agent.groups = texts_of(asked, "groups");
  agent.state = state;
  agent.approved_by = vouched;
  agent.enrolled = agent.changed = clock_.now();
  const auto known = store_.agent(agent.id);
  if (known) {
    if (known->auth_kid == agent.auth_kid && known->transport_kid == agent.transport_kid &&
        known->state != name_of(Trust::kRejected) && known->state != name_of(Trust::kPending))
      return;  // it is there already
    if (known->auth_kid != agent.auth_kid) {
      authority_.revoke(agent.id, "superseded");
      store_.drop_sealed_copies(agent.id, known->transport_kid);
    }
    if (agent.groups.empty()) agent.groups = known->groups;
    agent.last_seen = known->last_seen;
    agent.revision = known->revision;
  }
  if (known ? !store_.update_agent(agent) : !store_.add_agent(agent))
    throw Error(Code::kBusy, "the agent was changed at the same moment; try again");
}

Json Enrolment::prove(const std::string& id, const Json& request, const std::string& from) {
  auto challenge = store_.challenge(id, clock_.now());
  if (!challenge || challenge->kind != "enrolment")
    throw Error(Code::kUsage, "there is no such enrolment; it is good for 10 minutes");
  Json asked = parse_object(challenge->data);
  const auto answer = from_base64url(text_of(request, "answer"));
  if (!answer || !equal_secret(as_bytes(hash_text(*answer)), as_bytes(text_of(asked, "answer")))) {
    challenge->state = "failed";
    store_.move_challenge(*challenge, "asked");
    recorder_.record(Outcome::kAlarm, from, "enrol", challenge->agent,
                     "the transport key did not open its challenge");
    throw Error(Code::kIntegrity, "the transport key did not open its challenge");
  }
  if (challenge->state == "proved") return answer_for(*challenge);  // said again
  if (challenge->state != "asked")
    throw Error(Code::kIntegrity, "a wrong answer ended this enrolment; begin it again");
  asked["agent"] = challenge->agent;
  if (asked.contains("token")) {
    const auto used =
        store_.use_enrolment_token(bytes_in(asked, "token"), challenge->agent, clock_.now());
    const bool replace = flag_of(asked, "replace", false);
    if (!used || (replace && used->agent_id != challenge->agent)) {
      recorder_.record(Outcome::kRefused, from, "enrol", challenge->agent, "the token is not good");
      deny_token();
    }
    asked["groups"] = used->groups;
    enter(asked, std::string(name_of(Trust::kTrusted)), "token of " + used->created_by);
    recorder_.record(Outcome::kDone, from, "enrol", challenge->agent,
                     "trusted by a token of " + used->created_by);
  } else {
    const auto all = store_.agents();
    const auto waiting = std::count_if(all.begin(), all.end(), [](const auto& each) {
      return each.state == name_of(Trust::kPending);
    });
    if (static_cast<std::size_t>(waiting) >= kMostPending)
      throw Error(Code::kBusy, "too many agents wait for an approval");
    if (const auto known = store_.agent(challenge->agent);
        !known || known->state == name_of(Trust::kRejected))
      enter(asked, std::string(name_of(Trust::kPending)), {});
    recorder_.record(Outcome::kDone, from, "enrol", challenge->agent, "waits for an approval");
  }
  challenge->state = "proved";
  challenge->data = asked.dump();
  challenge->expires = clock_.now() + kApprovalTime;
  store_.move_challenge(*challenge, "asked");
  return answer_for(*challenge);
}

Json Enrolment::poll(const std::string& id, const std::string& answer) {
  const auto challenge = store_.challenge(id, clock_.now());
  const auto bytes = from_base64url(answer);
  if (!challenge || challenge->kind != "enrolment" || challenge->state != "proved" || !bytes ||
      !equal_secret(as_bytes(hash_text(*bytes)),
                    as_bytes(text_of(parse_object(challenge->data), "answer"))))
    throw Error(Code::kDenied, "there is no such enrolment");
  return answer_for(*challenge);
}

Json Enrolment::answer_for(const store::Challenge& challenge) {
  const Json asked = parse_object(challenge.data);
  const Bytes spki = bytes_in(asked, "auth");
  const auto agent = store_.agent(challenge.agent);
  if (!agent || agent->auth_spki != spki || agent->state == name_of(Trust::kRejected))
    throw Error(Code::kDenied,
                "the enrolment was rejected" +
                    (agent && !agent->reason.empty() ? ": " + agent->reason : std::string()));
  if (agent->state == name_of(Trust::kPending))
    return {{"state", agent->state}, {"fingerprint", agent->auth_kid}};
  if (agent->state != name_of(Trust::kTrusted))
    throw Error(Code::kKeyState, "the agent " + agent->id + " is " + agent->state);
  return {{"state", agent->state},
          {"agent", agent->id},
          {"certificate", authority_.certify_agent(agent->id, spki)},
          {"ca", authority_.certificate_pem()},
          {"crl", authority_.crl_pem()},
          {"instance", config_.id},
          {"agents_url", https_url(config_.hosts.front(), agents_port_)},
          {"confirmation_key", to_base64url(keys_.find(config_.confirmation_key).spki)}};
}

Json Enrolment::make_token(const std::string& agent, const std::vector<std::string>& groups,
                           std::chrono::hours life, const std::string& by) {
  if (!agent.empty() && !is_id(agent))
    throw Error(Code::kUsage, "an agent's id is [a-z0-9.-]{1,63}");
  const SecretBytes secret = random_secret(kSecretSize);
  store::EnrolmentToken token;
  token.hash = sha256(secret);
  token.agent_id = agent;
  token.groups = groups;
  token.created_by = by;
  token.expires = clock_.now() + life;
  store_.add_enrolment_token(token);
  recorder_.record(Outcome::kDone, "user " + by, "token.create", agent.empty() ? "*" : agent);
  return {{"token", "ka1." + authority_.fingerprint() + "." + to_base64url(secret)},
          {"expires", rfc3339(token.expires)}};
}

}  // namespace keyagent::instance
