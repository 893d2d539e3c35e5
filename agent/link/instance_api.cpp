// SPDX-License-Identifier: Apache-2.0
#include "agent/link/instance_api.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/link/certificates.h"
#include "agent/link/gate_backend.h"

namespace keyagent::link {

using Json = nlohmann::json;

std::shared_ptr<tls::Library> TlsLibrary::get() {
  const MutexLock lock(mutex_);
  if (!library_) library_ = std::make_shared<tls::Library>(std::make_shared<GateBackend>(gate_));
  return library_;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  return escape_controls(name.data());
}

tls::ClientOptions options_for(const LinkState& state, const std::string& auth_kid,
                               const Timing& timing) {
  const auto chain = state.certificates.find(auth_kid);
  if (chain == state.certificates.end())
    throw Error(Code::kKeyNotPresent,
                "the instance certified a key other than " + state.auth_key + "'s kid=" + auth_kid +
                    "; enroll again: keyagent enroll URL --replace",
                auth_kid);
  tls::ClientOptions options;
  options.url = state.agents_url;
  options.identity = tls::Identity{auth_kid, certificates_of_pem(chain->second)};
  options.trust.anchors = certificates_of_pem(state.ca);
  if (!state.crl.empty())
    options.trust.crls = {revocation_list_of_pem(state.crl, options.trust.anchors.front())};
  options.connect_timeout = timing.connect;
  options.timeout = timing.answer;
  return options;
}

std::string body_of(const tls::HttpResponse& response) {
  if (response.status / 100 == 2) return response.body;
  throw Error(Code::kPeer, "the instance responds with HTTP status " +
                               std::to_string(response.status) + " without details");
}

namespace {

// Limits a lease to one day; a longer one is not plausible.
std::chrono::milliseconds lease_of(const Answer& answer) {
  const double seconds = std::clamp(answer.seconds("lease_s"), 0.0, 86400.0);
  return std::chrono::milliseconds(static_cast<long>(seconds * 1000));
}

}  // namespace

Answer InstanceApi::post(const std::string& path, const Json& body) {
  return Answer(body_of(client_.call("POST", path, body.dump())));
}

Answer InstanceApi::get(const std::string& path) {
  return Answer(body_of(client_.call("GET", path, {})));
}

Rotation InstanceApi::begin_transport(const std::string& old_kid, const PublicKeyInfo& fresh) {
  const auto answer = post("/v1/transport", {{"old_kid", old_kid},
                                             {"spki", to_base64url(fresh.spki)},
                                             {"envelope", name_of(fresh.envelope)}});
  const auto challenges = answer.object("challenges");
  return {answer.text("rotation"), challenges.text("old"), challenges.text("new")};
}

void InstanceApi::prove_transport(const std::string& id, const SecretBytes& old_answer,
                                  const SecretBytes& new_answer) {
  post("/v1/transport/" + id + "/proof",
       {{"old", to_base64url(old_answer)}, {"new", to_base64url(new_answer)}});
}

std::string InstanceApi::switch_transport(const std::string& id) {
  return post("/v1/transport/" + id + "/switch", Json::object()).text("confirmation");
}

std::string InstanceApi::renew(const std::string& request, std::string& crl) {
  const auto answer = post("/v1/certificates", {{"csr", request}});
  crl = answer.text_or("crl", "");
  return answer.text("certificate");
}

std::optional<TakenTask> InstanceApi::take_task(const std::string& handler) {
  const auto answer = post("/v1/tasks/take", {{"handlers", {handler}}});
  if (answer.is_null("task")) return std::nullopt;
  const auto task = answer.object("task");
  const auto most = std::numeric_limits<std::uint32_t>::max();
  const auto number = [&](const char* name) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(task.number(name), most));
  };
  return TakenTask{task.text("id"),
                   task.text("handler"),
                   task.text_or("credential", ""),
                   answer.text("lease"),
                   task.object("input").dump(),
                   task.flag("repeatable"),
                   number("attempt"),
                   number("seconds")};
}

std::chrono::milliseconds InstanceApi::start_task(const std::string& id, const std::string& lease) {
  return lease_of(post("/v1/tasks/" + id + "/start", {{"lease", lease}}));
}

std::chrono::milliseconds InstanceApi::keep_task(const std::string& id, const std::string& lease) {
  return lease_of(post("/v1/tasks/" + id + "/keep", {{"lease", lease}}));
}

void InstanceApi::end_task(const std::string& id, const std::string& lease,
                           const std::string& outcome, const std::string& text,
                           const std::string& result) {
  post("/v1/tasks/" + id + "/end",
       {{"lease", lease}, {"outcome", outcome}, {"text", text}, {"result", result}});
}

std::string InstanceApi::crl() {
  return body_of(client_.call("GET", "/v1/crl", {}));
}

std::vector<CredentialInfo> InstanceApi::credentials() {
  std::vector<CredentialInfo> out;
  for (const auto& each : get("/v1/credentials").objects("credentials"))
    out.push_back({each.text("name"), each.text_or("type", ""), each.number("version"),
                   each.texts("kids"), each.has("bound") && each.flag("bound")});
  return out;
}

SealedCredential InstanceApi::credential(const std::string& name, const std::string& kid) {
  const auto answer = get("/v1/credentials/" + name + "?kid=" + kid);
  return {answer.text("name"), answer.text_or("type", ""), answer.text("kid"),
          answer.text("envelope"), answer.number("version")};
}

}  // namespace keyagent::link
