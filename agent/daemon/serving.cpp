// SPDX-License-Identifier: Apache-2.0
// Authentication of callers, and the policy.

#include <utility>

#include "agent/base/error.h"
#include "agent/base/log.h"
#include "agent/daemon/daemon_impl.h"
#include "agent/daemon/options.h"
#include "agent/daemon/socket_folder.h"
#include "agent/process/service_manager.h"
#include "agent/wire/messages.h"

namespace keyagent::daemon {
namespace {

// Threads beyond those that may be inside the token: one always reads, refuses and reports.
constexpr unsigned kSpareThreads = 2;

class NetReply final : public gate::Reply {
 public:
  explicit NetReply(net::Responder responder) : responder_(std::move(responder)) {}
  bool answer(const wire::Response& response) override {
    return responder_.answer(wire::serialize(response));
  }
  void answer_at(SteadyTime when, const wire::Response& response) override {
    responder_.answer_at(when, wire::serialize(response));
  }

 private:
  const net::Responder responder_;
};

}  // namespace

class Daemon::Impl::AroundTheGate final : public gate::Surroundings {
 public:
  explicit AroundTheGate(Impl& all) : all_(all) {}
  std::shared_ptr<const policy::Policy> policy() override { return all_.current_policy(); }
  keys::Periods periods() override { return all_.rekeys.periods(); }
  gate::IssuingRules issuing() override { return all_.issuing.get(); }
  std::string use_only() override { return all_.use_only(); }
  std::vector<audit::Anchor> audit_anchors() override { return all_.history.anchors(); }
  void wake_rekeys() override { all_.rekeys.wake(); }
  void complete(wire::StatusReply& reply) override { all_.complete(reply); }
  std::vector<wire::Diagnosis> diagnose() override { return all_.diagnose(); }
  // An admin who reloads accepts the audit log as it is now.
  std::string reload() override {
    const auto accepted = all_.history.accept();
    if (!accepted.empty()) all_.chronicle.daemon("audit.accept", accepted);
    return all_.reload() + (accepted.empty() ? "" : "; " + accepted);
  }

 private:
  Impl& all_;
};

// Gate::handle, for those that are made before the gate.
sshagent::SshAgent::Ask Daemon::Impl::asker() {
  return [this](const auto& principal, wire::Request request, std::shared_ptr<gate::Reply> reply) {
    gate->handle(principal, std::move(request), std::move(reply));
  };
}

void Daemon::Impl::load_policy() {
  auto fresh = policy::load_policy(config.policy.string());
  const MutexLock guard(policy_mutex);
  policy = std::move(fresh);
  policy_loaded = system_clock().now();
}

std::shared_ptr<const policy::Policy> Daemon::Impl::current_policy() {
  const MutexLock guard(policy_mutex);
  return policy;
}

void Daemon::Impl::open_gate() {
  auto listener = process::activated_socket();
  if (!listener) {
    make_socket_folder(config.socket);
    listener = net::listen_unix(config.socket, config.socket_mode, config.socket_group);
  }
  const gate::GateOptions options = gate_options(config);
  const auto threads =
      static_cast<unsigned>(options.token_operations) + kSpareThreads + LinkService::kThreads;
  // The server's threads may call the gate before `gate` is set: they wait for it.
  MutexLock ready(gate_mutex);
  server = std::make_unique<net::UnixServer>(
      std::move(*listener), threads, limits_of(config),
      [this](const policy::Principal& peer, ByteView frame, net::Responder responder) {
        receive(peer, frame, std::move(responder));
      },
      net::protocol_farewell, wire::may_fail_on_a_beat);
  around = std::make_unique<AroundTheGate>(*this);
  gate = std::make_unique<gate::Gate>(
      options,
      gate::Services{.keys = keys,
                     .rekeys = rekeys.runner(),
                     .vault = vault,
                     .audit = audit,
                     .clock = system_clock(),
                     .audit_folder = config.audit_folder,
                     .around = *around,
                     .link = link},
      [this](SteadyTime when, std::function<void()> task) { server->at(when, std::move(task)); });
  gate_ready = true;
  ready.unlock();
  gate_opened.notify_all();
  if (config.ssh) open_ssh(threads);
}

void Daemon::Impl::open_ssh(unsigned threads) {
  make_socket_folder(config.ssh->path);
  ssh = std::make_unique<SshFace>(*config.ssh, threads, limits_of(config), asker(),
                                  [this](const policy::Principal& who, audit::Event event) {
                                    if (event.outcome == "ok")
                                      return audit.record_now(std::move(event));
                                    gate->record_refusal(who, std::move(event));
                                  });
  log_info("daemon", "serving ssh at " + config.ssh->path.string());
}

void Daemon::Impl::receive(const policy::Principal& peer, ByteView frame,
                           net::Responder responder) {
  if (!gate_ready.load(std::memory_order_acquire)) {
    const MutexLock ready(gate_mutex);
    gate_opened.wait(gate_mutex, [this] { return gate_ready.load(); });
  }
  wire::Request request;
  if (!wire::parse(frame, request))
    throw net::ProtocolViolation("a frame that holds no request of this protocol");
  gate->handle(peer, std::move(request), std::make_shared<NetReply>(std::move(responder)));
}

// Applies the new policy and limits; other changes of the file need a restart and are reported. An
// invalid file changes nothing.
std::string Daemon::Impl::reload() {
  const auto fresh = config::load_config(config.source);
  load_policy();
  server->set_limits(limits_of(fresh));
  if (ssh) ssh->set_limits(limits_of(fresh));
  gate->forgive(fresh.failures_per_key_per_day);
  const auto budgets = gate_options(fresh);
  gate->set_budgets(budgets.refusals, budgets.proofs_per_minute);
  keys.set_history_rows(fresh.ledger_history);
  max_connections = fresh.connections;
  max_unfinished = fresh.unfinished_bytes_per_uid;
  max_history = fresh.ledger_history;
  rekeys.reload(fresh.rekey);
  issuing.set(fresh.issuing);
  const bool restart = fresh.token_uri != config.token_uri || fresh.socket != config.socket ||
                       fresh.ssh != config.ssh || fresh.state_folder != config.state_folder;
  const std::string text =
      std::string("reloaded policy, limits and cryptoperiods") +
      (restart ? "; token, sockets and state folder change at the next start" : "");
  chronicle.daemon("config.reload", text);
  log_info("daemon", "reloaded: " + text);
  return text;
}

void Daemon::Impl::reload_quietly() {
  process::notify_reloading();
  try {
    reload();
  } catch (const Error& error) {
    log_error("daemon",
              std::string("not reloaded, the previous policy stays in effect: ") + error.what());
  }
  process::notify_ready(status_line());
}

}  // namespace keyagent::daemon
