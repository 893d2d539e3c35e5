// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/fleet/enrollment.h"

#include <algorithm>

#include "agent/base/address_principal.h"
#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/challenge.h"
#include "agent/store/agents.h"
#include "agent/store/challenges.h"
#include "agent/store/enroll_rows.h"
#include "agent/store/enrollments.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;
using enum store::EnrollOutcome;

constexpr auto kProofTime = 10min;
constexpr std::size_t kSecretSize = 32;
constexpr std::int64_t kMaxUnproved = 10'000;  // enrollments in progress without a token

[[noreturn]] void deny_token() {
  throw Error(Code::kDenied,
              "the enrollment token is unknown, used, expired or for another agent; get a new one "
              "with: keyagent instance token");
}

std::string hash_text(ByteView bytes) {
  return to_base64url(sha256(bytes));
}

bool is_answer(const Json& asked, const std::string& answer) {
  const auto bytes = from_base64url(answer);
  return bytes && equal_secret(as_bytes(hash_text(*bytes)), as_bytes(text_of(asked, "answer")));
}

bool has_been_proved(const store::Challenge& challenge) {
  return challenge.state == "proved" || challenge.state == Authority::kCertified;
}

std::string moved_text(const store::Agent& before, const store::Agent& after) {
  return "key " + before.auth_kid + " -> " + after.auth_kid;
}

// The text of the event of a decided enrollment.
std::string decided_text(const store::Enrolled& found, const store::Agent& agent) {
  const std::string by = found.token ? "a token of " + found.token->created_by : std::string();
  switch (found.outcome) {
    case kReplaced: {
      std::string text = "replaced by " + by + ": " + moved_text(*found.before, agent);
      if (found.token->inherit) return text + "; it inherits groups and credentials";
      for (std::size_t i = 0; i < found.unassigned.size(); ++i)
        text += (i == 0 ? "; no longer assigned: " : ", ") + found.unassigned[i];
      return text;
    }
    case kKnown:
      return "enrolled again with its present keys" + (by.empty() ? by : " by " + by);
    case kPending:
      return "waits for approval";
    default:
      return "trusted by " + by;
  }
}

}  // namespace

Enrollment::Enrollment(const InstanceConfig& config, const FleetParts& parts)
    : config_(config),
      keys_(parts.keys),
      authority_(parts.authority),
      store_(parts.store),
      links_(parts.links),
      recorder_(parts.recorder),
      clock_(parts.clock),
      followers_(parts.followers),
      strangers_(clock_, hourly(config.limits.enrollments)),
      polls_(clock_, {.burst = 60, .refill = 1s, .max_principals = 20'000}) {}

// Here, and at other replicas.
void Enrollment::end_links_of(const store::Agent& replaced) {
  const std::string why = "the agent was replaced";
  links_.close(replaced.id, why);
  followers_.end_sessions(replaced.auth_kid, why);
  store_.notify(replaced.id);
}

void Enrollment::charge(const std::string& from) {
  const auto decision = strangers_.take(principal_of_address(from));
  if (decision) return;
  throw Error(Code::kBusy, "too many enrollments from this address; try again in " +
                               std::to_string(decision.retry_after.count() / 1000 + 1) +
                               " s, or use an enrollment token");
}

// Another agent's place was asked for: that is an alarm, whatever else is wrong.
void Enrollment::refuse(const store::Enrolled& found, const store::Enrollment& wanted,
                        const std::string& from) {
  const auto& agent = wanted.agent;
  const auto& before = found.before;
  const auto alarm = [&](const std::string& text) {
    recorder_.record(Outcome::kAlarm, from, "enrol", agent.id, text);
  };
  switch (found.outcome) {
    case kKeyInUse:
      alarm("its auth key is the agent " + before->id);
      throw Error(Code::kExists, "this auth key is the agent " + before->id, agent.auth_kid);
    case kOtherKey:
      alarm("the agent exists with key " + before->auth_kid + ", not " + agent.auth_kid);
      throw Error(Code::kExists,
                  "an agent " + agent.id +
                      " exists with another key; if it lost its token, use keyagent enroll "
                      "--replace with an enrollment token for this id",
                  agent.auth_kid);
    case kOtherTransport:
      alarm("not the transport key of " + agent.auth_kid + ": " + agent.transport_kid);
      throw Error(
          Code::kKeyState,
          "the agent " + agent.id + " exists with another transport key; use a rekey to replace it",
          agent.transport_kid);
    case kRevoked:
      alarm("the agent was revoked");
      throw Error(Code::kDenied, "the agent " + agent.id + " was revoked", agent.auth_kid);
    case kSuspended:
      recorder_.record(Outcome::kRefused, from, "enrol", agent.id, "the agent is suspended");
      throw Error(Code::kKeyState,
                  "the agent " + agent.id +
                      " is suspended; only an operator of the instance ends this, with: keyagent "
                      "instance resume " +
                      agent.id,
                  agent.auth_kid);
    case kReserved:
      alarm("an enrollment token for any agent, although an unused one for this id exists");
      throw Error(Code::kExists,
                  "an enrollment token exists for the id " + agent.id +
                      ", and this is not it; use that token, or wait until it expires",
                  agent.auth_kid);
    case kTokenRefused:
      if (wanted.replace) {
        alarm("a replacement without a valid enrollment token for this id");
      } else {
        recorder_.record(Outcome::kRefused, from, "enrol", agent.id,
                         "the enrollment token is invalid");
      }
      deny_token();
    case kFull:
      recorder_.record(Outcome::kRefused, from, "enrol", agent.id,
                       "too many agents wait for approval");
      throw Error(Code::kBusy,
                  "too many agents wait for approval, from this address or in total; approve or "
                  "reject some (keyagent instance agents), or use an enrollment token");
    case kRestored:
      throw Error(Code::kKeyState,
                  "the instance's store was restored from a backup and is not accepted yet");
    default:
      throw Error(Code::kIntegrity, "this enrollment has ended; start again");
  }
}

// Checked now so that the agent gets the error at once; the store decides later.
void Enrollment::require_possible(const store::Enrollment& wanted, const std::string& from) {
  const auto found = store_.enrollments().preview(wanted);
  const bool possible = found.outcome == kEntered || found.outcome == kReplaced ||
                        found.outcome == kKnown || found.outcome == kPending;
  if (!possible) refuse(found, wanted, from);
}

Json Enrollment::begin(const Json& request, const std::string& from) {
  store::Enrollment wanted;
  wanted.now = clock_.now();
  wanted.agent.id = text_of(request, "agent");
  if (!is_id(wanted.agent.id)) throw Error(Code::kUsage, "an agent id must match [a-z0-9.-]{1,63}");
  const std::string token = text_of(request, "token", "");
  if (!token.empty()) {
    const auto bytes = from_base64url(token);
    if (bytes && bytes->size() == kSecretSize) wanted.token = sha256(*bytes);
  }
  // A valid token attests its bearer; everyone else shares the budget of the address.
  const bool vouched =
      !wanted.token.empty() &&
      store_.enrollments().find_token(wanted.token, wanted.agent.id, wanted.now).has_value();
  if (!vouched) charge(from);
  if (!token.empty() && wanted.token.empty()) deny_token();

  wanted.agent.auth_spki = pki::key_of_request(text_of(request, "csr"));
  wanted.agent.auth_kid = envelope::key_of_spki(wanted.agent.auth_spki, Purpose::kAuth).kid.text();
  const Json transport = request.value("transport", Json::object());
  auto key = envelope::key_of_spki(bytes_of(transport, "spki"), Purpose::kTransport);
  const auto algorithm = envelope_algorithm_of(text_of(transport, "envelope"));
  if (!algorithm || !can_seal(key.algorithm, *algorithm))
    throw Error(Code::kUsage, "'envelope' does not fit the transport key");
  key.envelope = *algorithm;
  wanted.agent.transport_spki = key.spki;
  wanted.agent.transport_kid = key.kid.text();
  wanted.replace = flag_of(request, "replace", false);
  require_possible(wanted, from);
  if (wanted.replace && token.empty())
    throw Error(Code::kDenied, "'replace' needs an enrollment token for this agent");
  if (!vouched && store_.challenges().count("enrolment", {}, wanted.now) >=
                      kMaxUnproved + config_.limits.pending)
    throw Error(Code::kBusy, "too many enrollments are in progress; try again in a few minutes");

  if (store_.agents().count() >= config_.limits.agents && !store_.agents().find(wanted.agent.id))
    throw Error(Code::kBusy, "the instance has the maximum number of agents (limits.agents)");

  const SecretBytes secret = envelope::new_challenge();
  store::Challenge challenge;
  challenge.id = to_hex(random_bytes(16));
  challenge.kind = "enrolment";
  challenge.agent = wanted.agent.id;
  challenge.state = "asked";
  challenge.expires = wanted.now + kProofTime;
  challenge.address = principal_of_address(from);
  Json data{{"auth", to_base64url(wanted.agent.auth_spki)},
            {"csr", text_of(request, "csr")},
            {"transport", to_base64url(wanted.agent.transport_spki)},
            {"envelope", name_of(*algorithm)},
            {"host", text_of(request, "host", "").substr(0, 253)},
            {"version", text_of(request, "version", "").substr(0, 63)},
            {"replace", wanted.replace},
            {"answer", hash_text(secret)}};
  if (!wanted.token.empty()) data["token"] = to_base64url(wanted.token);
  challenge.data = data.dump();
  store_.challenges().add(challenge, wanted.now);
  const Bytes sealed = envelope::seal_challenge(key, secret);
  return {{"enrolment", challenge.id}, {"challenge", std::string(as_text(sealed))}};
}

// What an enrollment asked for, from its challenge.
store::Enrollment Enrollment::read_asked(const store::Challenge& challenge) const {
  const Json asked = parse_object(challenge.data);
  store::Enrollment wanted;
  wanted.challenge = challenge.id;
  wanted.data = challenge.data;
  wanted.now = clock_.now();
  wanted.expires = wanted.now + config_.limits.pending_time;
  wanted.agent.id = challenge.agent;
  wanted.agent.auth_spki = bytes_of(asked, "auth");
  wanted.agent.auth_kid = jwk_thumbprint(wanted.agent.auth_spki);
  wanted.agent.transport_spki = bytes_of(asked, "transport");
  wanted.agent.transport_kid = jwk_thumbprint(wanted.agent.transport_spki);
  wanted.agent.envelope = text_of(asked, "envelope");
  wanted.agent.host = text_of(asked, "host", "");
  wanted.agent.version = text_of(asked, "version", "");
  wanted.agent.enrolled = wanted.agent.changed = wanted.now;
  if (asked.contains("token")) wanted.token = bytes_of(asked, "token");
  wanted.replace = flag_of(asked, "replace", false);
  wanted.address = challenge.address;
  return wanted;
}

store::Enrolled Enrollment::decide(const store::Enrollment& wanted, const std::string& from) {
  std::optional<store::Event> recorded;
  const auto event = [&](const store::Enrolled& found) {
    const auto outcome = found.outcome == kReplaced ? Outcome::kAlarm : Outcome::kDone;
    recorded =
        recorder_.make(outcome, from, "enrol", wanted.agent.id, decided_text(found, wanted.agent));
    return *recorded;
  };
  const store::PendingLimits limits{config_.limits.pending_per_address, config_.limits.pending};
  auto found = wanted.token.empty() ? store_.enrollments().ask_approval(wanted, limits, event)
                                    : store_.enrollments().enroll(wanted, event);
  const bool acted = found.outcome == kEntered || found.outcome == kReplaced ||
                     found.outcome == kKnown || found.outcome == kPending;
  if (!acted) refuse(found, wanted, from);
  if (recorded) Recorder::say(*recorded);
  return found;
}

Json Enrollment::prove(const std::string& id, const Json& request, const std::string& from) {
  auto challenge = store_.challenges().find(id, clock_.now());
  if (!challenge || challenge->kind != "enrolment") {
    charge(from);
    throw Error(Code::kUsage, "unknown enrollment, or expired after 10 minutes");
  }
  if (!is_answer(parse_object(challenge->data), text_of(request, "answer"))) {
    challenge->state = "failed";
    store_.challenges().move(*challenge, "asked");
    recorder_.record(Outcome::kAlarm, from, "enrol", challenge->agent,
                     "the transport key did not open its challenge");
    charge(from);
    throw Error(Code::kIntegrity, "the transport key did not open its challenge");
  }
  if (has_been_proved(*challenge)) return poll(id, text_of(request, "answer"), from);  // repeated
  if (challenge->state != "asked")
    throw Error(Code::kIntegrity, "a wrong response ended this enrollment; start again");
  const auto wanted = read_asked(*challenge);
  const auto found = decide(wanted, from);
  if (found.outcome == kReplaced) end_links_of(*found.before);
  challenge->state = "proved";
  return answer_for(*challenge);
}

Json Enrollment::poll(const std::string& id, const std::string& answer, const std::string& from) {
  const auto challenge = store_.challenges().find(id, clock_.now());
  if (!challenge || challenge->kind != "enrolment" || !has_been_proved(*challenge) ||
      !is_answer(parse_object(challenge->data), answer)) {
    charge(from);
    throw Error(Code::kDenied, "unknown enrollment");
  }
  if (!polls_.take(id))
    throw Error(Code::kBusy, "this enrollment is polled too often; poll once in 5 s");
  return answer_for(*challenge);
}

Json Enrollment::answer_for(const store::Challenge& challenge) {
  const Bytes spki = bytes_of(parse_object(challenge.data), "auth");
  const auto kid = jwk_thumbprint(spki);
  const auto agent = store_.agents().find(challenge.agent);
  const bool decided = agent && agent->auth_spki == spki;
  if (decided && agent->state == name_of(Trust::kTrusted)) return trusted_answer(challenge, *agent);
  if (decided && agent->state != name_of(Trust::kPending) &&
      agent->state != name_of(Trust::kRejected))
    throw Error(Code::kKeyState, "the agent " + agent->id + " is " + agent->state);
  std::string reason = decided ? agent->reason : std::string();
  for (const auto& each : store_.enrollments().pending(challenge.agent, clock_.now())) {
    if (each.agent.auth_kid != kid) continue;
    if (each.agent.state == name_of(Trust::kPending))
      return {{"state", each.agent.state}, {"fingerprint", kid}};
    reason = each.agent.reason;
  }
  if (decided && agent->state == name_of(Trust::kPending))
    return {{"state", agent->state}, {"fingerprint", kid}};
  throw Error(Code::kDenied, "the enrollment was rejected" + (reason.empty() ? "" : ": " + reason));
}

Json Enrollment::trusted_answer(const store::Challenge& challenge, const store::Agent& agent) {
  const Json asked = parse_object(challenge.data);
  const auto chain =
      authority_.certify_enrolled(agent.id, agent.auth_spki, text_of(asked, "csr"), challenge.id);
  if (!chain)  // trusted; an external CA has to certify its key
    return {{"state", name_of(Trust::kPending)}, {"fingerprint", agent.auth_kid}};
  return {{"state", agent.state},
          {"agent", agent.id},
          {"certificate", *chain},
          {"ca", authority_.certificate_pem()},
          {"crl", authority_.crl_pem()},
          {"instance", config_.id},
          {"agents_url", config_.agents_url.empty() ? https_url(config_.hosts.front(), agents_port_)
                                                    : config_.agents_url},
          {"confirmation_key", to_base64url(keys_.find(config_.confirmation_key).spki)}};
}

void Enrollment::check_token(const std::string& agent, bool inherit) {
  if (!agent.empty() && !is_id(agent))
    throw Error(Code::kUsage, "an agent id must match [a-z0-9.-]{1,63}");
  if (inherit && agent.empty())
    throw Error(Code::kUsage, "'inherit' needs 'agent', the id of the replaced agent");
}

Enrollment::TokenDraft Enrollment::draft_token() const {
  const SecretBytes secret = random_secret(kSecretSize);
  return {"ka1." + authority_.fingerprint() + "." + to_base64url(secret), sha256(secret)};
}

Json Enrollment::make_token(const std::string& agent, const std::vector<std::string>& groups,
                            std::chrono::hours life, bool inherit, const std::string& by) {
  check_token(agent, inherit);
  const auto draft = draft_token();
  Json out{{"token", draft.text}};
  out.update(add_token(draft.hash, agent, groups, life, inherit, by));
  return out;
}

Json Enrollment::add_token(const Bytes& hash, const std::string& agent,
                           const std::vector<std::string>& groups, std::chrono::hours life,
                           bool inherit, const std::string& by) {
  if (store_.enrollments().count_tokens(clock_.now()) >= config_.limits.tokens)
    throw Error(Code::kBusy, "too many tokens are unused (limits.tokens); wait until some expire");
  store::EnrollmentToken token;
  token.hash = hash;
  token.agent_id = agent;
  token.groups = groups;
  token.created_by = by;
  token.expires = clock_.now() + life;
  token.inherit = inherit;
  store_.enrollments().add_token(token);
  recorder_.record(Outcome::kDone, "user " + by, "token.create", agent.empty() ? "*" : agent,
                   inherit ? "its replacement inherits its groups and credentials" : "");
  return {{"expires", rfc3339(token.expires)}};
}

}  // namespace keyagent::instance
