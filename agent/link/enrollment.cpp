// SPDX-License-Identifier: Apache-2.0
#include "agent/link/enrollment.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/wiping.h"
#include "agent/link/certificates.h"
#include "agent/link/instance_api.h"

namespace keyagent::link {
namespace {

using Json = nlohmann::json;

// Someone waits at a terminal, and the instance's CA may be in a slow token.
constexpr std::chrono::seconds kPatience{30};

bool is_agent_id(const std::string& text) {
  return !text.empty() && text.size() <= 63 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
         });
}

bool is_fingerprint(std::string_view text) {
  const auto bytes = from_base64url(text);
  return bytes && bytes->size() == 32;
}

// Takes the token apart; its secret stays in wiped memory.
struct Token {
  std::string fingerprint;
  SecretBytes secret;
};
Token parse_token(const SecretBytes& token) {
  const std::string_view text = as_text(token);
  const auto first = text.find('.'), last = text.rfind('.');
  const bool formed = text.substr(0, 4) == "ka1." && first != last &&
                      is_fingerprint(text.substr(first + 1, last - first - 1)) &&
                      last + 1 < text.size();
  if (!formed)
    throw Error(Code::kUsage, "not an enrollment token: the form is ka1.FINGERPRINT.SECRET");
  const auto secret = as_bytes(text.substr(last + 1));
  return {std::string(text.substr(first + 1, last - first - 1)), {secret.begin(), secret.end()}};
}

void require(const EnrollmentRequest& wish) {
  if (wish.url.rfind("https://", 0) != 0)
    throw Error(Code::kUsage, "the instance's address must be https://HOST:PORT, not '" +
                                  escape_controls(wish.url) + "'");
  if (!is_agent_id(wish.agent))
    throw Error(Code::kUsage, "an agent id must be 1 to 63 of a-z 0-9 . -, not '" +
                                  escape_controls(wish.agent) + "'");
  if (wish.token.empty() && !is_fingerprint(wish.fingerprint))
    throw Error(Code::kUsage,
                "no instance given: use an enrollment token, or --instance with the fingerprint of "
                "its CA (43 characters)");
}

// The instance has this id with another key: an identity conflict (MISSION R14).
[[noreturn]] void refuse_id(const std::string& agent, const Error& error) {
  throw Error(
      Code::kIntegrity,
      "the instance knows another key under the id " + agent + ": " + error.what() +
          "; if that key is lost, enroll with --replace and an enrollment token for this id");
}

}  // namespace

tls::Client Enrollment::dial(const LinkState& state, std::chrono::milliseconds patience) {
  tls::ClientOptions options;
  options.url = state.url;
  options.trust.anchor_spki_sha256 = state.ca_fingerprint;
  options.connect_timeout = context_.timing.connect;
  options.timeout = patience;
  return tls::Client(library_.get(), std::move(options));
}

LinkState Enrollment::begin(const EnrollmentRequest& wish) {
  require(wish);
  const Token token = wish.token.empty() ? Token{wish.fingerprint, {}} : parse_token(wish.token);
  if (!wish.fingerprint.empty() && wish.fingerprint != token.fingerprint)
    throw Error(Code::kIntegrity,
                "the enrollment token is for another instance, " + token.fingerprint);
  LinkState state;
  state.url = wish.url;
  state.ca_fingerprint = token.fingerprint;
  state.agent = wish.agent;
  state.auth_key = wish.auth_key;
  state.transport_key = wish.transport_key;
  state.require_bound = true;
  // What was sealed to lost keys is to be sealed again.
  if (wish.replace) {
    keys_.forget_sealed();
    keys_.replace_lost_audit_keys();
  }
  const auto auth = keys_.provide(wish.auth_key, Purpose::kAuth, wish.replace);
  const auto transport = keys_.provide(wish.transport_key, Purpose::kTransport, wish.replace);
  Json body{
      {"agent", wish.agent},
      {"csr", keys_.certification_request(auth, wish.agent)},
      {"transport",
       {{"spki", to_base64url(as_bytes(transport.spki()))}, {"envelope", transport.envelope()}}},
      {"host", host_name()},
      {"version", context_.version},
      {"replace", wish.replace}};
  if (!token.secret.empty()) body["token"] = std::string(as_text(token.secret));
  auto client = dial(state, kPatience);
  try {
    std::string text = body.dump();
    const Wiping wiping_text(text);
    const Wiping wiping_body(body);
    const Answer asked(body_of(client.call("POST", "/v1/enrolments", text)));
    state.enrollment = asked.text("enrolment");
    state.challenge = asked.text("challenge");
  } catch (const Error& error) {
    if (error.code() == Code::kExists) refuse_id(wish.agent, error);
    throw;
  }
  const SecretBytes answer = keys_.answer(transport.kid(), state.challenge);
  const Json proof{{"answer", to_base64url(answer)}};
  const Answer told(
      body_of(client.call("POST", "/v1/enrolments/" + state.enrollment + "/proof", proof.dump())));
  return accept(state, told).value_or(state);
}

std::optional<LinkState> Enrollment::poll(const LinkState& pending) {
  const auto transport = keys_.show(pending.transport_key);
  const SecretBytes answer = keys_.answer(transport.kid(), pending.challenge);
  auto client = dial(pending, context_.timing.answer);
  const std::string target =
      "/v1/enrolments/" + pending.enrollment + "?answer=" + to_base64url(answer);
  return accept(pending, Answer(body_of(client.call("GET", target, {}))));
}

std::optional<LinkState> Enrollment::accept(const LinkState& pending, const Answer& answer) {
  const auto auth = keys_.show(pending.auth_key);
  const std::string state = answer.text("state");
  if (state == "pending") {
    // The fingerprint that an administrator compares must be the one of our key.
    if (answer.text("fingerprint") != auth.kid())
      throw Error(Code::kIntegrity, "the instance waits for the approval of another key, " +
                                        escape_controls(answer.text("fingerprint")));
    return std::nullopt;
  }
  if (state != "trusted")
    throw Error(Code::kPeer,
                "the instance reports '" + escape_controls(state) + "' for the enrollment");
  if (answer.text("agent") != pending.agent)
    throw Error(Code::kIntegrity,
                "the instance enrolled another id, " + escape_controls(answer.text("agent")));
  const auto ca = certificates_of_pem(answer.text("ca"));
  if (ca.size() != 1 || fingerprint_of(ca.front()) != pending.ca_fingerprint)
    throw Error(Code::kIntegrity, "the key of the instance's CA differs from the pinned key");
  const auto chain = require_ours(certificates_of_pem(answer.text("certificate")), ca.front(),
                                  as_bytes(auth.spki()), pending.agent, context_.clock->now());
  const auto confirms = from_base64url(answer.text("confirmation_key"));
  signing_key_of(confirms.value_or(Bytes{}));
  LinkState out = pending;
  out.stage = LinkState::Stage::kTrusted;
  out.enrollment.clear();
  out.challenge.clear();
  out.instance = answer.text("instance");
  out.agents_url = answer.text("agents_url");
  if (out.agents_url.rfind("https://", 0) != 0)
    throw Error(Code::kPeer, "the instance's agents_url is invalid");
  out.ca = pem_of_certificates(ca);
  out.crl = answer.text_or("crl", "");
  if (!out.crl.empty()) revocation_list_of_pem(out.crl, ca.front());
  out.confirmation_key = answer.text("confirmation_key");
  out.certificates = {{auth.kid(), pem_of_certificates(chain)}};
  return out;
}

}  // namespace keyagent::link
