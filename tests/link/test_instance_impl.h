// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the instance of the tests knows, and its answers.

#include <algorithm>
#include <thread>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/envelope/challenge.h"
#include "tests/link/memory_backend.h"
#include "tests/link/test_credentials.h"
#include "tests/link/test_instance.h"
#include "tests/link/test_papers.h"

namespace keyagent::test {

struct TestInstance::Impl {
  using HttpRequest = tls::HttpRequest;
  using HttpResponse = tls::HttpResponse;

  struct Challenge {
    std::string envelope, answer;
  };

  struct Agent {
    std::string id, auth_kid, next_auth_kid;
    PublicKeyInfo transport, next_transport;
    std::string old_transport;  // the kid that the switch was from: it may be asked for again
    bool trusted = false, rejected = false, suspended = false;
    Challenge challenge, old_challenge, new_challenge;
    bool proved = false;
    Bytes spki;
    std::shared_ptr<tls::Link> link;
  };

  TestInstance& outer;
  SoftwareKeys keys;
  PublicKeyInfo server = keys.add("server", Purpose::kAuth, KeyAlgorithm::kEcP256);
  PublicKeyInfo confirms = keys.add("confirms", Purpose::kSign, KeyAlgorithm::kEcP256);
  PublicKeyInfo forger = keys.add("forger", Purpose::kSign, KeyAlgorithm::kEcP256);
  PublicKeyInfo foreign = keys.add("foreign", Purpose::kTransport, KeyAlgorithm::kEcP256);
  std::shared_ptr<tls::Library> library =
      std::make_shared<tls::Library>(std::make_shared<MemoryBackend>(keys));
  mutable std::mutex mutex;
  // All below are guarded by mutex.
  std::set<std::string> tokens;
  std::map<std::string, Agent> agents;  // by id
  TestCredentials credentials;
  std::map<std::string, std::string> orders;  // id to key
  std::map<std::string, std::vector<std::string>> reports;
  std::vector<std::string> paths;
  std::size_t beats = 0;
  std::uint16_t agents_port = 0;
  bool distrusts = false;
  // Last: their handlers use the rest.
  std::unique_ptr<tls::Server> api, link;

  explicit Impl(TestInstance& owner) : outer(owner) {
    tls::Handlers handlers;
    handlers.request = [this](const HttpRequest& request) { return enrollment(request); };
    auto options = at(0);
    options.client_certificate = tls::ClientCertificate::kOptional;
    api = std::make_unique<tls::Server>(library, identity(), trust(), options, handlers);
    open_agents();
  }
  ~Impl() {
    link.reset();
    api.reset();
  }

  static tls::ServerOptions at(std::uint16_t port) {
    tls::ServerOptions options;
    options.address = "127.0.0.1";
    options.port = port;
    return options;
  }
  tls::Identity identity() const {
    return {server.kid.text(), {outer.ca_.issue(server.spki, {}), outer.ca_.root()}};
  }
  tls::Trust trust() const {
    return {{distrusts ? outer.other_.root() : outer.ca_.root()}, {}, {}};
  }
  void open_agents() {
    tls::Handlers handlers;
    handlers.request = [this](const HttpRequest& request) { return serve(request); };
    handlers.link = [this](std::shared_ptr<tls::Link> fresh, const HttpRequest&) {
      return begin_link(std::move(fresh));
    };
    link = std::make_unique<tls::Server>(library, identity(), trust(), at(agents_port), handlers);
    agents_port = link->port();
  }

  Challenge challenge_for(PublicKeyInfo key) const {
    const auto& lies = outer.mischief;
    const SecretBytes secret = envelope::new_challenge();
    if (lies.foreign_challenge) key = foreign;
    // What is sealed as a credential is.
    if (lies.credential_challenge)
      return {seal(key, Bytes(secret.begin(), secret.end())), to_base64url(secret)};
    return {std::string(as_text(envelope::seal_challenge(key, secret))), to_base64url(secret)};
  }

  Bytes certify(const std::string& id, Bytes spki) const {
    const auto& lies = outer.mischief;
    if (lies.other_key) spki = forger.spki;
    TestCa::Wish wish;
    wish.subject = id;
    wish.san = "DNS:" + (lies.other_name ? "somebody-else" : id);
    wish.eku = "clientAuth";
    wish.not_before = std::chrono::system_clock::now() - outer.before;
    wish.not_after = std::chrono::system_clock::now() + outer.after;
    return (lies.other_ca ? outer.other_ : outer.ca_).issue(spki, wish);
  }

  std::string revoked() const {
    return crl_pem((outer.mischief.other_ca ? outer.other_ : outer.ca_).revoke({}));
  }

  // --- enrollment

  HttpResponse enrollment(const HttpRequest& request) {
    const std::lock_guard lock(mutex);
    paths.push_back(request.path);
    const std::string prefix = "/v1/enrolments";
    if (request.path == prefix) return begin_enrollment(Json::parse(request.body));
    std::string id = request.path.substr(prefix.size() + 1);
    std::string answer;
    if (request.method == "POST") {
      id = id.substr(0, id.find('/'));
      answer = Json::parse(request.body).at("answer");
    } else {
      answer = request.query.at("answer");
    }
    Agent& agent = agents.at(id);
    if (answer != agent.challenge.answer) throw Error(Code::kIntegrity, "wrong response");
    if (agent.rejected) throw Error(Code::kDenied, "rejected");
    return json(agent.trusted ? trusted(agent) : pending(agent));
  }

  HttpResponse begin_enrollment(const Json& body) {
    const std::string id = body.at("agent");
    const Bytes spki = spki_of_request(body.at("csr"));
    const std::string kid = jwk_thumbprint(spki);
    const bool replaces = body.at("replace");
    bool by_token = false;
    if (body.contains("token")) {
      if (tokens.erase(body.at("token").get<std::string>()) == 0)
        throw Error(Code::kDenied, "the token is not accepted");
      by_token = true;
    }
    const auto known = agents.find(id);
    if (known != agents.end() && known->second.auth_kid != kid && !(replaces && by_token))
      throw Error(Code::kExists, "another key is known under this id");
    Agent agent;
    agent.id = id;
    agent.spki = spki;
    agent.auth_kid = kid;
    const Json& transport = body.at("transport");
    agent.transport = transport_of(*from_base64url(transport.at("spki").get<std::string>()),
                                   transport.at("envelope"));
    agent.trusted = by_token;
    agent.challenge = challenge_for(agent.transport);
    agents[id] = agent;
    return json({{"enrolment", id}, {"challenge", agent.challenge.envelope}});
  }

  Json pending(const Agent& agent) const {
    return {{"state", "pending"},
            {"fingerprint", outer.mischief.other_fingerprint ? forger.kid.text() : agent.auth_kid}};
  }
  Json trusted(const Agent& agent) const {
    const Bytes ca = outer.mischief.other_ca ? outer.other_.root() : outer.ca_.root();
    return {{"state", "trusted"},
            {"agent", agent.id},
            {"certificate", certificate_pem(certify(agent.id, agent.spki))},
            {"ca", certificate_pem(ca)},
            {"crl", revoked()},
            {"instance", "instance-1"},
            {"agents_url", "https://127.0.0.1:" + std::to_string(agents_port)},
            {"confirmation_key", to_base64url(confirms.spki)}};
  }

  // --- the agents' listener

  // Who it is says the key, never the name.
  Agent& agent_of(const std::string& kid) {
    for (auto& [id, agent] : agents) {
      if (agent.auth_kid != kid && agent.next_auth_kid != kid) continue;
      if (!agent.trusted) throw Error(Code::kDenied, "not trusted");
      if (agent.suspended) throw Error(Code::kKeyState, "suspended");
      return agent;
    }
    throw Error(Code::kDenied, "unknown key");
  }

  HttpResponse serve(const HttpRequest& request) {
    while (outer.mischief.silent) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const std::lock_guard lock(mutex);
    paths.push_back(request.path);
    if (outer.mischief.suspends) throw Error(Code::kKeyState, "the agent is suspended");
    Agent& agent = agent_of(request.peer.kid);
    const auto begins = [&](const char* with) { return request.path.rfind(with, 0) == 0; };
    const auto ends = [&](const std::string& with) {
      return request.path.size() >= with.size() &&
             request.path.substr(request.path.size() - with.size()) == with;
    };
    if (request.path == "/v1/transport") return begin_transport(agent, Json::parse(request.body));
    if (begins("/v1/transport/") && ends("/proof"))
      return prove_transport(agent, Json::parse(request.body));
    if (begins("/v1/transport/") && ends("/switch")) return switch_transport(agent);
    if (request.path == "/v1/certificates") return renew(agent, Json::parse(request.body));
    if (request.path == "/v1/crl") {
      HttpResponse response;
      response.body = revoked();
      return response;
    }
    if (request.path == "/v1/credentials") return credentials.list(agent.transport);
    if (begins("/v1/credentials/"))
      return credentials.give(request, agent.id, agent.transport,
                              agent.proved ? &agent.next_transport : nullptr);
    if (const auto task = outer.tasks.serve(request)) return *task;
    throw Error(Code::kUsage, "not here");
  }

  HttpResponse begin_transport(Agent& agent, const Json& body) {
    if (body.at("old_kid") != agent.transport.kid.text())
      throw Error(Code::kIntegrity, "that is not the current key");
    agent.next_transport =
        transport_of(*from_base64url(body.at("spki").get<std::string>()), body.at("envelope"));
    agent.old_challenge = challenge_for(agent.transport);
    agent.new_challenge = challenge_for(agent.next_transport);
    agent.proved = false;
    return json({{"rotation", "r1"},
                 {"challenges",
                  {{"old", agent.old_challenge.envelope}, {"new", agent.new_challenge.envelope}}}});
  }

  static HttpResponse prove_transport(Agent& agent, const Json& body) {
    if (body.at("old") != agent.old_challenge.answer ||
        body.at("new") != agent.new_challenge.answer)
      throw Error(Code::kIntegrity, "wrong response");
    agent.proved = true;
    return json({{"state", "staged"}});
  }

  HttpResponse switch_transport(Agent& agent) {
    if (!agent.proved) throw Error(Code::kKeyState, "not proved");
    const auto& lies = outer.mischief;
    if (agent.transport.kid != agent.next_transport.kid)
      agent.old_transport = agent.transport.kid.text();
    const Json payload{
        {"agent", agent.id},
        {"old_kid", agent.old_transport},
        {"new_kid", lies.other_confirmation ? foreign.kid.text() : agent.next_transport.kid.text()},
        {"at", rfc3339(system_clock().now())}};
    const auto& key = lies.forged_confirmation ? forger : confirms;
    const std::string jws =
        envelope::sign_jws(keys, key, SignatureAlgorithm::kEs256, as_bytes(payload.dump()));
    if (!lies.forged_confirmation && !lies.other_confirmation)
      agent.transport = agent.next_transport;
    if (lies.lost_confirmation) throw Error(Code::kBusy, "the answer is lost");
    return json({{"confirmation", jws}});
  }

  HttpResponse renew(Agent& agent, const Json& body) {
    if (outer.mischief.no_renewal) throw Error(Code::kBusy, "the CA is away");
    const Bytes spki = spki_of_request(body.at("csr"));
    agent.next_auth_kid = jwk_thumbprint(spki);
    return json({{"certificate", certificate_pem(certify(agent.id, spki))}});
  }

  // --- the link

  class Talk final : public tls::LinkHandler {
   public:
    Talk(Impl& impl, std::shared_ptr<tls::Link> link) : impl_(impl), link_(std::move(link)) {}
    void on_message(std::string text) override { impl_.hear(*link_, link_, Json::parse(text)); }
    void on_end(const std::string&) override {}

   private:
    Impl& impl_;
    std::shared_ptr<tls::Link> link_;
  };

  std::unique_ptr<tls::LinkHandler> begin_link(std::shared_ptr<tls::Link> fresh) {
    const std::lock_guard lock(mutex);
    agent_of(fresh->peer().kid);
    return std::make_unique<Talk>(*this, std::move(fresh));
  }

  void hear(tls::Link& from, const std::shared_ptr<tls::Link>& held, const Json& message) {
    const std::lock_guard lock(mutex);
    const std::string type = message.at("type");
    if (type == "hello") return greet(held, message);
    if (type == "heartbeat") {
      ++beats;
      if (!outer.mischief.deaf)
        from.send(Json{{"type", "heartbeat"}, {"n", message.at("n")}}.dump());
    }
    if (type == "rekey") {
      const Json& id = message.at("id");
      reports[id.is_string() ? id.get<std::string>() : id.dump()].push_back(message.at("step"));
    }
  }

  void greet(const std::shared_ptr<tls::Link>& held, const Json& hello) {
    Agent& agent = agent_of(held->peer().kid);
    if (outer.mischief.no_welcome) return held->close("go away");
    if (agent.next_auth_kid == held->peer().kid) {
      agent.auth_kid = agent.next_auth_kid;
      agent.next_auth_kid.clear();
    }
    agent.link = held;
    held->send(Json{
        {"type", "welcome"},
        {"agent", agent.id},
        {"auth_kid", outer.mischief.other_welcome ? forger.kid.text()
                                                  : hello.at("auth_kid").get<std::string>()},
        {"transport_kid", agent.transport.kid.text()},
        {"instance", "instance-1"},
        {"time", rfc3339(system_clock().now())},
        {"heartbeat_s",
         0.5}}.dump());
    for (const auto& [id, key] : orders) order(agent, id, key);
  }

  static void order(const Agent& agent, const std::string& id, const std::string& key) {
    const bool number = std::all_of(id.begin(), id.end(), ::isdigit);
    const Json sent = number ? Json(std::stoi(id)) : Json(id);
    if (agent.link) agent.link->send(Json{{"type", "rekey"}, {"id", sent}, {"key", key}}.dump());
  }
};

}  // namespace keyagent::test
