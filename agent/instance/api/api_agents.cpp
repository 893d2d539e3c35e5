// SPDX-License-Identifier: Apache-2.0
// The requests and the live link of agents.

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/instance/api/api_routes.h"
#include "agent/instance/api/bounds.h"
#include "agent/instance/api/paths.h"

namespace keyagent::instance {
namespace {

using Ask = AgentAsk;
using Route = AgentRoute;

const Route kRoutes[] = {
    {"POST", "/v1/transport",
     [](const Ask& ask) { return ask.parts.agents.begin_rotation(ask.agent, ask.body); }},
    {"POST", "/v1/transport/{}/proof",
     [](const Ask& ask) {
       return ask.parts.agents.prove_rotation(ask.agent, ask.ids[0], ask.body);
     }},
    {"POST", "/v1/transport/{}/switch",
     [](const Ask& ask) { return ask.parts.agents.switch_rotation(ask.agent, ask.ids[0]); }},
    {"POST", "/v1/certificates",
     [](const Ask& ask) { return ask.parts.agents.renew(ask.agent, ask.body); }},
    {"GET", "/v1/credentials",
     [](const Ask& ask) { return ask.parts.credentials.list_for(ask.agent); }},
    {"GET", "/v1/credentials/{}",
     [](const Ask& ask) {
       const auto kid = ask.request.query.find("kid");
       return ask.parts.credentials.fetch(
           ask.agent, ask.ids[0],
           kid == ask.request.query.end() ? ask.agent.transport_kid : kid->second);
     }},
};

// Of "192.0.2.1:4711".
std::string host_of(const std::string& address) {
  return address.substr(0, address.rfind(':'));
}

// One agent's WebSocket: API.md, GET /v1/link.
class AgentLink final : public tls::LinkHandler {
 public:
  AgentLink(const Services& parts, std::shared_ptr<tls::Link> link, store::Agent agent)
      : parts_(parts),
        link_(std::move(link)),
        agent_(std::move(agent)),
        ungreeted_(parts.links.await_hello(link_->peer().kid)) {}

  void on_message(std::string text) override {
    bool comes_again = false;
    try {
      const Json message = parse_object(text);
      require_bounds_of_message(message);
      const auto type = text_of(message, "type");
      if (type == "hello") return greet(message);
      if (!greeted_) throw Error(Code::kUsage, "the first message must be hello");
      comes_again = type == "heartbeat";
      if (comes_again) return beat(message);
      if (type == "rekey") return parts_.rekeys.report(agent_.id, message);
      if (type == "event") return note(message);
      throw Error(Code::kUsage, "unknown message '" + type + "'");
    } catch (const Error& error) {
      log_warning("instance", "link of " + agent_.id + ": " + error.what());
      // Reports and events that the store did not take would be lost: on its next link the agent
      // gets its orders again, and repeats what was not acknowledged. Without its welcome it would
      // wait in vain.
      if (!retryable(error.code()) || !comes_again) link_->close(error.what());
    }
  }

  void on_end(const std::string& why) override {
    parts_.links.leave(agent_.id, link_.get());
    if (greeted_) log_info("instance", "agent " + agent_.id + " closed: " + why);
  }

 private:
  // Checks what the agent has stored about this instance; missing members change nothing.
  void compare(const Json& message) {
    if (const auto jws = text_of(message, "epoch", ""); !jws.empty())
      parts_.epoch.judge(agent_.id, jws);
    const auto transport = message.find("transport");
    if (transport != message.end() && transport->is_object())
      agent_ = parts_.agents.catch_up(agent_, *transport);
  }

  void greet(const Json& message) {
    // Trust may have been revoked since the connection opened: until the link is registered it is
    // checked here, afterwards by look().
    agent_ = parts_.agents.identify(link_->peer());
    compare(message);
    Json welcome{{"type", "welcome"},
                 {"agent", agent_.id},
                 {"auth_kid", link_->peer().kid},
                 {"transport_kid", agent_.transport_kid},
                 {"instance", parts_.config.id},
                 {"time", rfc3339(parts_.clock.now())},
                 {"heartbeat_s", parts_.config.heartbeat.count() / 1000}};
    welcome["audit"] = parts_.agents.keep_checkpoint(agent_, Json());
    const auto session = parts_.agents.continue_session(agent_, message, link_->peer().address);
    if (!session.empty()) welcome["session"] = session;
    const auto age =
        std::chrono::duration_cast<std::chrono::seconds>(parts_.config.credential_max_age);
    if (age.count() > 0) welcome["credential_max_age_s"] = age.count();
    told_ = parts_.epoch.current();
    if (!told_.empty()) welcome["epoch"] = told_;
    const auto before = parts_.links.enter(agent_.id, link_, welcome);
    const auto& here = link_->peer().address;
    if (before && host_of(before->address) != host_of(here))
      parts_.recorder.record(Outcome::kAlarm, "agent " + agent_.id, "connect", agent_.id,
                             "from " + here + " replacing the link from " + before->address);
    parts_.links.look(agent_.id);
    greeted_ = true;
    ungreeted_.reset();
    parts_.recorder.record_repeatable(Outcome::kDone, "agent " + agent_.id, "connect", agent_.id,
                                      here + ", " + link_->peer().tls_version + " with " +
                                          link_->peer().group + ", certificate " +
                                          link_->peer().serial + ", version " +
                                          text_of(message, "version", "").substr(0, 63));
    parts_.rekeys.repeat(agent_.id);
    parts_.rekeys.pump();
    if (!parts_.epoch.restored()) parts_.tasks.greet(agent_);
  }

  void beat(const Json& message) {
    if (!parts_.links.beat(agent_.id, link_.get())) return;
    Json answer{{"type", "heartbeat"}, {"n", number_of(message, "n", 0, 0, INT64_MAX)}};
    if (const auto now = parts_.epoch.current(); now != told_) answer["epoch"] = told_ = now;
    if (const auto audit = message.find("audit"); audit != message.end())
      answer["audit"] = parts_.agents.keep_checkpoint(agent_, *audit);
    link_->send(answer.dump());
  }

  void note(const Json& message) {
    const auto outcome = text_of(message, "outcome", "");
    parts_.recorder.record_repeatable(outcome == "alarm"     ? Outcome::kAlarm
                                      : outcome == "failed"  ? Outcome::kFailed
                                      : outcome == "refused" ? Outcome::kRefused
                                                             : Outcome::kDone,
                                      "agent " + agent_.id,
                                      text_of(message, "action").substr(0, 64),
                                      text_of(message, "subject", "").substr(0, 128),
                                      text_of(message, "text", "").substr(0, 500));
  }

  const Services& parts_;
  const std::shared_ptr<tls::Link> link_;
  store::Agent agent_;
  std::shared_ptr<void> ungreeted_;  // its place until hello
  std::string told_;                 // the epoch
  bool greeted_ = false;
};

}  // namespace

tls::HttpResponse answer_agent(const Services& parts, const tls::HttpRequest& request) {
  tls::HttpResponse response;
  if (request.method == "GET" && request.path == "/v1/crl") {
    response.body = parts.authority.crl_pem();
    response.type = "application/x-pem-file";
    return response;
  }
  for (const auto routes : {std::span<const Route>(kRoutes), task_routes_of_agents()}) {
    for (const auto& route : routes) {
      auto ids = match_path(route.pattern, request.path);
      if (!ids || request.method != route.method) continue;
      const Ask ask{parts, request, std::move(*ids), parts.agents.identify(request.peer),
                    request.body.empty() ? Json::object() : parse_object(request.body)};
      require_bounds(ask.body);
      parts.epoch.require_accepted();
      response.body = route.run(ask).dump();
      return response;
    }
  }
  throw Error(Code::kUsage, no_such_path(request.method, request.path));
}

std::unique_ptr<tls::LinkHandler> accept_link(const Services& parts,
                                              std::shared_ptr<tls::Link> link,
                                              const tls::HttpRequest& request) {
  if (request.path != "/v1/link")
    throw Error(Code::kUsage, no_such_path(request.method, request.path));
  auto agent = parts.agents.identify(link->peer());
  return std::make_unique<AgentLink>(parts, std::move(link), std::move(agent));
}

}  // namespace keyagent::instance
