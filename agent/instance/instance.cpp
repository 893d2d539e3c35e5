// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/instance.h"

#include <signal.h>

#include <atomic>

#include "agent/base/address_principal.h"
#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/base/log_limiter.h"
#include "agent/instance/api/api.h"
#include "agent/instance/ca/named_keys.h"
#include "agent/instance/exchange/agent_key_exchange.h"
#include "agent/instance/exchange/exchange_worker.h"
#include "agent/process/service_manager.h"
#include "agent/provider/remote_backend.h"
#include "agent/store/agents.h"
#include "agent/store/links.h"

namespace keyagent::instance {
namespace {

using namespace std::chrono_literals;

constexpr auto kRenewal = 60s;  // how often certificate, CRL and what has expired are checked
constexpr std::chrono::minutes kSummary{10}, kForget{60};
constexpr auto kPoll = 10s;  // how late, at most, is what other replicas' lost notices were about

tls::ServerOptions options_of(const Endpoint& endpoint, const Limits& limits,
                              tls::ClientCertificate certificate) {
  tls::ServerOptions options;
  options.connections = static_cast<std::size_t>(limits.connections);
  options.connections_per_address = static_cast<std::size_t>(limits.connections_per_address);
  options.address = endpoint.address;
  options.port = endpoint.port;
  options.client_certificate = certificate;
  return options;
}

}  // namespace

struct Instance::Impl final : private Followers, private ExchangeSurroundings {
  const InstanceConfig config;
  const Clock& clock = system_clock();
  HostKeys keys{config};
  store::Store store{{config.store_url}};
  Recorder recorder{store, clock, config.limits.events_per_source};
  Usage usage{config.limits, store, recorder, clock};
  RateBudget handshakes{clock, hourly(config.limits.handshakes)};
  Links links{store, clock, config.heartbeat, *this};
  Authority authority{config, keys, store, recorder, clock};
  const FleetParts fleet{.keys = keys,
                         .authority = authority,
                         .store = store,
                         .links = links,
                         .recorder = recorder,
                         .clock = clock,
                         .followers = *this};
  Enrollment enrollment{config, fleet};
  Agents agents{fleet};
  Rekeys rekeys{store, links, recorder, clock};
  Tasks tasks{store, links, recorder, clock, {config.task_lease, config.task_history}};
  Users people{store, recorder, clock, {config.session_life, config.session_idle}};
  Epoch epoch{config, keys, store, recorder, clock};
  DataKeys data_keys{config};
  Specifications specifications{data_keys, store, recorder, clock};
  Records records{data_keys, store, specifications, recorder, clock, config.require_bound};
  Credentials credentials{config.id, data_keys, specifications, records, store, recorder, clock};
  Reencryption reencryption{data_keys, store, specifications, recorder, clock, links.replica()};
  std::shared_ptr<tls::Library> library = std::make_shared<tls::Library>(
      std::make_shared<provider::RemoteBackend>(config.agent_socket));
  AgentKeyExchange door{config, clock};
  HttpsLine peer_line{library};
  Exchanges exchanges{door, peer_line, store, recorder, clock, *this};
  Decisions decisions{store, recorder, clock};
  GuardedChanges changes{config.approvals,
                         {store, recorder, decisions, exchanges, enrollment, specifications,
                          credentials, agents, people}};
  const Services parts{config,   store,  authority, enrollment,     agents,  credentials,  rekeys,
                       tasks,    people, epoch,     specifications, records, reencryption, links,
                       recorder, clock,  exchanges, decisions,      changes, usage};
  std::unique_ptr<tls::Server> api_server, agents_server;
  std::atomic<SteadyTime> looked{};
  SteadyTime summarized{clock.now_steady()}, forgot{clock.now_steady()};  // of tick() alone
  LogLimiter limiter{clock};
  std::optional<ExchangeWorker> exchange_worker;

  explicit Impl(InstanceConfig config_in) : config(std::move(config_in)) {
    require_named_keys(config, keys, store);
    keys.create_missing();
    authority.bring_up();
    name_keys(config, keys, store);
    credentials.exchangeable = config.exchangeable_credentials;
    attempt("credentials", [this] { credentials.keep_up(); });
    listen();
    store.listen([this](const std::string& what) { look(what); }, kPoll);
    reencryption.run();
    exchange_worker.emplace([this] { attempt("exchanges", [this] { exchanges.work(); }); });
  }

  std::string current_epoch() override { return epoch.current(); }
  void judge_epoch(const std::string& who, const std::string& jws) override {
    epoch.judge(who, jws);
  }
  void require_accepted() override { epoch.require_accepted(); }
  void require_exchange(const std::string& specification, const std::string& person) override {
    specifications.require_exchange(specification, person);
  }
  void follow_import(const std::string& specification, const std::string& request) override {
    reencryption.follow_import(specification, "exchange " + request);
  }

  void follow_transport(const std::string& agent) override { credentials.follow(agent); }
  void end_sessions(const std::string& kid, const std::string& why) override {
    const auto with_kid = [&](const tls::Peer& peer) { return peer.kid == kid; };
    if (agents_server) agents_server->end_sessions(with_kid, why);
    look_at_certificates();  // a revocation is in the CRL of the next session
  }
  void send_assigned(const std::string& id) override {
    const auto agent = store.agents().find(id);
    if (!agent || epoch.restored()) return;
    const Json assigned = credentials.list_for(*agent);
    Json names = Json::array();
    for (const auto& each : assigned["credentials"]) names.push_back(each["name"]);
    links.send(id, {{"type", "credentials"}, {"names", names}});
  }

  // What any replica has done to an agent (empty: to all) is done here too: whatever is decided is
  // read from the store.
  void look(const std::string& what) {
    if (what == Rekeys::kNotice) return rekeys.pump();
    links.look(what);
    if (what.empty()) {
      rekeys.repeat({});
      return rekeys.pump();
    }
    const auto agent = store.agents().find(what);
    if (agent && agent->state != name_of(Trust::kTrusted))
      end_sessions(agent->auth_kid, "the agent is " + agent->state);
  }

  void listen() {
    const auto identity = authority.server_identity();
    const auto trust = authority.agents_trust();
    const auto refused = [this](const std::string& address, Code code, const std::string& text) {
      // Anyone can cause this: a line in the log within the address's budget, and nothing in the
      // store.
      if (!handshakes.take(principal_of_address(address))) return;
      log_warning("instance",
                  "refused " + address + ": " + std::string(code_name(code)) + ": " + text);
    };
    tls::Handlers for_agents;
    for_agents.request = [this](const tls::HttpRequest& request) {
      return answer_agent(parts, request);
    };
    for_agents.link = [this](std::shared_ptr<tls::Link> link, const tls::HttpRequest& request) {
      return accept_link(parts, std::move(link), request);
    };
    for_agents.refused = refused;
    agents_server = std::make_unique<tls::Server>(
        library, identity, trust,
        options_of(config.agents, config.limits, tls::ClientCertificate::kRequired), for_agents);
    enrollment.set_agents_port(agents_server->port());
    tls::Handlers for_people;
    for_people.request = [this](const tls::HttpRequest& request) {
      return answer_people(parts, request);
    };
    for_people.refused = refused;
    api_server = std::make_unique<tls::Server>(
        library, identity, trust,
        options_of(config.api, config.limits, tls::ClientCertificate::kOptional), for_people);
    looked = clock.now_steady();
  }

  void look_at_certificates() {
    const auto identity = authority.server_identity();
    const auto trust = authority.agents_trust();
    if (agents_server) agents_server->use(identity, trust);
    if (api_server) api_server->use(identity, trust);
    looked = clock.now_steady();
  }

  // What fails is tried again; the others continue, and the log is not filled with it.
  template <class Work>
  void attempt(const char* what, Work work) {
    try {
      work();
    } catch (const std::exception& error) {
      if (limiter.admit(what)) log_error("instance", std::string(what) + ": " + error.what());
    }
  }

  // Logs events that the budgets suppressed, once, with their number.
  void summarize() {
    summarized = clock.now_steady();
    attempt("events", [this] { recorder.summarize(); });
    for (const auto& each : handshakes.take_refusals())
      log_warning("instance", "refused " + each.principal + ": " + std::to_string(each.count) +
                                  " more failed handshakes");
  }

  void tick() {
    if (clock.now_steady() - summarized > kSummary) summarize();
    attempt("rekeys", [this] { rekeys.pump(); });
    attempt("tasks", [this] { tasks.tick(); });
    if (clock.now_steady() - looked.load() <= kRenewal) return;
    looked = clock.now_steady();
    attempt("certificates", [this] { look_at_certificates(); });
    attempt("keys", [this] { name_keys(config, keys, store); });
    attempt("credentials", [this] { credentials.keep_up(); });
    attempt("census", [this] { specifications.report_all(); });
    attempt("decisions", [this] { decisions.tick(); });
    attempt("logins", [this] { people.summarize_failures(); });
    attempt("store", [this] { store.forget_expired(clock.now()); });
    attempt("limits", [this] { usage.check(); });
    if (clock.now_steady() - forgot <= kForget) return;
    forgot = clock.now_steady();
    attempt("history", [this] { usage.forget(); });
  }

  std::string status_line() const {
    return "instance " + config.id + ": people on port " + std::to_string(api_server->port()) +
           ", agents on " + std::to_string(agents_server->port()) + ", fingerprint " +
           authority.fingerprint();
  }

  // Links hold references to the parts.
  ~Impl() override {
    exchange_worker.reset();
    reencryption.stop();
    summarize();
    store.stop_listening();
    api_server.reset();
    agents_server.reset();
  }
};

Instance::Instance(InstanceConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Instance::~Instance() = default;

std::uint16_t Instance::api_port() const {
  return impl_->api_server->port();
}

std::uint16_t Instance::agents_port() const {
  return impl_->agents_server->port();
}

int Instance::run() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) ::sigaddset(&signals, signal);
  process::notify_ready(impl_->status_line());
  log_info("instance", impl_->status_line());
  const timespec second{1, 0};
  while (::sigtimedwait(&signals, nullptr, &second) < 0) {
    impl_->tick();
    process::notify_alive();
  }
  process::notify_stopping();
  log_info("instance", "stopping");
  return 0;
}

}  // namespace keyagent::instance
